-- include: history
-- Counters begin in the history of the server of now, if they have no number yet (lib/history.lua). The fence of a restore that was given up is
-- none. KEYS: 1 counters. 1
if redis.call('HLEN', KEYS[1]) == redis.call('HEXISTS', KEYS[1], 'restore') then newhistory(KEYS[1]) end
return 1
