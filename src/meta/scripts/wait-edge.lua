-- Who waits for whom, of fcntl locks, in the whole volume. An edge is a hint: it may be older than the truth.
-- KEYS: 1 waits: session.owner -> {{ticket, ino, session.owner it waits for}, …}, 2 who the sessions are
-- ARGV: 1 who waits, 2 ticket, 3 ino, 4 for whom, 5 most steps, 6 session. Sets the edge, and follows the edges from there.
-- A copy of a request that comes after its session has ended sets nothing: nobody would take it away again.
-- {} | the edges of a circle that the new one closes: who, ticket, ino, for whom, …
local function edges(who)
  local rec = redis.call('HGET', KEYS[1], who)
  return rec and cmsgpack.unpack(rec) or {}
end
if redis.call('HEXISTS', KEYS[2], ARGV[6]) == 0 then return {} end
local me, ticket, ino, to = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local mine = {{ticket, ino, to}}
for _, e in ipairs(edges(me)) do
  if e[1] ~= ticket then mine[#mine + 1] = e end
end
redis.call('HSET', KEYS[1], me, cmsgpack.pack(mine))
local from, todo, steps = {[to] = {me, ticket, ino, to}}, {to}, tonumber(ARGV[5])
while #todo > 0 and not from[me] and steps > 0 do
  local at = table.remove(todo)
  steps = steps - 1
  for _, e in ipairs(edges(at)) do
    if not from[e[3]] then
      from[e[3]] = {at, e[1], e[2], e[3]}
      todo[#todo + 1] = e[3]
    end
  end
end
local circle, at = {}, me
if not from[me] then return circle end
repeat
  local e = from[at]
  for i = 1, 4 do circle[#circle + 1] = e[i] end
  at = e[1]
until at == me
return circle
