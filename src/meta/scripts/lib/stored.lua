-- How many bytes of a window are stored. With lib/extents.lua.

-- Extents as spans that lie in [from, WINDOW), each three numbers behind the others: start, end, 1 if it is data (0: a hole).
local function spansof(spans, extents, from)
  for at = 1, #extents, EXTENT do
    local off, len, id = struct.unpack('<I4I4I7', extents, at)
    if off + len > from then
      local k = #spans
      spans[k + 1], spans[k + 2], spans[k + 3] = math.max(off, from), off + len, id ~= 0 and 1 or 0
    end
  end
end

-- Bytes that spans store, in the order in which they were committed: of two that overlap the later counts.
local function storedbytes(spans)
  local sum, last, ordered = 0, 0, true
  for k = 1, #spans, 3 do
    if spans[k] < last then
      ordered = false
      break
    end
    last = spans[k + 1]
    sum = sum + (last - spans[k]) * spans[k + 2]
  end
  if ordered then return sum end
  -- Between two borders all is alike. From the latest span on each takes the pieces that none has taken; ahead[p] leads over
  -- those that are taken.
  local borders, place, ahead, count = {}, {}, {}, 0
  for k = 1, #spans, 3 do
    borders[#borders + 1], borders[#borders + 2] = spans[k], spans[k + 1]
  end
  table.sort(borders)
  for _, border in ipairs(borders) do
    if not place[border] then
      count = count + 1
      place[border], borders[count], ahead[count] = count, border, count
    end
  end
  local function free(p)
    local to = p
    while ahead[to] ~= to do to = ahead[to] end
    while ahead[p] ~= to do p, ahead[p] = ahead[p], to end
    return to
  end
  sum = 0
  for k = #spans - 2, 1, -3 do
    local stop = place[spans[k + 1]]
    local p = free(place[spans[k]])
    while p < stop do
      sum = sum + (borders[p + 1] - borders[p]) * spans[k + 2]
      ahead[p] = p + 1
      p = free(p + 1)
    end
  end
  return sum
end
