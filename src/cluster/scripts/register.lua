-- ARGV: id, incarnation, address, zone, weight, pid, total, free, chunks
-- -> {'ok'} | {'left'} | {'claimed', address, pid, beat (ms), suspectMs}
-- Whoever is silent for longer than suspectMs, or has left, no longer holds the identity.
local id, incarnation = ARGV[1], ARGV[2]
local now = now_ms()
local old = read_member(id)
if old and old.left == incarnation then return {'left'} end
if old and old.incarnation ~= incarnation and old.state ~= 'down' and old.state ~= 'gone' and old.left ~= old.incarnation
  and silence_ms(id, now) <= suspect_ms() then
  return {'claimed', old.address, old.pid, beat_ms(id), suspect_ms()}
end
write_beat(id, now, ARGV[7], ARGV[8], ARGV[9])
if old and old.incarnation == incarnation and old.state ~= 'gone' then return {'ok'} end
-- Who was away for a moment keeps its place until it beats: the ring would be another one for as long as nobody looks. It is not down any
-- more, though: another process with the same identity would take that for leave to take over.
local state = 'joining'
if old and old.state == 'draining' then state = 'draining'
elseif old and on_ring(old) then state = 'suspect' end
write_member(id, {
  address = ARGV[3],
  zone = ARGV[4],
  weight = ARGV[5],
  pid = ARGV[6],
  incarnation = incarnation,
  state = state,
  left = '',
  out = '',
})
raise_epoch()
return {'ok'}
