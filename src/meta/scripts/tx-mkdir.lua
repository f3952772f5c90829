-- include: inode locks mutate newinode
-- A directory that nobody sees yet, with a lock n<ino> that nobody asks for: it only tells whom to ask what became of it.
-- ARGV: 7 tx, 8 commit partition, 9 mode, 10 uid, 11 gid, 12 parent, 13 partitions, 14 home. 0, ino, record
local known = before()
if known then return known end
local ino, _, rec = newinode(DIR, tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11]), 3,
  struct.pack('<I7', tonumber(ARGV[12])), tonumber(ARGV[13]), tonumber(ARGV[14]))
redis.call('HSET', KEYS[2], 'n' .. ino, ARGV[7], 't' .. ARGV[7],
  cmsgpack.pack({tonumber(ARGV[8]), nowms(), sec, nsec, {{'M', tostring(ino)}}}))
return after({0, ino, rec})
