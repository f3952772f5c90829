-- include: inode locks read
-- The first windows from ARGV[3] on that have extents, at most ARGV[4]. KEYS: 3 windows. ARGV: 2 ino, 3 from, 4 limit
-- 0, record, {window, …}
local n, rec = load(ARGV[2])
if not n then return {ENOENT} end
if n.type ~= FILE then return {EINVAL} end
local from, limit, found = tonumber(ARGV[3]), tonumber(ARGV[4]), {}
if (n.tk == 1 or n.body == 1) and from == 0 then found[1], from = 0, 1 end
if n.win == 1 then
  for _, w in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], from, '+inf', 'LIMIT', 0, limit - #found)) do
    found[#found + 1] = tonumber(w)
  end
end
return {0, rec, found}
