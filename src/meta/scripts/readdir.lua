-- include: inode locks read
-- KEYS: 3 names. ARGV: 2 ino, 3 score to start at, 4 limit, 5 1 with records, 6 partitions, 7 name of this score to start behind, or nothing
-- 0, {member, ...}, {record or false, ...}, {ino, what makes it, ...} (directories among them whose inodes are still to be made:
-- births.ts). Fewer members than the limit: the end.
-- Work: the limit, and the locks of this partition (as many as transactions are under way).
local ino = tonumber(ARGV[2])
local dir = load(ino)
if not dir then return {ENOENT} end
if dir.type ~= DIR then return {ENOTDIR} end
local prefix, births = 'd' .. ARGV[2] .. '/', {}
if redis.call('HLEN', KEYS[2]) > 0 then
  local all = redis.call('HGETALL', KEYS[2])
  for i = 1, #all, 2 do
    if string.sub(all[i], 1, #prefix) == prefix and not pending[all[i + 1]] then return locked(all[i + 1]) end
    if string.sub(all[i], 1, 1) == 'b' then births[tonumber(string.sub(all[i], 2))] = all[i + 1] end
  end
end
local members = entriesbehind(KEYS[3], ARGV[7], ARGV[3], ARGV[4])
local records, unborn = {}, {}
if next(births) then
  for _, m in ipairs(members) do
    local child = struct.unpack('<I7', m, #m - 7)
    if births[child] then
      unborn[#unborn + 1] = child
      unborn[#unborn + 1] = births[child]
    end
  end
end
if ARGV[5] == '1' then
  local partitions, home = tonumber(ARGV[6]), ino % tonumber(ARGV[6])
  for i, m in ipairs(members) do
    local child = struct.unpack('<I7', m, #m - 7)
    records[i] = child % partitions == home and redis.call('HGET', KEYS[1], child) or false
  end
end
return {0, members, records, unborn}
