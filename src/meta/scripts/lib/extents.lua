-- Extents of files (records.ts has the layout). With lib/mutate.lua.
local WINDOW, EXTENT, INLINE_MAX = 67108864, 53, 2

-- Adds extents to window `window`, whose key is `key`; `windows`: the key of the file's windows. Before n.dv rises.
local function addextents(n, window, key, windows, extents)
  if #extents == 0 then return end
  if window == 0 and n.win == 0 and n.tk ~= 2 and #n.tail + #extents <= INLINE_MAX * EXTENT then
    n.tail, n.tk = n.tail .. extents, 1
    return
  end
  -- The inline extents move out together with the first that do not fit: window 0 is in one place only.
  if n.tk == 1 and window == 0 then
    extents, n.tail, n.tk = n.tail .. extents, '', 0
  end
  -- The generation of a window is the data version that began it: one that was freed and begun anew is told apart.
  if redis.call('EXISTS', key) == 0 then extents = struct.pack('<I4', (n.dv + 1) % 4294967296) .. extents end
  redis.call('APPEND', key, extents)
  redis.call('ZADD', windows, window, window)
  n.win = 1
end

-- All extents of the window go, and are answered. Before n.dv rises.
local function freewindow(n, ino, window, key, windows)
  if window == 0 and n.tk == 1 then
    local extents = n.tail
    discard(ino, 0, extents)
    n.tail, n.tk = '', 0
    return extents
  end
  local blob = redis.call('GET', key)
  if not blob then return '' end
  local extents = string.sub(blob, 5)
  discard(ino, window, extents)
  redis.call('DEL', key)
  redis.call('ZREM', windows, window)
  return extents
end

local function hole(off, len)
  return struct.pack('<I4I4', off, len) .. string.rep('\0', EXTENT - 8)
end

-- The file has `delta` bytes more, or fewer, than before: never more than its size, behind which nothing is stored. After n.size
-- is set.
local function account(ino, n, delta)
  delta = math.max(math.min(delta, n.size - n.alloc), -n.alloc)
  if delta == 0 then return end
  n.alloc = n.alloc + delta
  count('bytes', ino, text(delta))
end

local function isbefore(asec, ansec, bsec, bnsec)
  return asec < bsec or (asec == bsec and ansec < bnsec)
end

-- The data changed: version, times, and the rights that go with an owner's trust (set-id bits if clear is '1'). With
-- lib/privileges.lua before this one; `xattrs`: the key of the file's attributes. `neverback` '1': behind what another client wrote later the
-- bytes count as written now: who looks for what is newer than his last look would not see them. A time that was set ahead of the
-- last change is nobody's writing.
local function written(n, msec, mnsec, clear, xattrs, neverback)
  n.dv = n.dv + 1
  local ms, mn = tonumber(msec), tonumber(mnsec)
  local islate = isbefore(ms, mn, n.ms, n.mn) and not isbefore(n.cs, n.cn, n.ms, n.mn) and isbefore(n.ms, n.mn, sec, nsec)
  if neverback == '1' and islate then ms, mn = sec, nsec end
  n.ms, n.mn = ms, mn
  -- The status changed when the bytes were written, as the writer has shown since: committing them is no second change.
  if isbefore(n.cs, n.cn, n.ms, n.mn) then n.cs, n.cn = n.ms, n.mn end
  if clear == '1' then dropsetid(n) end
  dropcapabilities(n, xattrs)
end
