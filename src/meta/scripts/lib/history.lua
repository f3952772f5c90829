-- Numbers are never given twice, not by a server either that does not know the last ones that were: a replica that took its
-- master's place, or a server that lost the end of its file. Such a server has begun a history of its own (master_replid of
-- INFO), whatever it was before.
-- true once in each history: the counters in the hash `key` have to skip more than can have been lost.
local function newhistory(key)
  local id = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
  if redis.call('HGET', key, 'h') == id then return false end
  redis.call('HSET', key, 'h', id)
  return true
end
