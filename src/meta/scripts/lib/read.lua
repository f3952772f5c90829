-- Scripts that only read. KEYS: 1 inodes, 2 locks, then the script's own.
-- ARGV[1]: transactions known to be undecided, whose locks are looked through: what was before them is the truth still.
local pending = {}
for tx in string.gmatch(ARGV[1], '%S+') do pending[tx] = true end
