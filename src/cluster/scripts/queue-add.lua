-- KEYS[1] stream; ARGV: tasks. All or none are added: a script is not interrupted, and out of memory shows at its start.
for i = 1, #ARGV do redis.call('XADD', KEYS[1], '*', 't', ARGV[i]) end
return #ARGV
