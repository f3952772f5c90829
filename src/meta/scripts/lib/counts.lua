-- The counters of a partition (inodes, bytes, inline), and their being counted anew while all goes on (recount.ts).
-- KEYS: 2 locks, 3 counters. Field C of the locks while somebody counts: u48 ms until when, u56 newest ino when it began, u56 ino up to
-- which it has counted; i56 inodes, bytes, inline that were counted; the same as the counters are if every change came through count(); who.
-- Invariant: what is counted is the sum over the inodes up to that one, and over all newer than the newest, as they are now.
local COUNTING, COUNTING_HEAD = '<I6I7I7i7i7i7i7i7i7', 62
-- What is further ahead than it is ever put is of a clock that was set back.
local COUNTING_MAX_MS = 3600000

-- The field, if the script is one that changes something.
local counting

-- {until, newest, up to, inodes, bytes, inline counted, the same expected}, who; nil: nobody counts, or not any more
local function readcounting(held)
  if not held then return end
  local v = {struct.unpack(COUNTING, held)}
  v[10] = nil
  local left = v[1] - nowms()
  if left > 0 and left <= COUNTING_MAX_MS then return v, string.sub(held, COUNTING_HEAD + 1) end
end

local function savecounting(v, who)
  counting = struct.pack(COUNTING, unpack(v)) .. who
  redis.call('HSET', KEYS[2], 'C', counting)
end

local function countersnow()
  local found = redis.call('HMGET', KEYS[3], 'inodes', 'bytes', 'inline')
  return tonumber(found[1] or '0'), tonumber(found[2] or '0'), tonumber(found[3] or '0')
end

local function notecount(what, ino, delta)
  local v, who = readcounting(counting)
  if not v then
    counting = nil
    redis.call('HDEL', KEYS[2], 'C')
    return
  end
  local at = ({inodes = 4, bytes = 5, inline = 6})[what]
  if ino <= v[3] or ino > v[2] then v[at] = v[at] + delta end
  v[at + 3] = v[at + 3] + delta
  savecounting(v, who)
end

-- A counter changes because of this inode. Answers what it is then.
local function count(what, ino, delta)
  if counting then notecount(what, tonumber(ino), tonumber(delta)) end
  return redis.call('HINCRBY', KEYS[3], what, delta)
end
