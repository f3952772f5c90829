-- include: inode locks freeze counts mutate unborn parts
-- oom: allowed
-- The commit point: all parts of this partition are checked and done, and the decision is written, or nothing is.
-- KEYS: 9 decisions, 10… names of each part. ARGV: 7 tx, 8 1 if others take part, 9… parts
-- 0, number and record of each directory in which a name changed | 8 aborted by somebody
local known = before()
if known then return known end
local tx, parts = ARGV[7], readparts(9)
if redis.call('HGET', KEYS[9], tx) == 'A' then return {8} end
for k, part in ipairs(parts) do
  local no = checkpart(part, KEYS[9 + k])
  if no then
    if no == RETRY and part[1] == 'P' and part[8] == '0' then return {EEXIST} end
    return no
  end
end
local others = recall()
if others then return others end
local reply = {0}
for k, part in ipairs(parts) do
  local record = applypart(part, KEYS[9 + k])
  if record then
    reply[#reply + 1] = tonumber(part[2])
    reply[#reply + 1] = record
  end
end
if ARGV[8] == '1' then redis.call('HSET', KEYS[9], tx, 'C') end
return after(reply)
