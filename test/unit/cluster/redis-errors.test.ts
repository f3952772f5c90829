import t from 'tap'
import { LinkLostError, classify, finalError } from '../../../src/cluster/redis-errors.js'

t.test('error replies are told apart by their code', async (t) => {
  const cases: [string, string][] = [
    ['TRYAGAIN Multiple keys request during rehashing of slot', 'wait'],
    ['CLUSTERDOWN The cluster is down', 'wait'],
    ['LOADING Redis is loading the dataset in memory', 'wait'],
    ["READONLY You can't write against a read only replica.", 'wait'],
    ['MASTERDOWN Link with MASTER is down', 'wait'],
    ['BUSY Redis is busy running a script.', 'wait'],
    ['BUSYGROUP Consumer Group name already exists', 'refused'],
    ['NOREPLICAS Not enough good replicas to write.', 'wait'],
    ['NOSCRIPT No matching script.', 'noscript'],
    ["OOM command not allowed when used memory > 'maxmemory'. script: abc, on @user_script:1.", 'full'],
    ['MISCONF Errors writing to the AOF file: No space left on device', 'full'],
    ['MISCONF Errors writing to the AOF file: Input/output error', 'wait'],
    ['NOAUTH Authentication required.', 'auth'],
    ['WRONGPASS invalid username-password pair or user is disabled.', 'auth'],
    ['NOPERM this user has no permissions', 'auth'],
    ['WRONGTYPE Operation against a key holding the wrong kind of value', 'refused'],
    ['ERR unknown command', 'refused'],
    ['', 'refused'],
  ]
  for (const [text, kind] of cases) t.equal(classify(new Error(text)).kind, kind, text)
  t.equal(classify(new LinkLostError('OOM is not what it says')).kind, 'lost')
  t.strictSame(classify(new Error('MOVED 3999 127.0.0.1:6381')), {
    kind: 'moved',
    slot: 3999,
    address: '127.0.0.1:6381',
  })
  t.strictSame(classify(new Error('ASK 3999 127.0.0.1:6381')), { kind: 'ask', slot: 3999, address: '127.0.0.1:6381' })
})

t.test('what is not retried becomes ENOSPC, REDIS_AUTH or INTERNAL', async (t) => {
  t.match(finalError('full', new Error('OOM x'), 'h:1', 'SET'), { name: 'PosixError', code: 'ENOSPC' })
  t.match(finalError('auth', new Error('NOAUTH x'), 'h:1', 'SET'), { code: 'REDIS_AUTH', message: /h:1.*password/ })
  t.match(finalError('refused', new Error('ERR x'), 'h:1', 'SET'), {
    code: 'INTERNAL',
    message: 'Redis at h:1 refused SET: ERR x',
  })
})
