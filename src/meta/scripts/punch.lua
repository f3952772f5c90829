-- include: inode locks freeze counts mutate privileges extents
-- oom: allowed
-- Parts of windows become holes. KEYS: 9 windows, 10… extents of the windows in ARGV, at last xattrs
-- ARGV: 7 ino, 8 mtime sec, 9 nsec, 10 clear suid, 11 least size, 12… window, offset in it, length, allocated delta
-- 0, record, how many of the windows it has done: at least one, and the rest if they have not too many extents | 12 there is a body in the
-- way.
local STEP_BYTES = 16384 * EXTENT
local FIRST, PART = 12, 4
local known = before()
if known then return known end
local ino = tonumber(ARGV[7])
local n = load(ino)
if not n then return {ENOENT} end
if n.type ~= FILE then return {EINVAL} end
for at = FIRST, #ARGV, PART do
  if ARGV[at] == '0' and n.body == 1 then return {12} end
end
local others = recall()
if others then return others end
local done, bytes, delta = 0, 0, 0
for at = FIRST, #ARGV, PART do
  local window, off, len = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local key = KEYS[10 + done]
  if len == WINDOW then
    -- Behind its generation.
    bytes = bytes + math.max(redis.call('STRLEN', key) - 4, 0)
    if done > 0 and bytes > STEP_BYTES then break end
    freewindow(n, ino, window, key, KEYS[9])
  elseif (window == 0 and n.tk == 1) or redis.call('EXISTS', key) == 1 then
    addextents(n, window, key, KEYS[9], hole(off, len))
  end
  done, delta = done + 1, delta + tonumber(ARGV[at + 3])
end
if n.win == 1 and redis.call('EXISTS', KEYS[9]) == 0 then n.win = 0 end
if tonumber(ARGV[11]) > n.size then n.size = tonumber(ARGV[11]) end
account(ino, n, delta)
written(n, ARGV[8], ARGV[9], ARGV[10], KEYS[#KEYS])
emit(2, ino)
return after({0, save(ino, n), done})
