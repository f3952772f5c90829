-- oom: allowed
-- Which replies of a session this server lacks (tails.ts). KEYS: 1 replies of the session. ARGV: pairs of a sequence and of that of the change
-- under way that may have it forgotten, or 0: then its own reply counts.
-- how often replies of contents were missing that were to be forgotten, and of the rest (lib/mutate.lua), sequences that are missing
local m = redis.call('HMGET', KEYS[1], 'd', 'l', 'o')
-- The session is over: nobody fsyncs in it.
if m[1] then return {0, 0} end
local reply = {tonumber(m[2] or '0'), tonumber(m[3] or '0')}
if #ARGV == 0 then return reply end
local found = redis.call('HMGET', KEYS[1], unpack(ARGV))
for at = 1, #ARGV, 2 do
  if not found[at] and not found[at + 1] then reply[#reply + 1] = tonumber(ARGV[at]) end
end
return reply
