-- Rights that a file gives to whoever runs it. A write or a cut by somebody without CAP_FSETID takes the set-id bits away,
-- as does a new owner; file capabilities go with any of these, whoever does it (inode(7), capabilities(7)).
local SUID, SGID, GROUP_EXEC = 2048, 1024, 8

local function dropsetid(n)
  n.mode = bit.band(n.mode, bit.bnot(SUID))
  if bit.band(n.mode, GROUP_EXEC) ~= 0 then n.mode = bit.band(n.mode, bit.bnot(SGID)) end
end

local function dropcapabilities(n, xattrs)
  if n.xa == 1 then redis.call('HDEL', xattrs, 'security.capability') end
end
