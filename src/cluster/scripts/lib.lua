#!lua flags=allow-oom
-- Put before each script of membership. allow-oom: a Redis that is full must not make its nodes look dead; what these
-- scripts write does not grow.
-- KEYS[1] members, KEYS[2] beats, KEYS[3] options, KEYS[4] reports: see keys.ts.

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function read_member(id)
  local text = redis.call('HGET', KEYS[1], id)
  return text and cjson.decode(text)
end

-- Whether a member has a place on the ring: as ringMembers in watcher.ts.
local function on_ring(member)
  local state = member.state
  return (state == 'up' or state == 'suspect' or state == 'down') and member.out ~= '1'
end

local function place(member)
  return member and on_ring(member) and member.weight .. ' ' .. member.zone or ''
end

local function option(name, default)
  return tonumber(redis.call('HGET', KEYS[3], name) or default)
end

local function set_option(name, number)
  redis.call('HSET', KEYS[3], name, string.format('%.0f', number))
end

-- Every value is a string: cjson would round large numbers.
-- Each change of the ring is noted: who looks seldom, and finds it as it was, knows that it was another one meanwhile. It grows like a
-- count, whatever the clock does, and is a time, so that a replica that is promoted without the last changes gives no number twice.
local function write_member(id, member)
  if place(read_member(id)) ~= place(member) then set_option('rings', math.max(now_ms(), option('rings', 0) + 1)) end
  redis.call('HSET', KEYS[1], id, cjson.encode(member))
end

local function suspect_ms() return option('suspectMs', 4000) end
local function down_ms() return option('downMs', 15000) end
-- Long enough for a reboot, so that it moves nothing.
local function out_ms() return option('outMs', 300000) end
local function epoch() return option('epoch', 0) end
-- A replica that is promoted without the last changes gives their epochs once more, to other members: then only the time tells them apart.
local function raise_epoch()
  redis.call('HINCRBY', KEYS[3], 'epoch', 1)
  set_option('changed', now_ms())
end

local function beat_ms(id)
  local beat = redis.call('HGET', KEYS[2], id)
  return tonumber(beat and string.match(beat, '^%d+') or 0)
end

-- Time during which nobody could beat (Redis was away) is nobody's silence.
local function silence_ms(id, now)
  return now - math.max(beat_ms(id), option('resumed', 0))
end

local function write_beat(id, now, total, free, chunks)
  redis.call('HSET', KEYS[2], id, string.format('%.0f', now) .. ' ' .. total .. ' ' .. free .. ' ' .. chunks)
end

-- Where the clock was set back, or a failover brought another one, nothing may lie in the future: it would count as a beat until the clock
-- is there again, for hours.
local function forget_future(ids, now)
  if option('resumed', 0) > now then set_option('resumed', now) end
  for _, id in ipairs(ids) do
    if beat_ms(id) > now then
      local figures = string.match(redis.call('HGET', KEYS[2], id), ' .*')
      redis.call('HSET', KEYS[2], id, string.format('%.0f', now) .. figures)
    end
  end
end

local function write_report(id, report)
  if report ~= '' then redis.call('HSET', KEYS[4], id, report) end
end
