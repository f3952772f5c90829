-- include: inode holders
-- oom: allowed
-- Holders go, if they are what they were when they were looked at. KEYS: 1 holders of chunks. ARGV: for each: chunk id,
-- discard|intent, the window, what was seen: none (no record), absent (another's), or the holder's data version.
-- For each: 0 the chunk stays, 1 nobody holds it: delete it, 2 look again
local answers = {}
for at = 1, #ARGV, 4 do
  local id, seen, answer = ARGV[at], ARGV[at + 3], 2
  local rec = redis.call('HGET', KEYS[1], id)
  if not rec then
    if seen == 'none' then answer = ARGV[at + 1] == 'discard' and 1 or 0 end
  elseif rec == '' then
    answer = 1
  else
    local pos = holderat(rec, ARGV[at + 2])
    if not pos then
      answer = 0
    elseif seen ~= 'none' and seen ~= 'absent' and struct.unpack('<I4', rec, pos + 11) == tonumber(seen) then
      -- An empty record stays until the chunk is deleted: nobody becomes its holder any more.
      rec = string.sub(rec, 1, pos - 1) .. string.sub(rec, pos + HOLDER)
      redis.call('HSET', KEYS[1], id, rec)
      answer = rec == '' and 1 or 0
    end
  end
  answers[#answers + 1] = answer
end
return answers
