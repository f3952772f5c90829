-- include: inode locks freeze counts mutate history newinode acl birth
-- open(2), O_TMPFILE: a file without a name, open in this session. It goes with its last opener, unless it is linked before.
-- KEYS: 9 ACLs. ARGV: 7 directory, 8 mode, 9 uid, 10 gid, 11 partitions, 12 umask, 13 one server. 0, ino, record
local known = before()
if known then return known end
local parent = tonumber(ARGV[7])
local dir = load(parent)
if not dir then return {ENOENT} end
if dir.type ~= DIR then return {ENOTDIR} end
local others = recall()
if others then return others end
local new = {type = FILE, mode = tonumber(ARGV[8]), uid = tonumber(ARGV[9]), gid = tonumber(ARGV[10]), tk = 0, tail = '',
  umask = tonumber(ARGV[12]), lone = ARGV[13]}
local ino, n = birth(parent, dir, new, KEYS[9], tonumber(ARGV[11]))
n.nlink, n.tmp = 0, 1
addopener(ino)
return after({0, ino, save(ino, n)})
