-- include: freeze counts
-- oom: allowed
-- Some inodes more are counted (lib/counts.lua). KEYS: 1 inodes, 2 locks, 3 counters
-- ARGV: 1 who, 2 newest ino when it began, 3 for so many ms more, 4 ino up to which it has counted, 5 up to which it will have, 6… those
-- between that may be there
-- up to which it has counted now: no further than before, if that was another (a reply was lost, or a failover has lost pages); inodes, bytes, inline that were
-- counted, and these counters; 1 if every change of them came through count(), else 0 | -1: somebody else counts, or the time was over
local HEAD, ALLOCATED = 70, 24
local v, who = readcounting(redis.call('HGET', KEYS[2], 'C'))
if who ~= ARGV[1] or v[2] ~= tonumber(ARGV[2]) then return {-1} end
if v[3] == tonumber(ARGV[4]) then
  for at = 6, #ARGV do
    local rec = redis.call('HGET', KEYS[1], ARGV[at])
    -- Else it is torn: nobody knows of how much.
    if rec and #rec >= HEAD and string.byte(rec) == 1 then
      v[4], v[5] = v[4] + 1, v[5] + struct.unpack('<I7', rec, ALLOCATED)
    end
    v[6] = v[6] + redis.call('HSTRLEN', KEYS[1], 'b' .. ARGV[at])
  end
  v[3] = tonumber(ARGV[5])
end
v[1] = nowms() + tonumber(ARGV[3])
savecounting(v, who)
local inodes, bytes, inline = countersnow()
local isexpected = inodes == v[7] and bytes == v[8] and inline == v[9]
return {v[3], v[4], v[5], v[6], inodes, bytes, inline, isexpected and 1 or 0}
