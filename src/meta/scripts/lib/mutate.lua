-- Scripts that change something, exactly once.
-- KEYS: 1 inodes, 2 locks, 3 counters, 4 replies of the session, 5 channel, 6 open, 7 garbage, 8 zombies, then its own.
-- ARGV: 1 session, 2 sequence, 3 lowest sequence in use in the partition, 4 replies to forget, 5 seconds, 6 nanoseconds, then its own.
-- ARGV[4]: '' or sequences, of what changed contents/of the rest/of which may be gone already. Where others than the last are missing this
-- server has lost them (tails.ts): `l` and `o` of KEYS[4] count how often, of contents and of the rest.
--
-- Invariant: a request with a given (session, sequence) is judged once. The reply, a refusal too, is kept until the client
-- says that it has it (ARGV[4]); a copy of the request that comes later still is below the mark w and refused.
local STALE, DEAD, FROZEN = 6, 7, 16
local sec, nsec = tonumber(ARGV[5]), tonumber(ARGV[6])

-- Delegations (docs/decisions/2026-11-21-delegations.md), field D of KEYS[2]: u48 until when nothing is granted, u8 recalls that
-- followed each other, u16 ms without grants after the first of them, u48 when the holders were told last; for each holder
-- u32 session, u48 token, u48 end.
-- Sessions other than ours that hold the partition's: they are told, nothing is granted for a while, and the caller tries
-- again when they have given it back: 15, ms that are left.
-- Every script says it between its last check and its first write: what is refused, or changes nothing, is nobody's concern.
local HELD_HEAD, HELD_ENTRY, CALM_MS, HELD_MS, TELL_MS = 15, 16, 60000, 3000, 500
local delegated
local function recall()
  -- One of another layout is of a version before this one, and over.
  if not delegated or #delegated == HELD_HEAD or #delegated % HELD_ENTRY ~= HELD_HEAD then return end
  local me, now, left, sessions, entries = tonumber(ARGV[1]), nil, 0, '', {}
  for at = HELD_HEAD + 1, #delegated, HELD_ENTRY do
    local session, token, ends = struct.unpack('<I4I6I6', delegated, at)
    if session ~= me then
      now = now or nowms()
      -- Redis's clock may have been set back.
      ends = math.min(ends, now + HELD_MS)
      if ends > now then
        left, sessions = math.max(left, ends - now), sessions .. string.sub(delegated, at, at + 3)
      end
    end
    entries[#entries + 1] = struct.pack('<I4I6I6', session, token, ends)
  end
  if sessions == '' then return end
  local quiet, level, base, toldms = struct.unpack('<I6BI2I6', delegated)
  -- Further ahead than it is ever put: as above.
  if quiet > now + base * 64 then quiet = now end
  if now >= quiet then
    level = now - quiet > CALM_MS and 0 or math.min(level + 1, 6)
    quiet = now + base * 2 ^ level
  end
  quiet = math.max(quiet, now + base)
  -- Whoever waits comes again and again. Who was told and has not answered has lost what he was told, or is dead.
  local tell = now - toldms >= TELL_MS or now < toldms
  if tell then toldms = now end
  redis.call('HSET', KEYS[2], 'D', struct.pack('<I6BI2I6', quiet, level, base, toldms) .. table.concat(entries))
  if tell then redis.call('SPUBLISH', KEYS[5], struct.pack('<I4BI7B', me, 10, 0, #sessions) .. sessions) end
  return {15, left}
end

-- The session's delegation ends, if it is not newer than the token.
local function undelegate(session, token)
  local all = redis.call('HGET', KEYS[2], 'D')
  if not all then return end
  local left = {string.sub(all, 1, HELD_HEAD)}
  for at = HELD_HEAD + 1, #all, HELD_ENTRY do
    local holder, last = struct.unpack('<I4I6', all, at)
    if holder ~= session or last > token then left[#left + 1] = string.sub(all, at, at + HELD_ENTRY - 1) end
  end
  redis.call('HSET', KEYS[2], 'D', table.concat(left))
end

local mark, isNew = 0, false
-- Set by what is no part of the moment that a freeze shows.
local passesfreeze = false
-- Set by what had rather not be done than wait for the thaw: its reply in a freeze, which is kept as that of any refusal.
local whenfrozen
-- Whether it was judged before, or is not to be now. The names that follow: locks of transactions (lib/locks.lua).
local function before(...)
  local m = redis.call('HMGET', KEYS[4], ARGV[2], 'd', 'w')
  if m[1] then return cmsgpack.unpack(m[1]) end
  if m[2] then return {DEAD} end
  mark = tonumber(m[3]) or 0
  if tonumber(ARGV[2]) < mark then return {STALE} end
  -- Somebody has to see the partition as it is (freeze.lua): the request is not judged, and comes again, or changes nothing.
  local found = redis.call('HMGET', KEYS[2], 'F', 'D', 'C', ...)
  if not passesfreeze and isfrozen(found[1]) then
    isNew = whenfrozen ~= nil
    return whenfrozen or {FROZEN}
  end
  isNew, delegated, counting = true, found[2], found[3]
  for i = 4, #found do
    if found[i] then return locked(found[i]) end
  end
end

local events = ''
-- Whose change this is: his own caches know of it already.
local publisher = tonumber(ARGV[1])
-- kind: 1 attributes, 2 data, 3 entry (and the attributes of its directory),
-- 12 attributes that no delegation promises anything of: access times, an inode without a name that is gone
local function event(kind, ino, name)
  name = name or ''
  return struct.pack('<BI7B', kind, ino, #name) .. name
end

local function emit(kind, ino, name)
  events = events .. event(kind, ino, name)
end

-- Replies that the client has. Answers whether all of them were here.
local function forget(list)
  local all = {}
  for s in string.gmatch(list, '%S+') do all[#all + 1] = s end
  return #all == 0 or redis.call('HDEL', KEYS[4], unpack(all)) == #all
end

local function keep(reply)
  if ARGV[4] ~= '' then
    local contents, others, again = string.match(ARGV[4], '^(.-)/(.-)/(.*)$')
    if not forget(contents) then redis.call('HINCRBY', KEYS[4], 'l', 1) end
    if not forget(others) then redis.call('HINCRBY', KEYS[4], 'o', 1) end
    forget(again)
  end
  -- Requests overtake each other; the mark only rises, for the replies below it are gone.
  redis.call('HSET', KEYS[4], ARGV[2], cmsgpack.pack(reply), 'w', tonumber(ARGV[3]) > mark and ARGV[3] or text(mark))
  isNew = false
end

local function publish()
  if events ~= '' then redis.call('SPUBLISH', KEYS[5], struct.pack('<I4', publisher) .. events) end
end

local function after(reply)
  keep(reply)
  publish()
  return reply
end

-- Every script ends here (scripts.ts). A refusal, which is returned without after(), is kept, too: it changed nothing, but
-- a late copy of the request would find another state and do what its sender was told has not been done.
local function settle(reply)
  if isNew then keep(reply) end
  return reply
end

local function save(ino, n)
  local rec = encode(n)
  redis.call('HSET', KEYS[1], ino, rec)
  return rec
end

-- What the janitor looks at after a grace period. kind: 0 the window names these chunks no more, 1 it may hold them in vain
local function claim(kind, ino, window, extents)
  if #extents > 0 then redis.call('RPUSH', KEYS[7], struct.pack('<I6BI7I4', nowms(), kind, ino, window) .. extents) end
end

-- Extents of a window whose chunks it needs no more.
local function discard(ino, window, extents)
  claim(0, ino, window, extents)
end

-- The inode has neither a name nor an opener: it ceases to be.
local function purge(ino, n)
  if n.body == 1 then
    count('inline', ino, text(-redis.call('HSTRLEN', KEYS[1], 'b' .. ino)))
    redis.call('HDEL', KEYS[1], ino, 'b' .. ino)
  else
    redis.call('HDEL', KEYS[1], ino)
  end
  count('inodes', ino, '-1')
  if n.alloc > 0 then count('bytes', ino, text(-n.alloc)) end
  if n.tk == 1 then discard(ino, 0, n.tail) end
  if n.win == 1 or n.xa == 1 then redis.call('HSET', KEYS[8], ino, nowms()) end
end

-- nlink changes by delta; at 0 the inode goes, at once or when its last opener closes it. Answers the record left.
local function relink(ino, n, delta)
  n.nlink = n.nlink + delta
  if delta > 0 then n.tmp = 0 end
  n.cs, n.cn = sec, nsec
  emit(1, ino)
  local key = text(ino)
  if n.nlink > 0 or redis.call('HEXISTS', KEYS[6], key) == 1 then return save(key, n) end
  purge(key, n)
  return encode(n)
end

-- The ctime of an inode is now: all else of its record, which is that long before and behind it, is left as it is.
local function renamed(ino)
  local rec = redis.call('HGET', KEYS[1], ino)
  redis.call('HSET', KEYS[1], ino, string.sub(rec, 1, 52) .. struct.pack('<i5I4', sec, nsec) .. string.sub(rec, 62))
  emit(1, ino)
end

-- A name came or went in directory ino, which is of loaddir(): its nlink, mtime and ctime. Answers the record, which the caller saves.
local function changedir(ino, dir, nlinks, name)
  local head = string.sub(dir.rec, 1, 43)
  if nlinks ~= 0 then
    dir.nlink = dir.nlink + nlinks
    head = string.sub(head, 1, 12) .. struct.pack('<I4', dir.nlink) .. string.sub(head, 17)
  end
  dir.rec = head .. struct.pack('<i5I4i5I4', sec, nsec, sec, nsec) .. string.sub(dir.rec, 62)
  emit(3, ino, name)
  return dir.rec
end

-- The same, saved.
local function touchdir(ino, dir, nlinks, name)
  local rec = changedir(ino, dir, nlinks, name)
  redis.call('HSET', KEYS[1], ino, rec)
  return rec
end

-- The session has the inode open (4 bytes each in the list of openers).
local function addopener(ino)
  local me = struct.pack('<I4', tonumber(ARGV[1]))
  local list = redis.call('HGET', KEYS[6], ino) or ''
  for i = 1, #list, 4 do
    if string.sub(list, i, i + 3) == me then return end
  end
  redis.call('HSET', KEYS[6], ino, list .. me)
end

-- An inode that has neither a name nor an opener goes. Not while a transaction has prepared to give it a name: who ends
-- that one sweeps, too.
local function sweep(ino)
  if redis.call('HEXISTS', KEYS[2], 'i' .. ino) == 1 or redis.call('HEXISTS', KEYS[6], ino) == 1 then return end
  local n = load(ino)
  if n and n.nlink == 0 then
    -- Who has looked at it since its last name went has it cached.
    emit(12, ino)
    purge(ino, n)
  end
end

-- The session has it open no more; a file without a name goes with its last opener.
local function dropopener(ino, session)
  local list = redis.call('HGET', KEYS[6], ino)
  if not list then return end
  local me, left = struct.pack('<I4', session), ''
  for i = 1, #list, 4 do
    local one = string.sub(list, i, i + 3)
    if one ~= me then left = left .. one end
  end
  if left ~= '' then
    redis.call('HSET', KEYS[6], ino, left)
    return
  end
  redis.call('HDEL', KEYS[6], ino)
  sweep(ino)
end
