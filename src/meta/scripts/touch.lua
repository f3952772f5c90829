-- include: inode locks freeze counts mutate
-- oom: allowed
-- Access times after reads. Only where the inode still has the time that the reader saw: who set another one meant it.
-- ARGV: 7… for each: ino, its access time (sec, nsec) before, the new one (sec, nsec). 0
local known = before()
if known then return known end
for at = 7, #ARGV, 5 do
  local ino = tonumber(ARGV[at])
  local n = load(ino)
  if n and n.as == tonumber(ARGV[at + 1]) and n.an == tonumber(ARGV[at + 2]) then
    n.as, n.an = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
    save(ino, n)
    emit(12, ino)
  end
end
return after({0})
