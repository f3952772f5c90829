-- oom: allowed
-- What prepared transactions are about. KEYS: 1 locks. {tx, ino, …}, …: directories and inodes of their parts
local reply = {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if string.sub(all[i], 1, 1) == 't' then
    local one = {string.sub(all[i], 2)}
    for _, part in ipairs(cmsgpack.unpack(all[i + 1])[5]) do
      one[#one + 1] = tonumber(part[2])
      if part[1] == 'R' or part[1] == 'P' then one[#one + 1] = tonumber(part[5]) end
      if part[1] == 'P' then one[#one + 1] = tonumber(part[8]) end
    end
    reply[#reply + 1] = one
  end
end
return reply
