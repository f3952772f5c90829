-- Several partitions of one server in one script. Included before all others: what they call KEYS is the partition that is looked at
-- just now.
-- A script is not undone when it fails. So before the first write it is made sure that every slot is served here and is not on its way
-- anywhere; nothing that it calls can fail behind that. Redis does not change that while a script runs.
local KEYS = KEYS
local own = KEYS

-- Whether the slot of this key, which is none that ever exists, is here and stays: one that is being moved away is asked for elsewhere
-- when a key is not there, and one that is coming is not served. (A request with ASKING would be; but that never gets as far as a script
-- whose declared keys are not all there: TRYAGAIN.)
local function ishere(nokey)
  return redis.pcall('EXISTS', nokey) == 0
end
