-- include: inode locks mutate
-- KEYS: 9 extents of the window, 10 windows
-- ARGV: 7 ino, 8 window, 9 at|append, 10 extents, 11 allocated delta, 12 mtime sec, 13 nsec, 14 clear suid, 15 least size
-- 0, record, base offset | 4, size (append: another window is meant) | 5, bytes that fit into this window
local WINDOW, EXTENT, INLINE_MAX = 67108864, 53, 2
local known = before()
if known then return known end
local ino, window, extents = tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[10]
local n = load(ino)
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
  if shift + last > WINDOW then return {5, WINDOW - shift} end
  local moved = {}
  for at = 1, #extents, EXTENT do
    local off = struct.unpack('<I4', extents, at)
    moved[#moved + 1] = struct.pack('<I4', off + shift) .. string.sub(extents, at + 4, at + EXTENT - 1)
  end
  extents, last = table.concat(moved), last + shift
end
if window == 0 and n.win == 0 and n.tk ~= 2 and #n.tail + #extents <= INLINE_MAX * EXTENT then
  n.tail = n.tail .. extents
  n.tk = #n.tail > 0 and 1 or 0
elseif #extents > 0 then
  -- The inline extents move out together with the first that do not fit: window 0 is in one place only.
  if n.tk == 1 and window == 0 then
    extents, n.tail, n.tk = n.tail .. extents, '', 0
  end
  -- The generation of a window is the data version that began it: one that was freed and begun anew is told apart.
  if redis.call('EXISTS', KEYS[9]) == 0 then extents = struct.pack('<I4', n.dv + 1) .. extents end
  redis.call('APPEND', KEYS[9], extents)
  redis.call('ZADD', KEYS[10], window, window)
  n.win = 1
end
if last > 0 and start + last > n.size then n.size = start + last end
if tonumber(ARGV[15]) > n.size then n.size = tonumber(ARGV[15]) end
local delta = math.max(tonumber(ARGV[11]), -n.alloc)
if delta ~= 0 then
  n.alloc = n.alloc + delta
  redis.call('HINCRBY', KEYS[3], 'bytes', string.format('%d', delta))
end
n.dv = n.dv + 1
n.ms, n.mn, n.cs, n.cn = tonumber(ARGV[12]), tonumber(ARGV[13]), sec, nsec
if ARGV[14] == '1' then
  n.mode = bit.band(n.mode, bit.bnot(2048))
  if bit.band(n.mode, 8) ~= 0 then n.mode = bit.band(n.mode, bit.bnot(1024)) end
end
emit(2, ino)
return after({0, save(ino, n), base})
