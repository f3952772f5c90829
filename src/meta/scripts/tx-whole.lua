-- include: sides inode locks freeze counts mutate unborn parts
-- oom: allowed
-- slots: several
-- A transaction in one script, where one server has all its partitions (transaction.ts). All parts are checked, then all are done; or
-- nothing is. What another partition has in its way is left to the long way.
-- KEYS: 9 decisions, 10… names of each part of this partition.
-- ARGV: 7 tx, 8 how many arguments these parts have, 9… these parts; then for each other partition its keys 1 to 8
-- without the fourth, how many arguments its parts have, these parts, the keys of their names.
-- 0, number and record of each directory in which a name changed | 8 aborted by somebody | 17, 1 if a partition is not here (else it has
-- something in the way): nothing was done, and this request never will be
-- The other partitions.
local function readsides(at)
  local sides = {}
  while at <= #ARGV do
    local side, keys = {names = {}}, {}
    for i = 1, 8 do
      -- Replies are kept in the own partition alone.
      if i == 4 then keys[i] = false else keys[i], at = ARGV[at], at + 1 end
    end
    local last = at + tonumber(ARGV[at])
    side.keys, side.parts = keys, readparts(at + 1, last)
    for k = 1, #side.parts do side.names[k] = ARGV[last + k] end
    at = last + #side.parts + 1
    sides[#sides + 1] = side
  end
  return sides
end

-- Whether a directory that has its mark here is made already: another partition of this transaction has it.
local function ismade(sides, ino)
  for _, side in ipairs(sides) do
    for _, part in ipairs(side.parts) do
      if tonumber(part[2]) == ino and redis.call('HEXISTS', side.keys[1], part[2]) == 1 then return true end
    end
  end
end

local known = before()
if known then return known end
local last = 8 + tonumber(ARGV[8])
local parts, sides = readparts(9, last), readsides(last + 1)
for _, side in ipairs(sides) do
  if not ishere(side.keys[5]) then return {17, 1} end
end
-- Who took the lease of a move from us has aborted it.
if redis.call('HGET', KEYS[9], ARGV[7]) == 'A' then return {8} end
for k, part in ipairs(parts) do
  local no = checkpart(part, KEYS[9 + k])
  if no and no[1] == 14 and ismade(sides, no[2]) then
    isborn[no[2]] = true
    no = checkpart(part, KEYS[9 + k])
  end
  if no then
    if no == RETRY and part[1] == 'P' and part[8] == '0' then return {EEXIST} end
    return no
  end
end
local mine, away = delegated, nil
for _, side in ipairs(sides) do
  KEYS = side.keys
  local found = redis.call('HMGET', KEYS[2], 'F', 'D', 'C')
  delegated, side.counting = found[2], found[3]
  if isfrozen(found[1]) then away = {17, 0} end
  for k, part in ipairs(side.parts) do away = away or checkpart(part, side.names[k]) end
  if not away and recall() then away = {17, 0} end
  KEYS = own
  if away then return (away[1] < 0 or away == RETRY) and away or {17, 0} end
end
delegated = mine
local others = recall()
if others then return others end
local reply = {0}
local function apply(list, names)
  for k, part in ipairs(list) do
    local record = applypart(part, names[k])
    if record then
      reply[#reply + 1] = tonumber(part[2])
      reply[#reply + 1] = record
    end
  end
end
local mycounting = counting
for _, side in ipairs(sides) do
  KEYS, counting = side.keys, side.counting
  apply(side.parts, side.names)
  publish()
  events = ''
end
KEYS, counting = own, mycounting
for ino in pairs(isborn) do redis.call('HDEL', KEYS[2], 'b' .. text(ino)) end
local names = {}
for k = 1, #parts do names[k] = KEYS[9 + k] end
apply(parts, names)
return after(reply)
