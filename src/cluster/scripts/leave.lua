-- ARGV: id, incarnation -> 1 if this incarnation was a member that had not left yet, else 0
local member = read_member(ARGV[1])
if not member or member.incarnation ~= ARGV[2] or member.left == ARGV[2] then return 0 end
member.left = ARGV[2]
-- What an operator has said holds when the node is stopped and started: it gets no place on the ring by that.
if member.state ~= 'gone' and member.state ~= 'draining' then member.state = 'down' end
write_member(ARGV[1], member)
raise_epoch()
return 1
