-- include: inode locks mutate privileges extents
-- oom: allowed
-- Parts of windows become holes. KEYS: 9 windows, 10… extents of the windows in ARGV, at last xattrs
-- ARGV: 7 ino, 8 allocated delta, 9 mtime sec, 10 nsec, 11 clear suid, 12 least size, 13… window, offset in it, length
-- 0, record | 12 there is a body in the way. Work: the windows that are named.
local known = before()
if known then return known end
local ino = tonumber(ARGV[7])
local n = load(ino)
if not n then return {ENOENT} end
if n.type ~= FILE then return {EINVAL} end
for at = 13, #ARGV, 3 do
  if ARGV[at] == '0' and n.body == 1 then return {12} end
end
local others = recall()
if others then return others end
for at = 13, #ARGV, 3 do
  local window, off, len = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local key = KEYS[10 + (at - 13) / 3]
  if len == WINDOW then
    freewindow(n, ino, window, key, KEYS[9])
  elseif (window == 0 and n.tk == 1) or redis.call('EXISTS', key) == 1 then
    addextents(n, window, key, KEYS[9], hole(off, len))
  end
end
if n.win == 1 and redis.call('EXISTS', KEYS[9]) == 0 then n.win = 0 end
if tonumber(ARGV[12]) > n.size then n.size = tonumber(ARGV[12]) end
account(n, tonumber(ARGV[8]))
written(n, ARGV[9], ARGV[10], ARGV[11], KEYS[#KEYS])
emit(2, ino)
return after({0, save(ino, n)})
