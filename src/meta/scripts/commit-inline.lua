-- include: inode locks freeze counts mutate acl privileges attributes extents body
-- Bytes that are kept here, in the body of the file, as one change.
-- KEYS: 9 xattrs, 10 ACLs. ARGV: 7 ino, 8 at|append, 9 pieces, 10 allocated delta, 11 mtime sec, 12 nsec, 13 clear suid, 14 longest
-- file, 15 longest file if one piece from its start covers all of it, 16 most bytes of all bodies of the partition, 17 '1': the times
-- never go back, 18… attributes that are changed behind it (lib/attributes.lua)
-- 0, record, base offset, bytes of all bodies, 1 if the attributes were left alone | 11: they are for chunks: the file has extents, gets too long, or there is no room
local known = before()
if known then return known end
-- The attributes wait for a transaction that is prepared, perhaps for as long as a partition is away. The bytes need not.
local left = ARGV[18] and redis.call('HEXISTS', KEYS[2], 'i' .. ARGV[7]) or 0
local ino, pieces, longest, longestwhole = tonumber(ARGV[7]), ARGV[9], tonumber(ARGV[14]), tonumber(ARGV[15])
local n = load(ARGV[7])
if not n then return {ENOENT} end
if n.type ~= FILE then return {EINVAL} end
if n.win == 1 or n.tk == 1 then return {11} end
local base = ARGV[8] == 'append' and n.size or 0
local placed, last, at, first = {}, 0, 1, 0
while at <= #pieces do
  local off, len = struct.unpack('<I4I4', pieces, at)
  off = off + base
  if off + len > longestwhole then return {11} end
  if at == 1 then first = off end
  if off + len > last then last = off + len end
  placed[#placed + 1] = base == 0 and string.sub(pieces, at, at + PIECE + len - 1)
    or struct.pack('<I4', off) .. string.sub(pieces, at + 4, at + PIECE + len - 1)
  at = at + PIECE + len
end
local old = bodyof(ino, n)
local new = table.concat(placed)
-- One piece over all that there was takes its place. Only that may be long: many pieces behind it could not be spilled as one chunk.
if #placed > 1 or first > 0 or last < n.size then new = old .. new else longest = longestwhole end
if last > longest or #new > 2 * longest then return {11} end
local others = recall()
if others then return others end
local used = count('inline', ino, text(#new - #old))
if #new > #old and used > tonumber(ARGV[16]) then
  count('inline', ino, text(#old - #new))
  return {11}
end
n.body = 1
if last > n.size then n.size = last end
account(ino, n, tonumber(ARGV[10]))
written(n, ARGV[11], ARGV[12], ARGV[13], KEYS[9], ARGV[17])
-- Nor do they rest on whose file it is.
if isothers(n, 18) then left = 1 end
if ARGV[18] and left == 0 then setattributes(n, 18, KEYS[10], KEYS[9]) end
emit(2, ino)
local rec = encode(n)
redis.call('HSET', KEYS[1], ARGV[7], rec, 'b' .. ARGV[7], new)
return after({0, rec, base, used, left})
