-- Who of those that wait for a file lock has it now. Held locks and waiters may be thousands, and Redis does nothing else
-- meanwhile: a look at all of them costs (held + waiting) * log(waiting), not one comparison for each pair.
-- More than this many locks and waiters are looked at once only.
local LOOKED_AT_MAX = 4096

-- The positions where waiters of a kind begin or end cut the file into pieces: a waiter is a run of whole pieces, and any
-- other lock is in its way where it touches one of them. A tree over the pieces has, for every node, two of the owners that
-- cover all of it (`cover`) and two of those that touch it and do not (`below`): two tell whether there is another than oneself.
local function newtree(size)
  return {size = size, cover = {}, cover2 = {}, below = {}, below2 = {}}
end

-- Whether it was new there: else it is known further up, too.
local function mark(first, second, at, who)
  local one = first[at]
  if not one then
    first[at] = who
    return true
  end
  if one == who or second[at] then return false end
  second[at] = who
  return true
end

-- Pieces from `from`, without `to`.
local function occupy(tree, from, to, who)
  local cover, cover2, below, below2 = tree.cover, tree.cover2, tree.below, tree.below2
  local l, r = from + tree.size, to + tree.size
  while l < r do
    if l % 2 == 1 then
      mark(cover, cover2, l, who)
      l = l + 1
    end
    if r % 2 == 1 then
      r = r - 1
      mark(cover, cover2, r, who)
    end
    l, r = l / 2, r / 2
  end
  l = from + tree.size
  while l >= 1 and mark(below, below2, l, who) do l = (l - l % 2) / 2 end
  l = to - 1 + tree.size
  while l >= 1 and mark(below, below2, l, who) do l = (l - l % 2) / 2 end
end

local function besides(first, second, at, who)
  local one = first[at]
  if one == who then return second[at] end
  return one
end

-- Another than `who` that touches one of the pieces; nil: none does.
local function inway(tree, from, to, who)
  local cover, cover2, below, below2 = tree.cover, tree.cover2, tree.below, tree.below2
  local l, r, by = from + tree.size, to + tree.size, nil
  while l < r do
    if l % 2 == 1 then
      by = besides(cover, cover2, l, who) or besides(below, below2, l, who)
      if by then return by end
      l = l + 1
    end
    if r % 2 == 1 then
      r = r - 1
      by = besides(cover, cover2, r, who) or besides(below, below2, r, who)
      if by then return by end
    end
    l, r = l / 2, r / 2
  end
  l, r = from + tree.size, to - 1 + tree.size
  while l >= 1 do
    by = besides(cover, cover2, l, who) or besides(cover, cover2, r, who)
    if by then return by end
    l, r = (l - l % 2) / 2, (r - r % 2) / 2
  end
end

-- The texts, in their order and once each, and where each is.
local function sorted(texts)
  table.sort(texts)
  local points, index = {}, {}
  for _, text in ipairs(texts) do
    if not index[text] then
      points[#points + 1] = text
      index[text] = #points - 1
    end
  end
  return points, index
end

-- How many of the points are not above the position, or below it.
local function rank(points, position, orequal)
  local low, high = 0, #points
  while low < high do
    local middle = (low + high - (low + high) % 2) / 2
    local point = points[middle + 1]
    if point < position or (orequal and point == position) then low = middle + 1 else high = middle end
  end
  return low
end

-- What is in the way of the waiters of a kind: held locks, and those who wait and came before.
local function newsight(kind, held, queue)
  local texts = {}
  for _, w in ipairs(queue) do
    if w[KIND] == kind then
      texts[#texts + 1] = w[START]
      texts[#texts + 1] = w[END]
    end
  end
  local points, index = sorted(texts)
  local size = 1
  while size < #points do size = size * 2 end
  local sight = {index = index, writers = newtree(size), all = newtree(size), before = newtree(size), writersbefore = newtree(size)}
  for _, h in ipairs(held) do
    if h[KIND] == kind and h[START] < points[#points] and points[1] < h[END] then
      local from, to = math.max(rank(points, h[START], true) - 1, 0), math.min(rank(points, h[END], false), #points - 1)
      local who = whois(h)
      occupy(sight.all, from, to, who)
      if h[TYPE] == 'w' then occupy(sight.writers, from, to, who) end
    end
  end
  return sight
end

-- What an owner holds when these are granted to it, one over the other; and whether it may be less than before.
local function laid(own, grants)
  local texts, wrote, reads = {}, false, false
  for _, list in ipairs({own, grants}) do
    for _, lock in ipairs(list) do
      texts[#texts + 1], texts[#texts + 2] = lock[START], lock[END]
      wrote = wrote or lock[TYPE] == 'w'
    end
  end
  for _, lock in ipairs(grants) do reads = reads or lock[TYPE] == 'r' end
  local points, index = sorted(texts)
  -- Piece -> the newest lock there; and the next piece that may have none yet.
  local top, free = {}, {}
  local function firstfree(at)
    local last = at
    while free[last] do last = free[last] end
    while free[at] do at, free[at] = free[at], last end
    return last
  end
  local function lay(lock)
    local to = index[lock[END]]
    local at = firstfree(index[lock[START]])
    while at < to do
      top[at], free[at] = lock, at + 1
      at = firstfree(at + 1)
    end
  end
  for i = #grants, 1, -1 do lay(grants[i]) end
  for _, lock in ipairs(own) do lay(lock) end
  local left, last, lasttype = {}, nil, nil
  for at = 0, #points - 2 do
    local lock = top[at]
    if not lock then
      lasttype = nil
    elseif lock[TYPE] == lasttype then
      last[END] = points[at + 2]
    else
      last, lasttype = part(lock, points[at + 1], points[at + 2]), lock[TYPE]
      left[#left + 1] = last
    end
  end
  return left, wrote and reads
end

-- what: G granted; B waits now for another holder; C held back only out of courtesy to those who came before
local function tell(told, ino, what, waiter)
  local text = what .. struct.pack('<I4I7', waiter[SESSION], waiter[TICKET]) .. (what == 'B' and waiter[BLOCKER] or '')
  told[#told + 1] = event(8, ino, text)
end

-- Looks at every waiter once. Who came first is first; one who pushes does not wait for others who wait.
-- held, queue, the owners that may hold less than before (nil: nobody does)
local function look(told, ino, held, queue)
  local sights, waiting, grants, count = {}, {}, {}, 0
  for _, w in ipairs(queue) do
    local kind, who = w[KIND], whois(w)
    local sight = sights[kind]
    if not sight then
      sight = newsight(kind, held, queue)
      sights[kind] = sight
    end
    local from, to, writes = sight.index[w[START]], sight.index[w[END]], w[TYPE] == 'w'
    local by = inway(writes and sight.all or sight.writers, from, to, who)
    if not by and (w[PUSHES] == 1 or not inway(writes and sight.before or sight.writersbefore, from, to, who)) then
      occupy(sight.all, from, to, who)
      if writes then occupy(sight.writers, from, to, who) end
      local key = kind .. who
      if not grants[key] then grants[key] = {} end
      table.insert(grants[key], w)
      count = count + 1
      tell(told, ino, 'G', w)
    else
      waiting[#waiting + 1] = w
      occupy(sight.before, from, to, who)
      if writes then occupy(sight.writersbefore, from, to, who) end
      by = by or ''
      if by ~= w[BLOCKER] then
        w[BLOCKER] = by
        if by == '' then tell(told, ino, 'C', w) elseif kind == 'p' then tell(told, ino, 'B', w) end
      end
    end
  end
  if count == 0 then return held, waiting end
  local left, own = {}, {}
  for _, h in ipairs(held) do
    local key = h[KIND] .. whois(h)
    if not grants[key] then left[#left + 1] = h
    else
      if not own[key] then own[key] = {} end
      table.insert(own[key], h)
    end
  end
  local weaker
  for _, w in ipairs(queue) do
    local key = w[KIND] .. whois(w)
    if grants[key] then
      local locks, isless = laid(own[key] or {}, grants[key])
      for _, lock in ipairs(locks) do left[#left + 1] = lock end
      if isless then
        weaker = weaker or {}
        weaker[key] = true
      end
      grants[key] = nil
    end
  end
  return left, waiting, weaker
end

-- Something was released: grants what can be granted. A grant may weaken a lock of its owner: so again until none does. Where
-- that would take long, those who wait for such an owner are told to ask again: each is looked at with all others then.
local function grantall(ino, held, queue)
  local seen, told = 0, {}
  while #queue > 0 do
    local weaker
    seen = seen + #held + #queue
    held, queue, weaker = look(told, ino, held, queue)
    if not weaker then break end
    if seen > LOOKED_AT_MAX then
      for _, w in ipairs(queue) do
        if w[TYPE] == 'r' and weaker[w[KIND] .. w[BLOCKER]] then
          w[BLOCKER] = ''
          tell(told, ino, 'C', w)
        end
      end
      break
    end
  end
  -- Put together once: a thousand may be told.
  events = events .. table.concat(told)
  return held, queue
end
