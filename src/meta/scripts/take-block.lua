-- A block of chunk ids, and whose it is (blocks.ts). KEYS: 1 counters, 2 blocks. ARGV: 1 session. The block
local block = redis.call('HINCRBY', KEYS[1], 'chunkBlock', 1)
redis.call('HSET', KEYS[2], block, ARGV[1])
return block
