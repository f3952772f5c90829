-- The chunks of these entries are deleted. An entry that is not the first any more was taken by another janitor.
-- KEYS: 1 garbage. ARGV: the entries, in order
local count = 0
for _, e in ipairs(ARGV) do
  if redis.call('LINDEX', KEYS[1], 0) ~= e then break end
  redis.call('LPOP', KEYS[1])
  count = count + 1
end
return count
