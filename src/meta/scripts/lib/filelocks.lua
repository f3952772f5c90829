-- Locks on files: fcntl(2) record locks and flock(2). KEYS: 9 file locks of the partition: ino -> {held, queue}.
--   held   {kind, type, start, end, session, owner, pid}: kind 'p' or 'f', type 'r' or 'w', the bytes from start to end,
--          which is not locked itself
--   queue  the same of those that wait, in the order they came, and {…, ticket, pushes, blocker}
-- Positions go to 2^63, further than numbers are exact here: they come and stay as texts of 19 decimal digits, which
-- sort as their numbers do (in every locale) and are only compared and copied.
--
-- Invariants: no two held locks conflict; the held locks of one owner do not overlap, and those of one type do not touch;
-- after every script nobody waits who could have the lock, or he was told to ask again (grants.lua).
local KIND, TYPE, START, END, SESSION, OWNER, PID, TICKET, PUSHES, BLOCKER = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
local EAGAIN, ENOLCK = -11, -37
local HELD_MAX, QUEUE_MAX = 4096, 1024

local function loadlocks(ino)
  local rec = redis.call('HGET', KEYS[9], ino)
  if not rec then return {}, {} end
  local state = cmsgpack.unpack(rec)
  return state[1], state[2]
end

local function savelocks(ino, held, queue)
  if #held == 0 and #queue == 0 then redis.call('HDEL', KEYS[9], ino)
  else redis.call('HSET', KEYS[9], ino, cmsgpack.pack({held, queue})) end
end

local function sameowner(a, b)
  return a[OWNER] == b[OWNER] and a[SESSION] == b[SESSION] and a[KIND] == b[KIND]
end

local function conflicts(a, b)
  return a[KIND] == b[KIND] and (a[TYPE] == 'w' or b[TYPE] == 'w') and a[START] < b[END] and b[START] < a[END]
    and not sameowner(a, b)
end

local function firstconflict(lock, list)
  for _, other in ipairs(list) do
    if conflicts(lock, other) then return other end
  end
end

local function whois(lock)
  return lock and lock[SESSION] .. '.' .. lock[OWNER] or ''
end

local function part(lock, from, to)
  return {lock[KIND], lock[TYPE], from, to, lock[SESSION], lock[OWNER], lock[PID]}
end

-- The owner's locks with `lock` laid over them; type 'u' takes away.
local function apply(held, lock)
  local left, from, to = {}, lock[START], lock[END]
  for _, h in ipairs(held) do
    if not sameowner(h, lock) or h[END] < lock[START] or h[START] > lock[END] then
      left[#left + 1] = h
    elseif h[TYPE] == lock[TYPE] then
      if h[START] < from then from = h[START] end
      if h[END] > to then to = h[END] end
    else
      if h[START] < lock[START] then
        left[#left + 1] = part(h, h[START], h[END] < lock[START] and h[END] or lock[START])
      end
      if h[END] > lock[END] then
        left[#left + 1] = part(h, h[START] > lock[END] and h[START] or lock[END], h[END])
      end
    end
  end
  if lock[TYPE] ~= 'u' then left[#left + 1] = part(lock, from, to) end
  return left
end

-- what: G granted; B waits now for another holder; C held back only out of courtesy to those who came before
local function tell(ino, what, waiter)
  emit(8, ino, what .. struct.pack('<I4I7', waiter[SESSION], waiter[TICKET]) .. (what == 'B' and waiter[BLOCKER] or ''))
end
