-- oom: allowed
-- One page of the inodes of a partition, and of those of which there are bytes. KEYS: 1 inodes. ARGV: 1 cursor, 2 about how many.
-- next cursor, {ino, …}: one may come twice
local page = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local inos = {}
for i = 1, #page[2], 2 do
  local field = page[2][i]
  inos[#inos + 1] = tonumber(string.sub(field, 1, 1) == 'b' and string.sub(field, 2) or field)
end
return {page[1], inos}
