#!lua flags=allow-oom
-- KEYS[1] stream; ARGV: entries. Deleted too, so that the stream's length is the work that is left.
redis.call('XACK', KEYS[1], 'r', unpack(ARGV))
return redis.call('XDEL', KEYS[1], unpack(ARGV))
