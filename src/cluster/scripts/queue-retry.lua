#!lua flags=allow-oom
-- KEYS[1] stream; ARGV: consumer, entry, takeover ms, first pause ms, jitter (0 to 1) -> pause in ms
-- The entry is given back by setting its idle time so that it counts as abandoned when the pause ends: the pause is kept
-- by Redis and outlives the consumer. It doubles with each delivery, up to the takeover time.
local consumer, entry, takeover, first = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local pending = redis.call('XPENDING', KEYS[1], 'r', entry, entry, 1)
if not pending[1] then return 0 end
local deliveries = math.min(pending[1][4], 32)
local pause = math.min(takeover, first * 2 ^ (deliveries - 1))
pause = math.floor(pause * (0.5 + tonumber(ARGV[5]) / 2))
redis.call('XCLAIM', KEYS[1], 'r', consumer, 0, entry, 'IDLE', takeover - pause, 'JUSTID')
return pause
