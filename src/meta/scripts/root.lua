-- include: inode locks freeze counts mutate
-- The root directory, if it is not there. KEYS as in lib/mutate.lua (no reply is kept). ARGV: 7 ino, 8 mode, 9 uid, 10 gid
local ino = tonumber(ARGV[7])
if redis.call('HEXISTS', KEYS[1], ino) == 1 then return 0 end
save(ino, {
  type = DIR, mode = tonumber(ARGV[8]), uid = tonumber(ARGV[9]), gid = tonumber(ARGV[10]), nlink = 2, size = 0, alloc = 0,
  dv = 0, as = sec, an = nsec, ms = sec, mn = nsec, cs = sec, cn = nsec, bs = sec, bn = nsec, tk = 3, win = 0, xa = 0,
  tail = struct.pack('<I7', ino),
})
-- Numbers may have been given out: what is lost is only the root.
if tonumber(redis.call('HGET', KEYS[3], 'n') or '0') < 1 then redis.call('HSET', KEYS[3], 'n', 1) end
count('inodes', ino, '1')
return 1
