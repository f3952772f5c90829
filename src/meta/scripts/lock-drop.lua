-- include: inode locks freeze mutate filelocks
-- oom: allowed
-- What a session holds and waits for is gone. KEYS: 9 file locks. ARGV: 7 session, then inos. 0
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
for at = 8, #ARGV do
  local held, queue = loadlocks(ARGV[at])
  held, queue = grantall(ARGV[at], others(held), others(queue))
  savelocks(ARGV[at], held, queue)
end
return after({0})
