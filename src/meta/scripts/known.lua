-- oom: allowed
-- Which replies of a session this server lacks (tails.ts). KEYS: 1 replies of the session. ARGV: pairs of a sequence and of that of the change
-- under way that may have it forgotten, or 0: then its own reply counts.
-- how often replies of contents were missing that were to be forgotten, and of the rest (lib/mutate.lua), sequences that are missing
local m = redis.call('HMGET', KEYS[1], 'd', 'l', 'o')
-- The session is over: what was here when somebody cleaned up after it (reap.lua). A mark of a version before this one does not say.
local marked
if m[1] then
  local contents, others, list = string.match(m[1], '^(%d+) (%d+)(.*)$')
  if not contents then return {0, 0} end
  m[2], m[3], marked = contents, others, {}
  for sequence in string.gmatch(list, '%S+') do marked[sequence] = true end
end
local reply = {tonumber(m[2] or '0'), tonumber(m[3] or '0')}
if #ARGV == 0 then return reply end
local found = {}
if marked then
  for at = 1, #ARGV do found[at] = marked[ARGV[at]] end
else
  found = redis.call('HMGET', KEYS[1], unpack(ARGV))
end
for at = 1, #ARGV, 2 do
  if not found[at] and not found[at + 1] then reply[#reply + 1] = tonumber(ARGV[at]) end
end
return reply
