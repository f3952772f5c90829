-- A new inode in this partition: type, mode, uid, gid, tail kind, tail. partitions and home as numbers.
local function newinode(type, mode, uid, gid, tk, tail, partitions, home)
  local seq = redis.call('HINCRBY', KEYS[3], 'n', 1)
  local ino = seq * partitions + home
  -- Lua writes larger numbers with an exponent where it joins strings
  if ino >= 100000000000000 then error('inode numbers are used up') end
  redis.call('HINCRBY', KEYS[3], 'inodes', 1)
  local n = {
    type = type, mode = mode, uid = uid, gid = gid, nlink = (type == DIR) and 2 or 1, size = 0, alloc = 0, dv = 0,
    as = sec, an = nsec, ms = sec, mn = nsec, cs = sec, cn = nsec, bs = sec, bn = nsec,
    tk = tk, win = 0, xa = 0, tail = tail,
  }
  return ino, n, save(ino, n)
end
