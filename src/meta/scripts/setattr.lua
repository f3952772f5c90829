-- include: inode locks freeze counts mutate acl privileges attributes
-- KEYS: 9 ACLs, 10 xattrs
-- ARGV: 7 ino, then what is changed (lib/attributes.lua). 0, record | 18: it is another's than was seen, and is left alone
local known = before('i' .. ARGV[7])
if known then return known end
local ino = tonumber(ARGV[7])
local n = load(ARGV[7])
if not n then return {ENOENT} end
if isothers(n, 8) then return {18} end
local others = recall()
if others then return others end
setattributes(n, 8, KEYS[9], KEYS[10])
emit(1, ino)
return after({0, save(ARGV[7], n)})
