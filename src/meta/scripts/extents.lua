-- include: inode locks read
-- KEYS: 3 extents of the window. ARGV: 2 ino, 3 window, 4 generation the caller has (-1: none), 5 bytes of it he has
-- 0, data version, generation, first byte sent, extents, body (false: none here)
local n = load(ARGV[2])
if not n then return {ENOENT} end
local body = ARGV[3] == '0' and n.body == 1 and redis.call('HGET', KEYS[1], 'b' .. ARGV[2])
if ARGV[3] == '0' and n.tk == 1 then return {0, n.dv, 0, 0, n.tail, body} end
local head = redis.call('GETRANGE', KEYS[3], 0, 3)
if #head < 4 then return {0, n.dv, 0, 0, '', body} end
local generation, from = struct.unpack('<I4', head), 0
if tonumber(ARGV[4]) == generation then from = tonumber(ARGV[5]) end
return {0, n.dv, generation, from, redis.call('GETRANGE', KEYS[3], 4 + from, -1), body}
