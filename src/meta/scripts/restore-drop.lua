-- oom: allowed
-- The name is free again. KEYS: 1 settings, 2 mark. ARGV: 1 the mark. 1, or 0: it is another's
local mark = redis.call('GET', KEYS[2])
-- No mark and no settings: our own, whose reply was lost on the way.
if redis.call('EXISTS', KEYS[1]) == 1 or mark and mark ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[2])
return 1
