-- oom: allowed
-- Redis's time. KEYS: 1 any. ms since 1970
local t = redis.call('TIME')
return math.floor(t[1] * 1000 + t[2] / 1000)
