-- oom: allowed
-- What a restore has written into a partition goes, of which only the fence stays: whoever claimed before writes nothing any more.
-- KEYS: 1 counters. ARGV: 1 the fence, 2 slot, 3 how many keys to look at, at least one.
-- -1: it is another's, 0: nothing is left, else how many to look at next
if redis.call('HGET', KEYS[1], 'restore') ~= ARGV[1] then return -1 end
local asked = tonumber(ARGV[3])
local tag = string.match(KEYS[1], '^{[^}]*}')
-- Tags that look like ours are those of another volume: its name ends as our tag does.
local function isours(key)
  if string.sub(key, 1, #tag) ~= tag or key == KEYS[1] then return false end
  return not string.find(key, '^:[mc]:', #tag + 1)
end
local found = redis.call('CLUSTER', 'GETKEYSINSLOT', ARGV[2], asked)
local gone = 0
for _, key in ipairs(found) do
  if isours(key) then gone = gone + redis.call('UNLINK', key) end
end
if #found == asked then
  -- Only others' are among the first: they are looked past.
  return gone > 0 and asked or asked * 2
end
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if field ~= 'restore' then redis.call('HDEL', KEYS[1], field) end
end
return 0
