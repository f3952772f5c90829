-- KEYS[1] stream, KEYS[2] members; ARGV: node id, tasks… All or none are added: a script is not interrupted, and out of memory shows
-- at its start. -> how many were added: none for a node that is gone, whose queue was dropped and whom nobody will work for.
local member = redis.call('HGET', KEYS[2], ARGV[1])
if member and cjson.decode(member).state == 'gone' then return 0 end
for i = 2, #ARGV do redis.call('XADD', KEYS[1], '*', 't', ARGV[i]) end
return #ARGV - 1
