-- include: inode locks freeze counts mutate history newinode
-- Numbers for directories that this session is going to make: each is used once or lost. KEYS: 9 reserved numbers
-- ARGV: 7 how many, 8 partitions, 9 home, 10 one server. 0, the first (the next ones are `partitions` apart)
local known = before()
if known then return known end
local count, partitions = tonumber(ARGV[7]), tonumber(ARGV[8])
local first = newnumbers(count, partitions, tonumber(ARGV[9]), ARGV[10])
for i = 0, count - 1 do redis.call('HSET', KEYS[9], first + i * partitions, ARGV[1]) end
return after({0, first})
