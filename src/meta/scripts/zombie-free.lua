-- include: freeze
-- oom: allowed
-- Frees keys of a deleted inode. KEYS: 1 garbage, 2 zombies, 3 windows, 4 xattrs, 5 ACLs, 6 locks, 7… extents of the windows in ARGV
-- ARGV: 1 ino, 2… windows. {window, …}: the next ones to name; empty when all is freed, or in a freeze. Work: as a step of truncate.lua; of the windows that
-- are named those stay for the next call whose extents are too many.
local STEP_BYTES = 16384 * 53
if isfrozen(redis.call('HGET', KEYS[6], 'F')) or redis.call('HEXISTS', KEYS[2], ARGV[1]) == 0 then return {} end
local now, bytes = nowms(), 0
for at = 2, #ARGV do
  if bytes > STEP_BYTES then break end
  local blob = redis.call('GET', KEYS[at + 5])
  if blob then
    bytes = bytes + #blob
    redis.call('RPUSH', KEYS[1], struct.pack('<I6BI7I4', now, 0, tonumber(ARGV[1]), tonumber(ARGV[at])) .. string.sub(blob, 5))
  end
  redis.call('DEL', KEYS[at + 5])
  redis.call('ZREM', KEYS[3], ARGV[at])
end
local left = redis.call('ZRANGE', KEYS[3], 0, 63)
if #left == 0 then
  redis.call('DEL', KEYS[4])
  redis.call('HDEL', KEYS[5], 'a' .. ARGV[1], 'd' .. ARGV[1])
  redis.call('HDEL', KEYS[2], ARGV[1])
end
return left
