-- What was restored becomes a volume. KEYS: 1 settings, 2 mark. ARGV: 1 settings, 2 the mark. 1, or 0: it is another's
local known = redis.call('GET', KEYS[1])
-- The same text, and the mark gone: our own, whose reply was lost on the way.
if known then return known == ARGV[1] and 1 or 0 end
if redis.call('GET', KEYS[2]) ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[1], ARGV[1])
redis.call('DEL', KEYS[2])
return 1
