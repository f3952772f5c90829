-- include: inode locks freeze counts mutate acl attributes
-- KEYS: 9 ACLs, 10 xattrs
-- ARGV: 7 ino, 8 a|d, 9 any|create|replace|remove, 10 the ACL ('' none), 11 permissions of the mode, -1 as they are,
-- 12 1 to clear set-gid, 13… what was seen (lib/attributes.lua). 0 | 18: it is another's than was seen, and is left alone
local known = before('i' .. ARGV[7])
if known then return known end
local ino, field = tonumber(ARGV[7]), ARGV[8] .. ARGV[7]
local n = load(ino)
if not n then return {ENOENT} end
if isothers(n, 13) then return {18} end
local exists = redis.call('HEXISTS', KEYS[9], field) == 1
if exists and ARGV[9] == 'create' then return {EEXIST} end
if not exists and (ARGV[9] == 'replace' or ARGV[9] == 'remove') then return {-61} end
if n.type == SYMLINK then return {-95} end
if ARGV[8] == 'd' and n.type ~= DIR then return {-13} end
local others = recall()
if others then return others end
if ARGV[10] == '' then redis.call('HDEL', KEYS[9], field) else redis.call('HSET', KEYS[9], field, ARGV[10]) end
local bits = tonumber(ARGV[11])
if bits >= 0 then n.mode = n.mode - n.mode % 512 + bits end
if ARGV[12] == '1' then n.mode = bit.band(n.mode, bit.bnot(1024)) end
n.xa = hasxattrs(ino, KEYS[10], KEYS[9])
n.cs, n.cn = sec, nsec
save(ino, n)
emit(1, ino)
return after({0})
