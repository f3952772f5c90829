-- include: inode locks mutate
-- oom: allowed
-- KEYS: 9 replies of that session. What session ARGV[7] left in this partition: its replies give way to a mark that refuses whatever of it still comes
-- (if ARGV[8] is 1), and its prepared transactions are listed. 0, {tx, cp, ino of each part, …}, …
local prefix = 't' .. ARGV[7] .. '.'
redis.call('DEL', KEYS[9])
if ARGV[8] == '1' then
  redis.call('HSET', KEYS[9], 'd', 1)
  redis.call('EXPIRE', KEYS[9], 604800)
end
local reply = {0}
local all = redis.call('HGETALL', KEYS[2])
for i = 1, #all, 2 do
  if string.sub(all[i], 1, #prefix) == prefix then
    local t = cmsgpack.unpack(all[i + 1])
    local one = {string.sub(all[i], 2), t[1]}
    for _, part in ipairs(t[5]) do one[#one + 1] = tonumber(part[2]) end
    reply[#reply + 1] = one
  end
end
return reply
