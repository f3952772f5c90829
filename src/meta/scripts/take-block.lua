-- include: history
-- oom: allowed
-- A block of chunk ids, and whose it is (blocks.ts). KEYS: 1 counters, 2 blocks. ARGV: 1 session, 2 '1': there is one server, and never another.
-- The block
if ARGV[2] ~= '1' and newhistory(KEYS[1]) then
  redis.call('HINCRBY', KEYS[1], 'chunkBlock', 1024)
  redis.call('HINCRBY', KEYS[1], 'session', 4096)
end
local block = redis.call('HINCRBY', KEYS[1], 'chunkBlock', 1)
redis.call('HSET', KEYS[2], block, ARGV[1])
return block
