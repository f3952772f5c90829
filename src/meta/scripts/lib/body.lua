-- The body of a small file: field b<ino> of the inodes, pieces one behind the other (records.ts has the layout), of which
-- the later wins. With lib/mutate.lua.
-- Invariants: the flag in the record says whether there is one; nothing of it lies beyond the file's size; it is written
-- only while the file has no extents, which lie above it. Counter `inline`: bytes of all bodies of the partition.
local PIECE, HOLE, BODY_END = 12, 2147483648, 67108864

local function bodyof(ino, n)
  return n.body == 1 and redis.call('HGET', KEYS[1], 'b' .. ino) or ''
end

-- The record is saved by the caller.
local function setbody(ino, n, old, new)
  if new == '' then
    redis.call('HDEL', KEYS[1], 'b' .. ino)
    n.body = 0
  else
    redis.call('HSET', KEYS[1], 'b' .. ino, new)
    n.body = 1
  end
  if #new ~= #old then count('inline', ino, text(#new - #old)) end
end

-- As spansof of lib/stored.lua.
local function spansofbody(spans, body, from)
  local at = 1
  while at <= #body do
    local off, len = struct.unpack('<I4I4', body, at)
    local isdata = len < HOLE
    if not isdata then len = len - HOLE end
    if off + len > from then
      local k = #spans
      spans[k + 1], spans[k + 2], spans[k + 3] = math.max(off, from), off + len, isdata and 1 or 0
    end
    at = at + PIECE + (isdata and len or 0)
  end
end

-- Nothing is left from `size` on. Pieces stay whole, for their checksums, and get a hole above them; a hole to the end that
-- is the last piece and begins below is enough, so that however often a file is cut its body does not grow.
local function cutbody(ino, n, size)
  local old = bodyof(ino, n)
  local kept, hasdata, behind, last = {}, false, 0, nil
  local at = 1
  while at <= #old do
    local off, len = struct.unpack('<I4I4', old, at)
    local ishole = len >= HOLE
    if ishole then len = len - HOLE end
    local to = at + PIECE + (ishole and 0 or len)
    if off < size then
      kept[#kept + 1] = string.sub(old, at, to - 1)
      if not ishole then
        hasdata = true
        if off + len > behind then behind = off + len end
      end
      last = ishole and off + len >= BODY_END
    end
    at = to
  end
  if not hasdata then
    setbody(ino, n, old, '')
    return
  end
  if behind > size and not last then kept[#kept + 1] = struct.pack('<I4I4I4', size, HOLE + BODY_END - size, 0) end
  setbody(ino, n, old, table.concat(kept))
end

-- Extents that read the same come in the place of the body, below those that there are. Answers the record. With lib/extents.lua; `key`:
-- the key of the extents of window 0, `windows` of the file's windows.
local function spillbody(ino, n, extents, key, windows)
  setbody(ino, n, bodyof(ino, n), '')
  local above = redis.call('GET', key)
  if above then
    -- As after a compaction: who has read the window before has nothing of this one.
    redis.call('SET', key, struct.pack('<I4', (n.dv + 1) % 4294967296) .. extents .. string.sub(above, 5))
  else
    if n.tk == 1 then extents, n.tail, n.tk = extents .. n.tail, '', 0 end
    addextents(n, 0, key, windows, extents)
  end
  n.dv = n.dv + 1
  emit(2, ino)
  return save(ino, n)
end
