-- The first lock that keeps one from being granted. KEYS: 1 file locks.
-- ARGV: 1 ino, 2 kind, 3 type, 4 start, 5 end, 6 session, 7 owner. {} | {type, start, end, session, pid}
local rec = redis.call('HGET', KEYS[1], ARGV[1])
if not rec then return {} end
local first
for _, h in ipairs(cmsgpack.unpack(rec)[1]) do
  if h[1] == ARGV[2] and (h[2] == 'w' or ARGV[3] == 'w') and h[3] < ARGV[5] and ARGV[4] < h[4]
    and not (h[5] == tonumber(ARGV[6]) and h[6] == ARGV[7]) and (not first or h[3] < first[3]) then
    first = h
  end
end
return first and {first[2], first[3], first[4], first[5], first[7]} or {}
