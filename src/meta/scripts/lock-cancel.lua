-- include: inode locks freeze counts mutate filelocks grants
-- oom: allowed
-- A waiter waits no longer. KEYS: 9 file locks. ARGV: 7 ino, 8 ticket. 0, 1 | 0, 0 (it did not wait: it has the lock, or
-- never asked)
local known = before()
if known then return known end
local held, queue = loadlocks(ARGV[7])
local session, ticket = tonumber(ARGV[1]), tonumber(ARGV[8])
for i, w in ipairs(queue) do
  if w[SESSION] == session and w[TICKET] == ticket then
    table.remove(queue, i)
    -- Others may have waited only because this one came before.
    held, queue = grantall(ARGV[7], held, queue)
    savelocks(ARGV[7], held, queue)
    return after({0, 1})
  end
end
return {0, 0}
