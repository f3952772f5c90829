-- include: inode locks freeze counts mutate extents body
-- oom: allowed
-- As spill.lua, of several files, each by itself.
-- KEYS: of each, 9… extents of window 0, windows. ARGV: of each, 7… ino, data version, extents. 0, for each '1', or '0' if it was changed or
-- is gone, or in a freeze; bytes of all bodies
local function answer(moved)
  return {0, moved, tonumber(redis.call('HGET', KEYS[3], 'inline') or '0')}
end
whenfrozen = answer(string.rep('0', (#ARGV - 6) / 3))
local known = before()
if known then return known end
local others = recall()
if others then return others end
local moved = {}
for at = 7, #ARGV, 3 do
  local ino, key = ARGV[at], 9 + (at - 7) / 3 * 2
  local n = load(ino)
  local isthat = n and n.body == 1 and n.dv == tonumber(ARGV[at + 1])
  if isthat then spillbody(ino, n, ARGV[at + 2], KEYS[key], KEYS[key + 1]) end
  moved[#moved + 1] = isthat and '1' or '0'
end
return after(answer(table.concat(moved)))
