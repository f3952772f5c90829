-- One page of the inodes on which a session holds or awaits locks. KEYS: 1 file locks. ARGV: 1 session, 2 cursor.
-- next cursor, {ino, …}
local session, SESSION = tonumber(ARGV[1]), 5
local function has(list)
  for _, lock in ipairs(list) do
    if lock[SESSION] == session then return true end
  end
end
local page = redis.call('HSCAN', KEYS[1], ARGV[2], 'COUNT', 8)
local inos = {}
for i = 1, #page[2], 2 do
  local state = cmsgpack.unpack(page[2][i + 1])
  if has(state[1]) or has(state[2]) then inos[#inos + 1] = page[2][i] end
end
return {page[1], inos}
