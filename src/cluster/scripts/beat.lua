-- ARGV: id, incarnation, total, free, chunks, report ('': as it was)
-- -> {'ok', state, Redis time (ms)} | {'unknown'} | {'superseded', address, pid} | {'left'} | {'gone'}
local id, incarnation = ARGV[1], ARGV[2]
local member = read_member(id)
if not member then return {'unknown'} end
if member.incarnation ~= incarnation then return {'superseded', member.address, member.pid} end
-- A repeated heartbeat that arrives late must not bring back who has left.
if member.left == incarnation then return {'left'} end
if member.state == 'gone' then return {'gone'} end
local now = now_ms()
write_beat(id, now, ARGV[3], ARGV[4], ARGV[5])
write_report(id, ARGV[6])
if member.state == 'joining' or member.state == 'suspect' or member.state == 'down' then
  member.state = 'up'
  member.out = ''
  write_member(id, member)
  raise_epoch()
end
return {'ok', member.state, now}
