-- include: inode locks freeze counts mutate unborn parts
-- oom: allowed
-- Checks the parts of a transaction in this partition and locks them. KEYS: 9… names of each part
-- ARGV: 7 tx, 8 commit partition, 9… parts. 0
local known = before()
if known then return known end
local tx, parts = ARGV[7], readparts(9)
for k, part in ipairs(parts) do
  local no = checkpart(part, KEYS[8 + k])
  if no then return no end
end
local others = recall()
if others then return others end
for _, part in ipairs(parts) do redis.call('HSET', KEYS[2], fieldof(part), tx) end
redis.call('HSET', KEYS[2], 't' .. tx, cmsgpack.pack({tonumber(ARGV[8]), nowms(), sec, nsec, parts}))
return after({0})
