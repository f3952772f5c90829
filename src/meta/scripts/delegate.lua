-- oom: allowed
-- A delegation of the partition, or more time for one (lib/mutate.lua has the layout). KEYS: 1 locks, 2 channel
-- ARGV: 1 session, 2 token, 3 ms, 4 token of what is renewed (0: a new one), 5 most holders, 6 ms without grants after a recall
-- 1 granted | 0, ms (not now: ask again then) | 2 what was to be renewed is over
local ENTRY, FIRST, FIELDS_MAX, VALID_MAX_MS = 16, 16, 64, 3000
local me, token, renewed = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[4])
local t = redis.call('TIME')
local now = math.floor(t[1] * 1000 + t[2] / 1000)
local held = redis.call('HGET', KEYS[1], 'D')
-- One of another layout is of a version before this one, and over.
if held and #held % ENTRY ~= FIRST - 1 then held = false end
local quiet, level, others, mine = now, 0, {}, nil
local base, wasback = 0, false
if held then
  quiet, level, base = struct.unpack('<I6BI2', held)
  -- Further ahead than it is ever put: Redis's clock was set back.
  if quiet > now + base * 64 then quiet = now end
end
for at = FIRST, held and #held or 0, ENTRY do
  local session, last, ends = struct.unpack('<I4I6I6', held, at)
  if ends > now + VALID_MAX_MS then ends, wasback = now + VALID_MAX_MS, true end
  if session == me then
    -- A copy of a question that was asked long ago.
    if last > token then return {0, 0} end
    mine = last == renewed and ends > now
  elseif ends > now then
    others[#others + 1] = struct.pack('<I4I6I6', session, last, ends)
  end
end
if renewed > 0 and not mine then return {2} end
if now < quiet then return {0, quiet - now} end
-- What is prepared becomes true without a script here. The other fields are in nobody's way: marks of directories that are still to be
-- born (their names are here already), a freeze (what is frozen does not change, and who died in one leaves it), notes. Of many fields none
-- is looked at.
local rest = redis.call('HLEN', KEYS[1]) - (held and 1 or 0)
if rest > FIELDS_MAX then return {0, 50} end
for _, field in ipairs(rest > 0 and redis.call('HKEYS', KEYS[1]) or {}) do
  if string.sub(field, 1, 1) == 't' then return {0, 50} end
end
if #others >= tonumber(ARGV[5]) then
  if wasback then redis.call('HSET', KEYS[1], 'D', struct.pack('<I6BI2I6', quiet, level, base, 0) .. table.concat(others)) end
  return {0, 1000}
end
others[#others + 1] = struct.pack('<I4I6I6', me, token, now + tonumber(ARGV[3]))
-- Told when: never, for whoever holds it now.
redis.call('HSET', KEYS[1], 'D', struct.pack('<I6BI2I6', quiet, level, tonumber(ARGV[6]), 0) .. table.concat(others))
if renewed == 0 then redis.call('SPUBLISH', KEYS[2], struct.pack('<I4BI7B', me, 9, token, 0)) end
return {1}
