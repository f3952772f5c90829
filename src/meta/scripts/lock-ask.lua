-- What became of a ticket. KEYS: 1 file locks.
-- ARGV: 1 ino, 2 session, 3 ticket, 4 kind, 5 type, 6 start, 7 end, 8 owner, 9 holder (session.owner), or ''
-- {'W', blocker, whether the holder is in its way} it waits | {'G'} it has the lock | {'N'} nothing is known of it
local rec = redis.call('HGET', KEYS[1], ARGV[1])
if not rec then return {'N'} end
local state = cmsgpack.unpack(rec)
local session, ticket = tonumber(ARGV[2]), tonumber(ARGV[3])
for _, w in ipairs(state[2]) do
  if w[5] == session and w[8] == ticket then
    for _, h in ipairs(state[1]) do
      if h[5] .. '.' .. h[6] == ARGV[9] and h[1] == w[1] and (h[2] == 'w' or w[2] == 'w') and h[3] < w[4] and w[3] < h[4] then
        return {'W', w[10], 1}
      end
    end
    return {'W', w[10], 0}
  end
end
for _, h in ipairs(state[1]) do
  if h[5] == session and h[6] == ARGV[8] and h[1] == ARGV[4] and h[2] == ARGV[5] and h[3] <= ARGV[6] and h[4] >= ARGV[7] then
    return {'G'}
  end
end
return {'N'}
