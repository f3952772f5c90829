-- include: inode locks mutate newinode acl
-- A directory that nobody sees yet, with a lock n<ino> that nobody asks for: it only tells whom to ask what became of it.
-- KEYS: 9 ACLs. ARGV: 7 tx, 8 commit partition, 9 mode, 10 uid, 11 gid, 12 parent, 13 partitions, 14 home, 15 umask,
-- 16 the default ACL of the parent, as far as it is known ('' none). 0, ino, record
local known = before()
if known then return known end
local mode, default, access = tonumber(ARGV[9]), ARGV[16], nil
if default ~= '' then mode, access = inheritacl(default, mode)
else mode = bit.band(mode, bit.bnot(tonumber(ARGV[15]))) end
local ino, n, rec = newinode(DIR, mode, tonumber(ARGV[10]), tonumber(ARGV[11]), 3,
  struct.pack('<I7', tonumber(ARGV[12])), tonumber(ARGV[13]), tonumber(ARGV[14]))
if default ~= '' then
  redis.call('HSET', KEYS[9], 'd' .. ino, default)
  if access then redis.call('HSET', KEYS[9], 'a' .. ino, access) end
  n.xa = 1
  rec = save(ino, n)
end
redis.call('HSET', KEYS[2], 'n' .. ino, ARGV[7], 't' .. ARGV[7],
  cmsgpack.pack({tonumber(ARGV[8]), nowms(), sec, nsec, {{'M', tostring(ino)}}}))
return after({0, ino, rec})
