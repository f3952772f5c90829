-- include: inode locks freeze counts mutate
-- KEYS: 9 xattrs
-- ARGV: 7 ino, 8 name, 9 value, 10 any|create|replace, 11 most bytes of all names, 12 of names and values. 0
local known = before('i' .. ARGV[7])
if known then return known end
local ino = tonumber(ARGV[7])
local n = load(ino)
if not n then return {ENOENT} end
-- xattr(7): the rights of a symlink or a device say nothing about who may fill it with attributes
if string.sub(ARGV[8], 1, 5) == 'user.' and n.type ~= FILE and n.type ~= DIR then return {-1} end
local exists = redis.call('HEXISTS', KEYS[9], ARGV[8]) == 1
if exists and ARGV[10] == 'create' then return {EEXIST} end
if not exists and ARGV[10] == 'replace' then return {-61} end
if not exists or #ARGV[9] > redis.call('HSTRLEN', KEYS[9], ARGV[8]) then
  local names, bytes = #ARGV[8] + 1, #ARGV[9]
  for _, name in ipairs(redis.call('HKEYS', KEYS[9])) do
    if name ~= ARGV[8] then
      names = names + #name + 1
      bytes = bytes + redis.call('HSTRLEN', KEYS[9], name)
    end
  end
  if names > tonumber(ARGV[11]) or names + bytes > tonumber(ARGV[12]) then return {-28} end
end
local others = recall()
if others then return others end
redis.call('HSET', KEYS[9], ARGV[8], ARGV[9])
n.xa = 1
n.cs, n.cn = sec, nsec
save(ino, n)
emit(1, ino)
return after({0})
