-- A directory whose name is here and whose inode is still to be made in its own partition (births.ts). With lib/locks.lua.
-- The field b<ino> of the locks holds what makes it: {session, record, default ACL, access ACL}.
-- Of those that are known to be made already only the mark is left.
local isborn = {}
-- The reply for who would take the name away: first it has to be born. 14, ino, what makes it
local function unborn(ino)
  local birth = not isborn[ino] and redis.call('HGET', KEYS[2], 'b' .. ino)
  if birth then return {14, tonumber(ino), birth} end
end
