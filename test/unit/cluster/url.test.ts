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

t.test('a META_URL names a user, TLS and files', async (t) => {
  t.strictSame(parseMetaUrl('rediss://ann:x@h/v'), {
    hosts: [{ host: 'h', port: 6379 }],
    user: 'ann',
    password: 'x',
    volume: 'v',
    tls: {},
  })
  const whole = 'rediss://a%40b:@h:1/v?ca=/c a&cert=/c%26b&key=/k&name=redis.example&password-file=/p%40x'
  const { tls, user, passwordFile, password } = parseMetaUrl(whole)
  t.strictSame(tls, { caFile: '/c a', certFile: '/c&b', keyFile: '/k', name: 'redis.example' })
  t.same([user, passwordFile, password], ['a@b', '/p@x', undefined])
  t.equal(parseMetaUrl('redis://:what?ca=1@h/v').password, 'what?ca=1', 'a password may hold what looks like a query')
  t.strictSame(parseMetaUrl('redis://h/v?password-file=/p'), {
    hosts: [{ host: 'h', port: 6379 }],
    volume: 'v',
    passwordFile: '/p',
  })
})

t.test('formatMetaUrl is the inverse, and the redacted form hides the password', async (t) => {
  const text = 'redis://:a%2Fb%25@h:1,[::1]:2/vol'
  t.equal(formatMetaUrl(parseMetaUrl(text)), text)
  t.equal(formatMetaUrlRedacted(parseMetaUrl(text)), 'redis://:***@h:1,[::1]:2/vol')
  t.equal(formatMetaUrlRedacted(parseMetaUrl('redis://h:1/v')), 'redis://h:1/v')
  for (const one of [
    'rediss://h:1/v',
    'redis://ann:@h:1/v?password-file=/p%25',
    'rediss://ann:x@h:1/v?ca=/c%20a&cert=/c%26b&key=/k&name=n',
  ]) {
    t.strictSame(formatMetaUrl(parseMetaUrl(one)), one)
  }
  t.equal(formatMetaUrlRedacted(parseMetaUrl('rediss://ann:x@h:1/v?ca=/c')), 'rediss://ann:***@h:1/v?ca=/c')
})

t.test('a wrong META_URL is a USAGE error in one line that does not show the password', async (t) => {
  const wrong = [
    '',
    'http://h/v',
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
    'redis://us er:secret@h/v',
    'redis://us%zz:secret@h/v',
    'redis://h/v?',
    'redis://h/v?other=1',
    'redis://h/v?ca=/c',
    'rediss://h/v?ca=relative',
    'rediss://h/v?cert=/c',
    'redis://h/v?password-file=secret%zz',
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
