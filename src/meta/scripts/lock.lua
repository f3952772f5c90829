-- include: inode locks freeze counts mutate filelocks grants
-- KEYS: 9 file locks. ARGV: 7 ino, 8 kind, 9 type, 10 start, 11 end, 12 owner, 13 pid, 14 ticket (0: do not wait), 15 pushes
-- 0, record (granted) | 10, blocker ('': out of courtesy only) (it waits)
local known = before()
if known then return known end
local ino, ticket, pushes = ARGV[7], tonumber(ARGV[14]), tonumber(ARGV[15])
local rec = redis.call('HGET', KEYS[1], ino)
if not rec then return {ENOENT} end
local held, queue = loadlocks(ino)
local mine = {ARGV[8], ARGV[9], ARGV[10], ARGV[11], tonumber(ARGV[1]), ARGV[12], tonumber(ARGV[13]), ticket, pushes, ''}
-- One that asks again keeps its place.
local place, earlier = #queue + 1, {}
for i, w in ipairs(queue) do
  if w[SESSION] == mine[SESSION] and w[TICKET] == ticket then
    place = i
    table.remove(queue, i)
    break
  end
end
for i = 1, place - 1 do earlier[i] = queue[i] end
local gave = false
if mine[KIND] == 'f' then
  -- flock(2): to convert a lock is to give it up first.
  for i, h in ipairs(held) do
    if sameowner(h, mine) then
      if h[TYPE] == mine[TYPE] then return after({0, rec}) end
      table.remove(held, i)
      gave = true
      break
    end
  end
end
local by = firstconflict(mine, held)
if not by and (ticket == 0 or pushes == 1 or not firstconflict(mine, earlier)) then
  if #held >= HELD_MAX then return {ENOLCK} end
  held, queue = grantall(ino, apply(held, mine), queue)
  savelocks(ino, held, queue)
  return after({0, rec})
end
if ticket == 0 then
  if not gave then return {EAGAIN} end
  held, queue = grantall(ino, held, queue)
  savelocks(ino, held, queue)
  return after({EAGAIN})
end
if #queue >= QUEUE_MAX then return {ENOLCK} end
mine[BLOCKER] = whois(by)
table.insert(queue, place, mine)
if gave then held, queue = grantall(ino, held, queue) end
savelocks(ino, held, queue)
return after({10, mine[BLOCKER]})
