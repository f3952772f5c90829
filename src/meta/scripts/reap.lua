-- include: inode locks freeze counts mutate
-- oom: allowed
-- What session ARGV[7] left in this partition. ARGV[8], if not 0: for so many seconds a mark, which takes the place of its
-- replies, refuses whatever of it still comes, and says which replies were here: who only slept asks (known.lua). KEYS: 9 replies of
-- that session.
-- 0, {ino, what makes it, …} (directories still to be made: births.ts), {tx, cp, ino of each part, …} (a prepared
-- transaction), …
local prefix = 't' .. ARGV[7] .. '.'
if ARGV[8] ~= '0' then
  if redis.call('HEXISTS', KEYS[9], 'd') == 0 then
    local missed = redis.call('HMGET', KEYS[9], 'l', 'o')
    local mark = {missed[1] or '0', missed[2] or '0'}
    for _, field in ipairs(redis.call('HKEYS', KEYS[9])) do
      if tonumber(field) then mark[#mark + 1] = field end
    end
    redis.call('DEL', KEYS[9])
    redis.call('HSET', KEYS[9], 'd', table.concat(mark, ' '))
  end
  undelegate(tonumber(ARGV[7]), math.huge)
  redis.call('EXPIRE', KEYS[9], ARGV[8])
end
local births = {}
local reply = {0, births}
local all = redis.call('HGETALL', KEYS[2])
for i = 1, #all, 2 do
  if string.sub(all[i], 1, #prefix) == prefix then
    local t = cmsgpack.unpack(all[i + 1])
    local one = {string.sub(all[i], 2), t[1]}
    for _, part in ipairs(t[5]) do one[#one + 1] = tonumber(part[2]) end
    reply[#reply + 1] = one
  elseif string.sub(all[i], 1, 1) == 'b' and cmsgpack.unpack(all[i + 1])[1] == ARGV[7] then
    births[#births + 1] = tonumber(string.sub(all[i], 2))
    births[#births + 1] = all[i + 1]
  end
end
return reply
