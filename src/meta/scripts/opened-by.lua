-- One page of the inodes that a session has open. KEYS: 1 open. ARGV: 1 session, 2 cursor. next cursor, {ino, …}
local me = struct.pack('<I4', tonumber(ARGV[1]))
local page = redis.call('HSCAN', KEYS[1], ARGV[2], 'COUNT', 256)
local inos = {}
for i = 1, #page[2], 2 do
  local list = page[2][i + 1]
  for at = 1, #list, 4 do
    if string.sub(list, at, at + 3) == me then inos[#inos + 1] = tonumber(page[2][i]) end
  end
end
return {page[1], inos}
