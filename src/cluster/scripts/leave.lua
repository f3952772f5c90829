-- ARGV: id, incarnation -> 1 if this incarnation was a member that had not left yet, else 0
local member = read_member(ARGV[1])
if not member or member.incarnation ~= ARGV[2] or member.left == ARGV[2] then return 0 end
member.left = ARGV[2]
if member.state ~= 'gone' then member.state = 'down' end
write_member(ARGV[1], member)
raise_epoch()
return 1
