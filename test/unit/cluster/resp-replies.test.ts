import t from 'tap'
import type { RedisValue } from '../../../src/cluster/contract.js'
import { ProtocolError, ReplyReader } from '../../../src/cluster/resp-replies.js'

interface Seen {
  readonly replies: RedisValue[]
  readonly errors: string[]
  readonly pushes: (readonly RedisValue[])[]
}

function reader(): { readonly reader: ReplyReader; readonly seen: Seen } {
  const seen: Seen = { replies: [], errors: [], pushes: [] }
  const listener = {
    onReply: (value: RedisValue) => void seen.replies.push(value),
    onError: (error: Error) => void seen.errors.push(error.message),
    onPush: (values: readonly RedisValue[]) => void seen.pushes.push(values),
  }
  return { reader: new ReplyReader(listener), seen }
}

const REPLIES = Buffer.from(
  '+OK\r\n:12\r\n:-7\r\n$-1\r\n*-1\r\n$0\r\n\r\n$4\r\na\r\nb\r\n*0\r\n' +
    '*3\r\n:0\r\n*2\r\n$1\r\nx\r\n$-1\r\n:5\r\n-ERR no\r\n*2\r\n:1\r\n-ERR inside\r\n' +
    '>3\r\n$8\r\nsmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n%1\r\n+k\r\n:1\r\n#t\r\n_\r\n,1.5\r\n=7\r\ntxt:abc\r\n!5\r\nERR b\r\n:9\r\n',
  'latin1',
)
const text = (of: string): Buffer => Buffer.from(of)
const EXPECTED: Seen = {
  replies: [
    ...[text('OK'), 12, -7, null, null, text(''), text('a\r\nb'), [], [0, [text('x'), null], 5]],
    ...[[text('k'), 1], 1, null, text('1.5'), text('abc'), 9],
  ],
  errors: ['ERR no', 'ERR inside', 'ERR b'],
  pushes: [[text('smessage'), text('c'), text('hi')]],
}

t.test('replies are the same in whatever pieces they come', (t) => {
  for (let size = 1; size <= REPLIES.length; size++) {
    const { reader: one, seen } = reader()
    const piece = Buffer.alloc(size)
    for (let at = 0; at < REPLIES.length; at += size) {
      // The socket reads into the same memory again.
      const length = REPLIES.copy(piece, 0, at, at + size)
      one.push(piece.subarray(0, length))
    }
    piece.fill(0xee)
    t.strictSame(seen, EXPECTED, `pieces of ${size}`)
  }
  t.end()
})

t.test('a long string in many pieces arrives whole', (t) => {
  const { reader: one, seen } = reader()
  const long = Buffer.alloc(3_000_000, 'abc')
  const whole = Buffer.concat([Buffer.from(`*2\r\n$${long.length}\r\n`), long, Buffer.from('\r\n:1\r\n:2\r\n')])
  for (let at = 0; at < whole.length; at += 65_536) one.push(whole.subarray(at, at + 65_536))
  t.strictSame(seen.replies, [[long, 1], 2])
  t.end()
})

t.test('what is no RESP is refused, never waited for', (t) => {
  for (const bad of ['HTTP/1.1 400\r\n', '$x\r\n', ':\r\n', '$-2\r\n', '*99999999999\r\n', '*1\r\n'.repeat(100)]) {
    t.throws(() => reader().reader.push(Buffer.from(bad)), ProtocolError, JSON.stringify(bad))
  }
  t.end()
})
