-- include: inode locks freeze counts mutate holders
-- Windows become holders of chunks. KEYS: 9 holders of chunks. ARGV: 7 most holders of a chunk, then for each: chunk id,
-- the window that is cloned, its file's data version, the window it is cloned into, its file's data version.
-- 0 | 3 one of the chunks is being deleted, or has too many holders: nothing was done
local known = before()
if known then return known end
local records = {}
for at = 8, #ARGV, 5 do
  local id = ARGV[at]
  local rec = records[id] or redis.call('HGET', KEYS[9], id)
  if rec == '' then return {3} end
  -- Without a record the window that is cloned is the one that the chunk was written for.
  if not rec then rec = ARGV[at + 1] .. struct.pack('<I4', tonumber(ARGV[at + 2])) end
  local pos, version = holderat(rec, ARGV[at + 3]), tonumber(ARGV[at + 4])
  if not pos then
    rec = rec .. ARGV[at + 3] .. struct.pack('<I4', version)
  elseif (version - struct.unpack('<I4', rec, pos + 11)) % 4294967296 < 2147483648 then
    -- It only rises: of two that clone into a window, only the one who read the later version can commit.
    rec = string.sub(rec, 1, pos + 10) .. struct.pack('<I4', version) .. string.sub(rec, pos + HOLDER)
  end
  if #rec > tonumber(ARGV[7]) * HOLDER then return {3} end
  records[id] = rec
end
for id, rec in pairs(records) do redis.call('HSET', KEYS[9], id, rec) end
return after({0})
