-- oom: allowed
-- The history of the server that has the key: another one after a failover, and after each start. KEYS: 1 any
return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
