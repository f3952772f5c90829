-- include: inode locks freeze counts mutate filelocks grants
-- oom: allowed
-- What a session holds and waits for is gone, on one inode at least. KEYS: 9 file locks. ARGV: 7 session, then inos.
-- 0, on how many of them
local known = before()
if known then return known end
local session = tonumber(ARGV[7])
local function others(list)
  local left = {}
  for _, lock in ipairs(list) do
    if lock[SESSION] ~= session then left[#left + 1] = lock end
  end
  return left
end
local at, seen = 8, 0
repeat
  local held, queue = loadlocks(ARGV[at])
  seen = seen + #held + #queue
  held, queue = grantall(ARGV[at], others(held), others(queue))
  savelocks(ARGV[at], held, queue)
  at = at + 1
until at > #ARGV or seen > LOOKED_AT_MAX
return after({0, at - 8})
