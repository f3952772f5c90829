-- include: inode
-- oom: allowed
-- Which chunks windows name. KEYS: 1 inodes, 2… extents of each window. ARGV: for each: ino, window, chunk ids, u56 each
-- For each: data version (-1: no such inode), the ids of those that it names. Of the first ones only, at least one, if they have very many
-- extents.
local STEP_BYTES = 16384 * 53
local reply, bytes = {}, 0
for at = 1, #ARGV, 3 do
  if bytes > STEP_BYTES then break end
  local n, found = load(ARGV[at]), {}
  if n then
    local extents
    if ARGV[at + 1] == '0' and n.tk == 1 then extents = n.tail
    else extents = string.sub(redis.call('GET', KEYS[2 + (at - 1) / 3]) or '', 5) end
    bytes = bytes + #extents
    local wanted = {}
    for i = 1, #ARGV[at + 2], 7 do wanted[string.sub(ARGV[at + 2], i, i + 6)] = true end
    for i = 1, #extents, 53 do
      local id = string.sub(extents, i + 8, i + 14)
      if wanted[id] then
        wanted[id] = nil
        found[#found + 1] = id
      end
    end
  end
  reply[#reply + 1] = n and n.dv or -1
  reply[#reply + 1] = table.concat(found)
end
return reply
