#!lua flags=allow-oom
-- KEYS[1] stream; ARGV: idle ms. Forgets consumers that have been away so long and have nothing pending any more.
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.pcall('XGROUP', 'CREATE', KEYS[1], 'r', '0', 'MKSTREAM')
local pruned = 0
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], 'r')) do
  local fields = {}
  for i = 1, #consumer, 2 do fields[consumer[i]] = consumer[i + 1] end
  if fields.pending == 0 and fields.idle > tonumber(ARGV[1]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], 'r', fields.name)
    pruned = pruned + 1
  end
end
return pruned
