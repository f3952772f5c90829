-- The tick: judges who is silent for too long, then tells all. Run by every node and client, every few seconds: so with N of them
-- only one look a second may cost more the more there are.
-- KEYS from the fifth on: queues of nodes.
-- ARGV: epoch of the members that the caller knows and needs no newer figures of, if there is one, and when it was raised.
-- -> {epoch, {{id, address, zone, weight, state, pid, incarnation, beat, silent ms, out, report}…} or nil: those of that epoch,
--     {queue length…}, {suspect ms, down ms, out ms, heal bytes/s, walks, surplus ms, rings, scrub ms}, Redis time (ms),
--     when the epoch was raised (ms)}
local now = now_ms()
local suspect, down, out = suspect_ms(), down_ms(), out_ms()
-- Not written each time: views are fetched often, and this goes to the append-only file.
local tick_ms = math.min(1000, suspect / 4)
local since_tick = now - option('tick', 0)
if since_tick > suspect then set_option('resumed', now) end
local is_due = since_tick >= tick_ms or since_tick < 0
if is_due then set_option('tick', now) end

local function judged(state, silent)
  local living = state == 'up' or state == 'suspect' or state == 'joining'
  if living and silent > down then return 'down' end
  if state == 'up' and silent > suspect then return 'suspect' end
  return state
end

local ids, members

local function read_members()
  ids, members = {}, {}
  local all = redis.call('HGETALL', KEYS[1])
  for i = 1, #all, 2 do
    ids[#ids + 1] = all[i]
    members[all[i]] = cjson.decode(all[i + 1])
  end
end

local function judge()
  forget_future(ids, now)
  local silences = {}
  local placed, inside = 0, 0
  for _, id in ipairs(ids) do
    silences[id] = silence_ms(id, now)
    local state = members[id].state
    if state == 'up' or state == 'suspect' or state == 'down' then placed = placed + 1 end
    if on_ring(members[id]) then inside = inside + 1 end
  end
  local changed = {}
  for _, id in ipairs(ids) do
    local member = members[id]
    local state = judged(member.state, silences[id])
    if state ~= member.state then
      member.state = state
      changed[id] = true
    end
    -- At least half of the nodes stay: what takes so many away at once brings them back at once, and the rest could not hold
    -- their chunks.
    if member.state == 'down' and member.out ~= '1' and silences[id] > out and (inside - 1) * 2 >= placed then
      member.out = '1'
      inside = inside - 1
      changed[id] = true
    end
  end
  for id in pairs(changed) do write_member(id, members[id]) end
  if next(changed) then raise_epoch() end
end

local function told()
  local list = {}
  for i, id in ipairs(ids) do
    local member = members[id]
    local beat = redis.call('HGET', KEYS[2], id) or '0 0 0 0'
    list[i] = {
      id, member.address, member.zone, member.weight, member.state, member.pid, member.incarnation, beat,
      math.max(0, now - beat_ms(id)), member.out or '', redis.call('HGET', KEYS[4], id) or '',
    }
  end
  return list
end

if is_due then
  read_members()
  judge()
end
local list = false
if tonumber(ARGV[1] or -1) ~= epoch() or tonumber(ARGV[2] or -1) ~= option('changed', 0) then
  if not members then read_members() end
  list = told()
end

local lengths = {}
for i = 5, #KEYS do lengths[#lengths + 1] = redis.call('XLEN', KEYS[i]) end
local heal = {option('healBytesPerS', 0), option('walks', 0), option('surplusMs', 60000)}
local settings = {suspect, down, out, heal[1], heal[2], heal[3], option('rings', 0), option('scrubMs', 604800000)}
return {epoch(), list, lengths, settings, now, option('changed', 0)}
