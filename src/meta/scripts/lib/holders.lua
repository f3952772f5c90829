-- Who uses a chunk that was ever cloned (clone.ts): one after the other u56 ino, u32 window, u32 data version.
local HOLDER = 15

-- Where holder `who` (its ino and window, packed) stands in a record, or nil.
local function holderat(rec, who)
  local at = 1
  while true do
    at = string.find(rec, who, at, true)
    if not at or (at - 1) % HOLDER == 0 then return at end
    at = at + 1
  end
end
