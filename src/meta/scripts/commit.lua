-- include: inode locks freeze counts mutate privileges extents
-- KEYS: 9 extents of the window, 10 windows, 11 extents of the window behind it (append only), 12 xattrs
-- ARGV: 7 ino, 8 window, 9 at|append, 10 extents, 11 allocated delta, 12 mtime sec, 13 nsec, 14 clear suid, 15 least size, 16 '1': the times never go back
-- 0, record, base offset | 4, size (append: another window is meant) | 5, bytes that fit into this window (append: an extent
-- would lie across its end)
local known = before()
if known then return known end
local ino, window, extents, behind = tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[10], ''
local n = load(ARGV[7])
if not n then return {ENOENT} end
if n.type ~= FILE then return {EINVAL} end
local start, base, last = window * WINDOW, 0, 0
for at = 1, #extents, EXTENT do
  local off, len = struct.unpack('<I4I4', extents, at)
  if off + len > last then last = off + len end
end
if ARGV[9] == 'append' then
  base = n.size
  -- First of all: what lies behind the largest size has no window, and a client reads such a number inexactly.
  if base + last > 9007199254740991 then return {EFBIG} end
  if math.floor(base / WINDOW) ~= window then return {4, base} end
  local shift = base - start
  local here, there = {}, {}
  for at = 1, #extents, EXTENT do
    local off, len = struct.unpack('<I4I4', extents, at)
    off = off + shift
    if off < WINDOW and off + len > WINDOW then return {5, WINDOW - shift} end
    local list = off < WINDOW and here or there
    list[#list + 1] = struct.pack('<I4', off % WINDOW) .. string.sub(extents, at + 4, at + EXTENT - 1)
  end
  extents, behind, last = table.concat(here), table.concat(there), last + shift
end
local others = recall()
if others then return others end
addextents(n, window, KEYS[9], KEYS[10], extents)
addextents(n, window + 1, KEYS[11], KEYS[10], behind)
if last > 0 and start + last > n.size then n.size = start + last end
if tonumber(ARGV[15]) > n.size then n.size = tonumber(ARGV[15]) end
account(ino, n, tonumber(ARGV[11]))
written(n, ARGV[12], ARGV[13], ARGV[14], KEYS[12], ARGV[16])
emit(2, ino)
return after({0, save(ARGV[7], n), base})
