-- Whether the partition is frozen whose locks these are (freeze.lua).
local function frozen(key)
  local held = redis.call('HGET', key, 'F')
  if not held then return false end
  local t = redis.call('TIME')
  local left = struct.unpack('<I6', held) - math.floor(t[1] * 1000 + t[2] / 1000)
  -- Further ahead than it is ever put: Redis's clock was set back.
  return left > 0 and left <= 3600000
end
