-- oom: allowed
-- A session is gone for good. KEYS: 1 sessions, 2 who they are, 3 dead. ARGV: 1 session
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
return 1
