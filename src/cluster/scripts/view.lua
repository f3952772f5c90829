-- The tick: judges who is silent for too long, then tells all. Run by every node and client, every few seconds.
-- KEYS from the fourth on: queues of nodes.
-- -> {epoch, {{id, address, zone, weight, state, pid, incarnation, beat, silent ms}…}, {queue length…}}
local now = now_ms()
local suspect, down = suspect_ms(), down_ms()
-- Not written each time: views are fetched often, and this goes to the append-only file.
local tick_ms = math.min(1000, suspect / 4)
local since_tick = now - option('tick', 0)
if since_tick > suspect then redis.call('HSET', KEYS[3], 'resumed', string.format('%.0f', now)) end
if since_tick >= tick_ms or since_tick < 0 then redis.call('HSET', KEYS[3], 'tick', string.format('%.0f', now)) end

local function judged(state, silent)
  local living = state == 'up' or state == 'suspect' or state == 'joining'
  if living and silent > down then return 'down' end
  if state == 'up' and silent > suspect then return 'suspect' end
  return state
end

local changed = false
local members = {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local id, member = all[i], cjson.decode(all[i + 1])
  local state = judged(member.state, silence_ms(id, now))
  if state ~= member.state then
    member.state = state
    write_member(id, member)
    changed = true
  end
  local beat = redis.call('HGET', KEYS[2], id) or '0 0 0 0'
  members[#members + 1] = {
    id, member.address, member.zone, member.weight, state, member.pid, member.incarnation, beat,
    math.max(0, now - beat_ms(id)),
  }
end
if changed then raise_epoch() end

local lengths = {}
for i = 4, #KEYS do lengths[#lengths + 1] = redis.call('XLEN', KEYS[i]) end
return {epoch(), members, lengths}
