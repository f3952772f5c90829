-- oom: allowed
-- A page of the edges of a session that is gone. KEYS: 1 waits. ARGV: 1 session, 2 cursor. next cursor
local prefix = ARGV[1] .. '.'
local page = redis.call('HSCAN', KEYS[1], ARGV[2], 'COUNT', 256)
for i = 1, #page[2], 2 do
  if string.sub(page[2][i], 1, #prefix) == prefix then redis.call('HDEL', KEYS[1], page[2][i]) end
end
return page[1]
