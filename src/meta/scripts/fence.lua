-- include: inode
-- oom: allowed
-- Whoever wants to commit on top of this data version cannot any more. KEYS: 1 inodes, 2 channel. ARGV: 1 ino, 2 version. 1
local n = load(ARGV[1])
if n and n.dv == tonumber(ARGV[2]) then
  n.dv = n.dv + 1
  redis.call('HSET', KEYS[1], ARGV[1], encode(n))
  redis.call('SPUBLISH', KEYS[2], struct.pack('<I4BI7B', 0, 2, tonumber(ARGV[1]), 0))
end
return 1
