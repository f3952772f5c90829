-- Locks of prepared transactions (transaction.ts). A lock's field holds the transaction's name; the field t<tx> holds
-- what the transaction does in this partition: {cp, startedMs, sec, nsec, {part, ...}}.

-- The reply that sends the caller to the commit point: 1, tx, cp, age in ms, first argument of each part (an ino).
local function locked(tx)
  local rec = redis.call('HGET', KEYS[2], 't' .. tx)
  if not rec then error('lock without its transaction ' .. tx) end
  local t = cmsgpack.unpack(rec)
  local now = redis.call('TIME')
  local reply = {1, tx, t[1], math.floor(now[1] * 1000 + now[2] / 1000 - t[2])}
  for i, part in ipairs(t[5]) do reply[4 + i] = tonumber(part[2]) end
  return reply
end

-- The reply above if one of these fields is locked by another than `mine` (a table tx -> true, or nil).
local function blocked(mine, ...)
  local held = redis.call('HMGET', KEYS[2], ...)
  for i = 1, #held do
    if held[i] and not (mine and mine[held[i]]) then return locked(held[i]) end
  end
end
