-- include: history
-- Counters begin in the history of the server of now, if they have no number yet (lib/history.lua). KEYS: 1 counters. 1
if redis.call('HLEN', KEYS[1]) == 0 then newhistory(KEYS[1]) end
return 1
