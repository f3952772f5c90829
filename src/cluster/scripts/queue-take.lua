#!lua flags=allow-oom
-- KEYS[1] stream; ARGV: consumer, how many, idle ms after which a delivery counts as abandoned, 1 if what is new comes first (else 0),
-- entries in work here… -> {{entry id, task}…}
-- What was abandoned or whose pause has ended (queue-retry.lua sets idle times so), and what is new. Who takes turns with what comes first
-- lets neither keep the other waiting for ever.
local consumer, count, takeover, new_first = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4] == '1'
redis.pcall('XGROUP', 'CREATE', KEYS[1], 'r', '0', 'MKSTREAM')

-- Entries in work stay ours however long the work takes.
for i = 5, #ARGV do redis.call('XCLAIM', KEYS[1], 'r', consumer, 0, ARGV[i], 'IDLE', 0, 'JUSTID') end

local taken = {}
local function add(entries)
  for _, entry in ipairs(entries) do
    if entry and entry[2] then taken[#taken + 1] = {entry[1], entry[2][2]} end
  end
end

local function take_old()
  -- XAUTOCLAIM looks at ten times COUNT pending entries a call; the cursor goes on until it ends, within reason.
  local cursor = '0-0'
  for _ = 1, 10 do
    local claimed = redis.call('XAUTOCLAIM', KEYS[1], 'r', consumer, takeover, cursor, 'COUNT', count - #taken)
    cursor = claimed[1]
    add(claimed[2])
    if cursor == '0-0' or #taken >= count then break end
  end
end

local function take_new()
  local read = redis.call('XREADGROUP', 'GROUP', 'r', consumer, 'COUNT', count - #taken, 'STREAMS', KEYS[1], '>')
  if read then add(read[1][2]) end
end

if count > 0 then
  if new_first then take_new() else take_old() end
  if #taken < count then
    if new_first then take_old() else take_new() end
  end
end
return taken
