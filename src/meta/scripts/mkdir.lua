-- include: inode locks freeze counts mutate history newinode acl bear
-- A directory's name comes into its parent, and with it what makes its inode in another partition (births.ts). Where that is
-- this one, the inode is made at once.
-- KEYS: 9 names of the parent, 10 ACLs, 11 reserved numbers
-- ARGV: 7 parent, 8 name, 9 hash, 10 ino, 11 the session that reserved it, 12 mode, 13 uid, 14 gid, 15 umask, 16 partitions
-- 0, record, record of the parent, what makes the inode ('': it is there)
local known = before('d' .. ARGV[7] .. '/' .. ARGV[8], 'i' .. ARGV[7])
if known then return known end
-- The numbers of a session go when it is cleaned up after: nothing may be made with them then.
if ARGV[11] ~= ARGV[1] then return {EIO} end
local parent, ino, partitions = tonumber(ARGV[7]), tonumber(ARGV[10]), tonumber(ARGV[16])
local dir = loaddir(ARGV[7])
if not dir then return {ENOENT} end
if dir.type ~= DIR then return {ENOTDIR} end
if find(KEYS[9], ARGV[8], ARGV[9]) then return {EEXIST} end
if dir.nlink >= LINK_MAX then return {EMLINK} end
local mode, gid, default, access = tonumber(ARGV[12]), tonumber(ARGV[14]), '', ''
-- What is made in a set-gid directory has its group, and hands it on.
if bit.band(dir.mode, 1024) ~= 0 then mode, gid = bit.bor(mode, 1024), dir.gid end
if dir.xa == 1 then default = redis.call('HGET', KEYS[10], 'd' .. ARGV[7]) or '' end
if default == '' then
  mode = bit.band(mode, bit.bnot(tonumber(ARGV[15])))
else
  mode, access = inheritacl(default, mode)
  access = access or ''
end
local n = blank(DIR, mode, tonumber(ARGV[13]), gid, 3, struct.pack('<I7', parent))
if default ~= '' then n.xa = 1 end
local others = recall()
if others then return others end
local rec, birth = encode(n), ''
if ino % partitions == parent % partitions then
  if not bear(KEYS[10], KEYS[11], ino, rec, default, access) then return {EIO} end
else
  birth = cmsgpack.pack({ARGV[1], rec, default, access})
  redis.call('HSET', KEYS[2], 'b' .. ARGV[10], birth)
end
redis.call('ZADD', KEYS[9], ARGV[9], member(ARGV[8], ino, DIR))
return after({0, rec, touchdir(ARGV[7], dir, 1, ARGV[8]), birth})
