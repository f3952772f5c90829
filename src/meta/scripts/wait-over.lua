-- oom: allowed
-- Edges that are no more. KEYS: 1 waits. ARGV: pairs of who waited and ticket. 1
for at = 1, #ARGV, 2 do
  local rec = redis.call('HGET', KEYS[1], ARGV[at])
  local left = {}
  for _, e in ipairs(rec and cmsgpack.unpack(rec) or {}) do
    if e[1] ~= tonumber(ARGV[at + 1]) then left[#left + 1] = e end
  end
  if #left > 0 then redis.call('HSET', KEYS[1], ARGV[at], cmsgpack.pack(left))
  elseif rec then redis.call('HDEL', KEYS[1], ARGV[at]) end
end
return 1
