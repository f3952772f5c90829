#!lua flags=allow-oom
-- KEYS[1] stream; ARGV: consumer, idle ms after which a delivery counts as abandoned -> how many entries
-- What others have in work counts as abandoned from now on, so that queue-take.lua hands it out.
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.pcall('XGROUP', 'CREATE', KEYS[1], 'r', '0', 'MKSTREAM')
local inherited = 0
-- As many as a walk of the healer lets stand in a queue, at most: the rest comes after the idle time.
for _, entry in ipairs(redis.call('XPENDING', KEYS[1], 'r', '-', '+', 4000)) do
  if entry[2] ~= ARGV[1] then
    redis.call('XCLAIM', KEYS[1], 'r', ARGV[1], 0, entry[1], 'IDLE', ARGV[2], 'JUSTID')
    inherited = inherited + 1
  end
end
return inherited
