-- oom: allowed
-- Whether this server knows of changes of a session that were judged. KEYS: 1 replies of the session. ARGV: sequences. 1 | 0
-- A reply leaves the table only when a later change raised the mark above it (lib/mutate.lua).
local m = redis.call('HMGET', KEYS[1], 'w', 'd', unpack(ARGV))
if m[2] then return 1 end
local mark = tonumber(m[1]) or 0
for i = 1, #ARGV do
  if not m[i + 2] and tonumber(ARGV[i]) >= mark then return 0 end
end
return 1
