-- Inode records and directory entries. The layouts stand in records.ts; both sides change together.
local HEAD = 70
local FMT = '<BBHI4I4I4I7I7I4i5I4i5I4i5I4i5I4'
local FILE, DIR, SYMLINK = 0, 1, 2
local ESTALE = -116
local ENOENT, EIO, EEXIST, ENOTDIR, EISDIR, EINVAL, EFBIG = -2, -5, -17, -20, -21, -22, -27
local EMLINK, ENOTEMPTY = -31, -39
local LINK_MAX = 65000

-- The table is made in one piece: one that grows field by field is made anew five times.
local function decode(rec)
  local ver, tf, mode, uid, gid, nlink, size, alloc, dv, as, an, ms, mn, cs, cn, bs, bn = struct.unpack(FMT, rec)
  if ver ~= 1 then error('inode record of version ' .. ver) end
  local type, totk, towin = tf % 16, tf % 64, tf % 128
  local perm, totmp, tobody = mode % 4096, mode % 8192, mode % 16384
  return {
    type = type, tk = (totk - type) / 16, win = (towin - totk) / 64, xa = (tf - towin) / 128,
    -- tmp: a file made without a name that never had one: the only one that may get a name with none left.
    -- body: the store has bytes of the file itself (lib/body.lua).
    mode = perm, tmp = (totmp - perm) / 4096, body = (tobody - totmp) / 8192,
    uid = uid, gid = gid, nlink = nlink, size = size, alloc = alloc, dv = dv,
    as = as, an = an, ms = ms, mn = mn, cs = cs, cn = cn, bs = bs, bn = bn, tail = string.sub(rec, HEAD + 1),
  }
end

local function encode(n)
  local mode = n.mode + 4096 * (n.tmp or 0) + 8192 * (n.body or 0)
  return struct.pack(FMT, 1, n.type + 16 * n.tk + 64 * n.win + 128 * n.xa, mode, n.uid, n.gid, n.nlink,
    n.size, n.alloc, n.dv % 4294967296, n.as, n.an, n.ms, n.mn, n.cs, n.cn, n.bs, n.bn) .. n.tail
end

-- A number as commands want it. They take numbers, too, but Redis writes those with 17 digits of a floating-point number, which
-- takes it longer than most commands do: so what is at hand as a string is passed as one.
local function text(ino)
  return string.format('%d', ino)
end

local function load(ino)
  local rec = redis.call('HGET', KEYS[1], ino)
  if rec then return decode(rec), rec end
end

-- What a change of names asks of a directory; the record itself is only changed where it has to be (changedir of lib/mutate.lua).
local function loaddir(ino)
  local rec = redis.call('HGET', KEYS[1], ino)
  if not rec then return end
  local ver, tf, mode, _, gid, nlink = struct.unpack('<BBHI4I4I4', rec)
  if ver ~= 1 then error('inode record of version ' .. ver) end
  return {rec = rec, type = tf % 16, xa = tf < 128 and 0 or 1, mode = mode % 4096, gid = gid, nlink = nlink}
end

local function member(name, ino, type)
  return name .. struct.pack('<BI7B', 0, ino, type)
end

-- Whether `m` is an entry of this name.
local function isentry(m, name)
  return #m == #name + 9 and string.sub(m, 1, #name) == name
end

-- By their bytes. Lua itself compares strings as the server's locale has it.
local function precedes(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x < y end
  end
  return #a < #b
end

-- Rank in the zset `key` of the entry of a name, or of the first behind the place where it would be. Entries of one hash are in the
-- order of their bytes, so of their names': a name ends with a NUL.
local function rankof(key, name, hash)
  local low = redis.call('ZCOUNT', key, '-inf', '(' .. text(hash))
  local high = low + redis.call('ZCOUNT', key, hash, hash)
  while low < high do
    local middle = math.floor((low + high) / 2)
    local at = text(middle)
    local m = redis.call('ZRANGE', key, at, at)[1]
    if precedes(string.sub(m, 1, #m - 9), name) then low = middle + 1 else high = middle end
  end
  return low
end

-- The entry of a name in the zset `key`: member, ino, type; nil if there is none. Names with the same hash can be made on purpose: of
-- more than a few no more are looked at than it takes.
local function find(key, name, hash)
  local few = redis.call('ZRANGEBYSCORE', key, hash, hash, 'LIMIT', '0', '8')
  if #few == 8 then
    local at = text(rankof(key, name, hash))
    few = redis.call('ZRANGE', key, at, at)
  end
  for _, m in ipairs(few) do
    if isentry(m, name) then
      local _, ino, type = struct.unpack('<BI7B', m, #name + 1)
      return m, ino, type
    end
  end
end

-- The entries behind a name, or from this hash on if it is empty.
local function entriesbehind(key, name, hash, limit)
  if name == '' then return redis.call('ZRANGEBYSCORE', key, hash, '+inf', 'LIMIT', '0', limit) end
  local at = rankof(key, name, hash)
  local members = redis.call('ZRANGE', key, text(at), text(at + limit))
  if members[1] and isentry(members[1], name) then table.remove(members, 1) end
  members[limit + 1] = nil
  return members
end
