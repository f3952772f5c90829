-- A directory gets its inode, if its number is reserved still: so it happens once, whoever asks for it and however late.
-- With lib/counts.lua; the keys of ACLs and reserved numbers of its partition. false: the number is not reserved (any more).
local function bear(acls, reserved, ino, rec, default, access)
  if redis.call('HDEL', reserved, ino) == 0 then return false end
  redis.call('HSET', KEYS[1], ino, rec)
  count('inodes', ino, '1')
  if default ~= '' then redis.call('HSET', acls, 'd' .. ino, default) end
  if access ~= '' then redis.call('HSET', acls, 'a' .. ino, access) end
  return true
end
