#!lua flags=allow-oom
-- KEYS[1] stream -> {id of the newest entry ever, id of the newest one that was handed out}; '0-0': none
if redis.call('EXISTS', KEYS[1]) == 0 then return {'0-0', '0-0'} end
local function field(list, name)
  for i = 1, #list, 2 do if list[i] == name then return list[i + 1] end end
  return '0-0'
end
local newest = field(redis.call('XINFO', 'STREAM', KEYS[1]), 'last-generated-id')
local group = redis.call('XINFO', 'GROUPS', KEYS[1])[1]
return {newest, group and field(group, 'last-delivered-id') or '0-0'}
