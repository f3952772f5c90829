-- include: inode locks freeze counts mutate acl privileges attributes extents stored body
-- oom: allowed
-- KEYS: 9 windows, 10 extents of the window in which the new size lies, 11 ACLs, 12 xattrs, 13… extents of the windows named in ARGV
-- ARGV: 7 ino, 8 size, 9 1 to drop set-id bits, 10 how many windows to free, 11… these, ascending; then what else is changed
-- (lib/attributes.lua).
-- 0, record (with the size reached) | 4, window, … (the last windows of the file: name them and call again)
-- | 18: it is another's than was seen, and is left alone
-- A file with more windows, or extents in them, than one call may free shrinks in steps, each of them a truncation. What else is
-- changed, and what that rests on, comes with the first: behind it none is refused for whose the file is by then.
local STEP, STEP_BYTES = 64, 16384 * EXTENT
local FIRST = 11
local rest = FIRST + tonumber(ARGV[10])
local changes = rest <= #ARGV
local known
if changes then known = before('i' .. ARGV[7]) else known = before() end
if known then return known end
local ino, size = tonumber(ARGV[7]), tonumber(ARGV[8])
local n = load(ino)
if not n then return {ENOENT} end
if n.type == DIR then return {EISDIR} end
if n.type ~= FILE then return {EINVAL} end
if isothers(n, rest) then return {18} end
local edge = math.floor(size / WINDOW)
local cut = size - edge * WINDOW
local reached = size

-- Inline extents behind the new end go; one that crosses it is cut. A chunk is discarded with its last extent.
local function cutinline()
  local kept, dropped, ids = {}, {}, {}
  for at = 1, #n.tail, EXTENT do
    local off, len, id = struct.unpack('<I4I4I7', n.tail, at)
    if off < cut then
      kept[#kept + 1] = struct.pack('<I4I4', off, math.min(len, cut - off)) .. string.sub(n.tail, at + 8, at + EXTENT - 1)
      ids[id] = true
    else
      dropped[#dropped + 1] = string.sub(n.tail, at, at + EXTENT - 1)
    end
  end
  local garbage = {}
  for _, e in ipairs(dropped) do
    if not ids[struct.unpack('<I7', e, 9)] then garbage[#garbage + 1] = e end
  end
  discard(ino, 0, table.concat(garbage))
  n.tail = table.concat(kept)
  n.tk = #n.tail > 0 and 1 or 0
end

-- What is stored behind the new end in the window in which that lies; before anything of it is cut.
local function storedbehind()
  local spans = {}
  if edge == 0 and n.body == 1 then spansofbody(spans, bodyof(ino, n), cut) end
  if edge == 0 and n.tk == 1 then
    spansof(spans, n.tail, cut)
  elseif n.win == 1 then
    spansof(spans, string.sub(redis.call('GET', KEYS[10]) or '', 5), cut)
  end
  return storedbytes(spans)
end

local beyond, named, more = {}, {}, false
if size < n.size and n.win == 1 then
  -- at cut 0 the window at the edge is freed whole, too
  local from = cut == 0 and edge or edge + 1
  beyond = redis.call('ZREVRANGEBYSCORE', KEYS[9], '+inf', from, 'LIMIT', 0, STEP + 1)
  for at = FIRST, rest - 1 do named[ARGV[at]] = KEYS[at + 2] end
  more = #beyond > STEP
  if more then beyond[#beyond] = nil end
  for _, w in ipairs(beyond) do
    if not named[w] then
      local reply = {4}
      for i = #beyond, 1, -1 do reply[#reply + 1] = tonumber(beyond[i]) end
      return reply
    end
  end
  local bytes = 0
  for i, w in ipairs(beyond) do
    bytes = bytes + redis.call('STRLEN', named[w])
    if i > 1 and bytes > STEP_BYTES then
      for k = #beyond, i, -1 do beyond[k] = nil end
      more = true
    end
  end
end
local others = recall()
if others then return others end
if size < n.size then
  local gone = 0
  if n.win == 1 then
    for _, w in ipairs(beyond) do
      local extents, spans = freewindow(n, ino, tonumber(w), named[w], KEYS[9]), {}
      if size > 0 then
        spansof(spans, extents, 0)
        gone = gone + storedbytes(spans)
      end
    end
  end
  if not more and cut > 0 then gone = gone + storedbehind() end
  if n.win == 1 then
    if more then
      reached = tonumber(beyond[#beyond]) * WINDOW
    elseif cut > 0 and not (edge == 0 and n.tk == 1) and redis.call('EXISTS', KEYS[10]) == 1 then
      redis.call('APPEND', KEYS[10], hole(cut, WINDOW - cut))
    end
    if redis.call('EXISTS', KEYS[9]) == 0 then n.win = 0 end
  end
  if reached == size and edge == 0 and n.tk == 1 then cutinline() end
  if reached == size and edge == 0 and n.body == 1 then cutbody(ino, n, size) end
  n.size = reached
  -- What writers have told may be too much: no window stores more than its length.
  local windows = (n.win == 1 and redis.call('ZCARD', KEYS[9]) or 0) + ((n.tk == 1 or n.body == 1) and 1 or 0)
  account(ino, n, math.min(-gone, windows * WINDOW - n.alloc))
end
if ARGV[9] == '1' then dropsetid(n) end
dropcapabilities(n, KEYS[12])
n.size = reached
n.dv = n.dv + 1
n.ms, n.mn, n.cs, n.cn = sec, nsec, sec, nsec
if changes then setattributes(n, rest, KEYS[11], KEYS[12]) end
emit(2, ino)
return after({0, save(ino, n)})
