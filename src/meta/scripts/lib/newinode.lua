-- An inode as it begins: type, mode, uid, gid, tail kind, tail.
local function blank(type, mode, uid, gid, tk, tail)
  return {
    type = type, mode = mode, uid = uid, gid = gid, nlink = (type == DIR) and 2 or 1, size = 0, alloc = 0, dv = 0,
    as = sec, an = nsec, ms = sec, mn = nsec, cs = sec, cn = nsec, bs = sec, bn = nsec,
    tk = tk, win = 0, xa = 0, tail = tail,
  }
end

-- More than one partition gives away while a replica may lag behind and be promoted all the same.
local NUMBERS_SKIPPED = 4194304

-- Takes `count` inode numbers of this partition; answers the first. partitions and home as numbers. lone: '1' where there is one
-- server and never another; else it is asked whether it is still the same (lib/history.lua).
local function newnumbers(count, partitions, home, lone)
  if lone ~= '1' and newhistory(KEYS[3]) then redis.call('HINCRBY', KEYS[3], 'n', NUMBERS_SKIPPED) end
  local seq = redis.call('HINCRBY', KEYS[3], 'n', text(count))
  -- Lua writes larger numbers with an exponent where it joins strings
  if seq * partitions + home >= 100000000000000 then error('inode numbers are used up') end
  return (seq - count + 1) * partitions + home
end

-- A new inode in this partition: its number and what it is. The record is saved by the caller.
local function newinode(type, mode, uid, gid, tk, tail, partitions, home, lone)
  local ino = newnumbers(1, partitions, home, lone)
  count('inodes', ino, '1')
  return ino, blank(type, mode, uid, gid, tk, tail)
end
