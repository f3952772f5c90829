-- include: inode locks freeze counts mutate
-- oom: allowed
-- What a session owes for files that it opened by a delegation: it becomes their opener. Then the delegation ends, if it is
-- not newer than the token. ARGV: 7 token (0: none ends), 8… inos. 0
-- A freeze does not keep it: a delegation may be over before the thaw, and whoever takes the last name away then must find the opener.
passesfreeze = true
local known = before()
if known then return known end
for at = 8, #ARGV do
  if redis.call('HEXISTS', KEYS[1], ARGV[at]) == 1 then addopener(tonumber(ARGV[at])) end
end
if ARGV[7] ~= '0' then
  undelegate(tonumber(ARGV[1]), tonumber(ARGV[7]))
  emit(11, 0)
end
return after({0})
