-- A new inode of this partition that is no directory, with what it inherits of directory `dir` (number and record): the
-- group of a set-gid one, and the default ACL, which takes the umask's place (acl(5), object creation; symlinks have
-- neither). `acls`: the key. Answers ino, inode; the record is saved by the caller.
local function birth(parent, dir, new, acls, partitions)
  local gid, mode, access = new.gid, new.mode, nil
  if math.floor(dir.mode / 1024) % 2 == 1 then gid = dir.gid end
  local default = dir.xa == 1 and new.type ~= SYMLINK and redis.call('HGET', acls, 'd' .. parent)
  if default then mode, access = inheritacl(default, mode)
  elseif new.type ~= SYMLINK then mode = bit.band(mode, bit.bnot(new.umask)) end
  local ino, n = newinode(new.type, mode, new.uid, gid, new.tk, new.tail, partitions, parent % partitions, new.lone)
  if access then
    redis.call('HSET', acls, 'a' .. ino, access)
    n.xa = 1
  end
  return ino, n
end
