-- include: inode locks freeze counts mutate extents
-- oom: allowed
-- A window's extents are replaced by fewer that read the same; what was appended meanwhile stays behind them.
-- KEYS: 9 extents of the window. ARGV: 7 ino, 8 generation, 9 bytes that were read, 10 new extents, 11 extents dropped,
-- 12 allocated delta, 13 window, 14 '' or the microseconds before which the last backup must have been made: one after that may name
-- what is dropped, 15 the last of the extents that were read: after a failover that lost some, as many others may have come.
-- 0, 1 (done), data version | 0, 0 (the window is another by now, or a backup may need it, or is made just now)
-- A dropped chunk that was cloned into the window meanwhile is named still: the janitor looks before it believes.
whenfrozen = {0, 0}
local known = before()
if known then return known end
local ino, len = tonumber(ARGV[7]), tonumber(ARGV[9])
local n = load(ino)
local blob = n and redis.call('GET', KEYS[9])
if not blob then return {0, 0} end
local generation = struct.unpack('<I4', blob)
if generation ~= tonumber(ARGV[8]) or #blob - 4 < len then return {0, 0} end
if string.sub(blob, 5 + len - #ARGV[15], 4 + len) ~= ARGV[15] then return {0, 0} end
if ARGV[14] ~= '' then
  -- None noted: an older program may have made one until now.
  local backup = redis.call('HGET', KEYS[2], 'B')
  if not backup or tonumber(backup) >= tonumber(ARGV[14]) then return {0, 0} end
end
local others = recall()
if others then return others end
n.dv = n.dv + 1
redis.call('SET', KEYS[9], struct.pack('<I4', n.dv % 4294967296) .. ARGV[10] .. string.sub(blob, 5 + len))
discard(ino, tonumber(ARGV[13]), ARGV[11])
account(ino, n, tonumber(ARGV[12]))
save(ino, n)
emit(2, ino)
return after({0, 1, n.dv % 4294967296})
