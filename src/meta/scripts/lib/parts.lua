-- The parts of a transaction in one partition, PART_ARGS arguments each (transaction.ts builds them):
--   R dir name hash ino type nlinks   the entry (dir, name) -> ino goes
--   P dir name hash ino type nlinks oldIno oldType   the entry comes, replacing oldIno (0: none)
--   N ino nlinks parent               nlink of an inode changes, ctime, and (not 0) the parent of a directory
--   E ino                             an empty directory goes
-- Each part k has its key KEYS[first + k]: the names of the directory `dir` or `ino`.
local PART_ARGS = 9
local RETRY = {3}

local function readparts(from, to)
  local parts = {}
  for at = from, to or #ARGV, PART_ARGS do
    parts[#parts + 1] = {unpack(ARGV, at, at + PART_ARGS - 1)}
  end
  return parts
end

local function fieldof(part)
  if part[1] == 'R' or part[1] == 'P' then return 'd' .. part[2] .. '/' .. part[3] end
  return 'i' .. part[2]
end

-- A lock on any name of this directory.
local function nameslocked(ino)
  local prefix = 'd' .. ino .. '/'
  local all = redis.call('HGETALL', KEYS[2])
  for i = 1, #all, 2 do
    if string.sub(all[i], 1, #prefix) == prefix then return all[i + 1] end
  end
end

local function checkentry(part, names)
  local dir = loaddir(part[2])
  if not dir then return {ENOENT} end
  if dir.type ~= DIR then return {ENOTDIR} end
  if dir.nlink + tonumber(part[7]) > LINK_MAX then return {EMLINK} end
  local _, ino, type = find(names, part[3], part[4])
  local wantino, wanttype = part[5], part[6]
  if part[1] == 'P' then wantino, wanttype = part[8], part[9] end
  if (ino or 0) ~= tonumber(wantino) then return RETRY end
  if ino and type ~= tonumber(wanttype) then return RETRY end
  local birth = type == DIR and unborn(ino)
  if birth then return birth end
  return blocked(nil, fieldof(part), 'i' .. part[2])
end

local function checkpart(part, names)
  if part[1] == 'R' or part[1] == 'P' then return checkentry(part, names) end
  if part[1] == 'N' then
    local n = load(part[2])
    if not n then return {ENOENT} end
    if n.nlink == 0 and n.tmp == 0 and tonumber(part[3]) > 0 then return {ENOENT} end
    if n.nlink + tonumber(part[3]) > LINK_MAX then return {EMLINK} end
  else
    local dir = loaddir(part[2])
    if not dir then return {ENOENT} end
    if dir.type ~= DIR then return {ENOTDIR} end
    if redis.call('ZCARD', names) > 0 then
      local tx = nameslocked(part[2])
      if tx then return locked(tx) end
      return {ENOTEMPTY}
    end
  end
  return blocked(nil, fieldof(part))
end

-- Answers the record of a directory in which a name changed.
local function applypart(part, names)
  local kind, ino = part[1], tonumber(part[2])
  if kind == 'R' then
    redis.call('ZREM', names, member(part[3], tonumber(part[5]), tonumber(part[6])))
    return touchdir(part[2], loaddir(part[2]), tonumber(part[7]), part[3])
  elseif kind == 'P' then
    if part[8] ~= '0' then redis.call('ZREM', names, member(part[3], tonumber(part[8]), tonumber(part[9]))) end
    redis.call('ZADD', names, part[4], member(part[3], tonumber(part[5]), tonumber(part[6])))
    return touchdir(part[2], loaddir(part[2]), tonumber(part[7]), part[3])
  elseif kind == 'N' then
    local n = load(ino)
    if part[4] ~= '0' then n.tail = struct.pack('<I7', tonumber(part[4])) end
    relink(ino, n, tonumber(part[3]))
  else
    local n = load(ino)
    n.nlink = 0
    purge(ino, n)
    emit(1, ino)
  end
end
