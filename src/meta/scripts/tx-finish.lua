-- include: inode locks freeze counts mutate unborn parts
-- oom: allowed
-- What was prepared here is done (C) or dropped (A). Anybody may call it who asked the commit point; the second time it
-- does nothing. KEYS: 9… names of each part. ARGV: 7 tx, 8 C|A. 0
local known = before()
if known then return known end
local tx = ARGV[7]
local rec = redis.call('HGET', KEYS[2], 't' .. tx)
if not rec then return {0} end
local t = cmsgpack.unpack(rec)
sec, nsec = t[3], t[4]
-- It is its owner's change. Who ends it for him has to be told like all others; so has the owner, who may not know that it was done.
if string.match(tx, '^%d+') ~= ARGV[1] then publisher = 0 end
for k, part in ipairs(t[5]) do
  redis.call('HDEL', KEYS[2], fieldof(part))
  if ARGV[8] == 'C' then applypart(part, KEYS[8 + k])
  elseif part[1] == 'N' then sweep(tonumber(part[2])) end
end
redis.call('HDEL', KEYS[2], 't' .. tx)
return after({0})
