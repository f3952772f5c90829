-- ARGV: id, new state, states from which it may change… -> {1 or 0, the state afterwards ('' for no such node)}
local member = read_member(ARGV[1])
if not member then return {0, ''} end
if member.state == ARGV[2] then return {1, member.state} end
for i = 3, #ARGV do
  if member.state == ARGV[i] then
    member.state = ARGV[2]
    member.out = ''
    write_member(ARGV[1], member)
    raise_epoch()
    return {1, member.state}
  end
end
return {0, member.state}
