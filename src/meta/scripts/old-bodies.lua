-- include: inode freeze
-- oom: allowed
-- Some files of the partition, taken by chance, whose bodies may be moved into chunks: nobody has them open, or has changed them lately.
-- KEYS: 1 inodes, 2 locks, 3 open. ARGV: 1 who asks, 2 for so many seconds, 3 fields to look at, 4 about so many bytes are answered
-- {ino, record, body, …}; '' for the body where extents lie above it. None while the partition is frozen, or another session holds its
-- delegation: it uses these files, and would have to give it back.
local BODY_MIN, HELD_HEAD, HELD_ENTRY, HELD_MS = 128, 15, 16, 3000
local found = redis.call('HMGET', KEYS[2], 'F', 'D')
if isfrozen(found[1]) then return {} end
local now, held = nowms(), found[2] or ''
-- lib/mutate.lua has the layout. What is further ahead than it is ever put is of a clock that was set back.
if #held % HELD_ENTRY == HELD_HEAD then
  for at = HELD_HEAD + 1, #held, HELD_ENTRY do
    local session, _, ends = struct.unpack('<I4I6I6', held, at)
    if session ~= tonumber(ARGV[1]) and ends > now and ends <= now + HELD_MS then return {} end
  end
end
local oldest, most = now / 1000 - tonumber(ARGV[2]), tonumber(ARGV[4])
local reply, bytes = {}, 0
for _, field in ipairs(redis.call('HRANDFIELD', KEYS[1], ARGV[3])) do
  if bytes >= most then break end
  if string.sub(field, 1, 1) == 'b' then
    local ino = string.sub(field, 2)
    local n, rec = load(ino)
    -- A shorter one takes hardly more than the extent that would come in its place.
    if n and n.nlink > 0 and n.cs < oldest and redis.call('HSTRLEN', KEYS[1], field) >= BODY_MIN
      and redis.call('HEXISTS', KEYS[3], ino) == 0 then
      local body = n.win == 0 and n.tk == 0 and redis.call('HGET', KEYS[1], field) or ''
      reply[#reply + 1], reply[#reply + 2], reply[#reply + 3] = tonumber(ino), rec, body
      bytes = bytes + #rec + #body
    end
  end
end
return reply
