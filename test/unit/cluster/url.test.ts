import t from 'tap'
import { hasCode } from '../../../src/base/errors.js'
import { formatMetaUrl, formatMetaUrlRedacted, parseMetaUrl } from '../../../src/cluster/url.js'

t.test('a META_URL gives hosts, password and volume', async (t) => {
  t.strictSame(parseMetaUrl('redis://127.0.0.1:7000/home'), {
    hosts: [{ host: '127.0.0.1', port: 7000 }],
    volume: 'home',
  })
  t.strictSame(parseMetaUrl('redis://:s%40cret@a:1,b,[::1]:3/v.1-x_'), {
    hosts: [
      { host: 'a', port: 1 },
      { host: 'b', port: 6379 },
      { host: '::1', port: 3 },
    ],
    password: 's@cret',
    volume: 'v.1-x_',
  })
  t.equal(parseMetaUrl('redis://:p/w@d@h/v').password, 'p/w@d', 'a password may hold / and @')
  t.equal(parseMetaUrl('redis://default:x@h/v').password, 'x')
})

t.test('formatMetaUrl is the inverse, and the redacted form hides the password', async (t) => {
  const text = 'redis://:a%2Fb%25@h:1,[::1]:2/vol'
  t.equal(formatMetaUrl(parseMetaUrl(text)), text)
  t.equal(formatMetaUrlRedacted(parseMetaUrl(text)), 'redis://:***@h:1,[::1]:2/vol')
  t.equal(formatMetaUrlRedacted(parseMetaUrl('redis://h:1/v')), 'redis://h:1/v')
})

t.test('a wrong META_URL is a USAGE error in one line that does not show the password', async (t) => {
  const wrong = [
    '',
    'http://h/v',
    'rediss://h/v',
    'redis://h',
    'redis://h/',
    'redis:///v',
    'redis://h/a b',
    'redis://h/a/b',
    'redis://h/{x}',
    `redis://h/${'v'.repeat(65)}`,
    'redis://h:0/v',
    'redis://h:65536/v',
    'redis://h:x/v',
    'redis://h:/v',
    'redis://h,,i/v',
    'redis://[zz]:1/v',
    'redis://::1/v',
    'redis://user:secret@h/v',
    'redis://:secret%zz@h/v',
    'redis://secret@h/v',
  ]
  for (const text of wrong) {
    try {
      parseMetaUrl(text)
      t.fail(`accepted ${text}`)
    } catch (error) {
      t.ok(hasCode(error, 'USAGE'), text)
      t.notMatch(String(error), /secret|\n/)
    }
  }
})
