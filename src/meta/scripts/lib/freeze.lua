-- Whether a partition is frozen (freeze.lua, thaw.lua), and Redis's clock in ms.
-- Further ahead than it is ever put: the clock was set back, and nobody heeds it.
local FROZEN_MAX_MS = 3600000

local function nowms()
  local t = redis.call('TIME')
  return math.floor(t[1] * 1000 + t[2] / 1000)
end

-- `held`: field F of its locks, u48 until when, who; false where there is none.
local function isfrozen(held)
  if not held then return false end
  local left = struct.unpack('<I6', held) - nowms()
  return left > 0 and left <= FROZEN_MAX_MS
end
