-- POSIX ACLs: the bytes of the attributes system.posix_acl_*, valid ones only (acl.ts sees to that). They are kept in one
-- hash of the partition, so that an inode made in a script, whose number nobody knows before, can have some.
--   a<ino>  access ACL, only if it says more than the mode   d<ino>  default ACL of a directory
-- Invariant: the mode's nine bits are the ACL's entries of owner, group class and others; both change together.
local ACL_USER_OBJ, ACL_GROUP_OBJ, ACL_MASK, ACL_OTHER = 1, 4, 16, 32

-- tag -> position of the three bits of the mode that mirror its entry; and whether that is all the ACL says
local function classes(acl)
  local group = ACL_GROUP_OBJ
  for at = 5, #acl, 8 do
    if struct.unpack('<I2', acl, at) == ACL_MASK then group = ACL_MASK end
  end
  return {[ACL_USER_OBJ] = 64, [group] = 8, [ACL_OTHER] = 1}, group == ACL_GROUP_OBJ
end

-- The ACL with other permissions in the entries that the mode mirrors: change(permissions, those of the mode).
local function remode(acl, mode, change)
  local places, minimal = classes(acl)
  local out, bits = {string.sub(acl, 1, 4)}, 0
  for at = 5, #acl, 8 do
    local tag, perm = struct.unpack('<I2I2', acl, at)
    local place = places[tag]
    if place then
      perm = change(perm, math.floor(mode / place) % 8)
      bits = bits + perm * place
    end
    out[#out + 1] = struct.pack('<I2I2', tag, perm) .. string.sub(acl, at + 4, at + 7)
  end
  return table.concat(out), mode - mode % 512 + bits, minimal
end

-- chmod(2) on an inode with an access ACL.
local function chmodacl(acl, mode)
  return (remode(acl, mode, function(_, new) return new end))
end

-- What is made in a directory with a default ACL: its mode, and its access ACL or nil. The umask does not count there.
local function inheritacl(default, mode)
  local acl, masked, minimal = remode(default, mode, bit.band)
  return masked, not minimal and acl or nil
end

-- For the flag in the inode record.
local function hasxattrs(ino, xattrs, acls)
  if redis.call('EXISTS', xattrs) == 1 then return 1 end
  local both = redis.call('HMGET', acls, 'a' .. ino, 'd' .. ino)
  return (both[1] or both[2]) and 1 or 0
end
