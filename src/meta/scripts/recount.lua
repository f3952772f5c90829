-- include: inode
-- oom: allowed
-- The link count of an inode as fsck counted it, if its record is still what it was then, but for its access time.
-- KEYS: 1 inodes, 2 channel. ARGV: 1 ino, 2 its record then, 3 nlink. 1 done | 0 it has changed
local n, rec = load(ARGV[1])
local function timeless(r) return string.sub(r, 1, 34) .. string.sub(r, 44) end
if not rec or timeless(rec) ~= timeless(ARGV[2]) then return 0 end
n.nlink = tonumber(ARGV[3])
redis.call('HSET', KEYS[1], ARGV[1], encode(n))
redis.call('SPUBLISH', KEYS[2], struct.pack('<I4BI7B', 0, 1, tonumber(ARGV[1]), 0))
return 1
