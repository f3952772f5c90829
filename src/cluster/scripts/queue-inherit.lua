#!lua flags=allow-oom
-- KEYS[1] stream; ARGV: consumer, idle ms after which a delivery counts as abandoned, entry behind which to look ('-': from the first) ->
-- {how many entries, entry behind which to go on; '': there are no more}
-- What others have in work counts as abandoned from now on, so that queue-take.lua hands it out.
local PAGE = 500
if redis.call('EXISTS', KEYS[1]) == 0 then return {0, ''} end
redis.pcall('XGROUP', 'CREATE', KEYS[1], 'r', '0', 'MKSTREAM')
local inherited = 0
local pending = redis.call('XPENDING', KEYS[1], 'r', ARGV[3], '+', PAGE)
for _, entry in ipairs(pending) do
  if entry[2] ~= ARGV[1] then
    redis.call('XCLAIM', KEYS[1], 'r', ARGV[1], 0, entry[1], 'IDLE', ARGV[2], 'JUSTID')
    inherited = inherited + 1
  end
end
return {inherited, #pending == PAGE and '(' .. pending[PAGE][1] or ''}
