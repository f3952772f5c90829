import t from 'tap'
import type { RedisValue } from '../../../src/cluster/contract.js'
import { CommandBuffer, NO_PREFIX, ProtocolError, ReplyReader, encodePrefix } from '../../../src/cluster/resp.js'

function drained(buffer: CommandBuffer): string {
  let text = ''
  buffer.drain((bytes) => {
    text = bytes.toString('latin1')
    return true
  })
  return text
}

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

t.test('a command is an array of bulk strings, whatever its arguments are', (t) => {
  const buffer = new CommandBuffer()
  buffer.add(NO_PREFIX, ['SET', 'k'], [Buffer.from([0, 13, 10, 255])])
  t.equal(drained(buffer), '*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\n\0\r\n\xff\r\n')
  buffer.add(NO_PREFIX, [0, 9, 10, 99, 100, 1_234_567_890_123, 2 ** 53 - 1, -5, 1.5, ''])
  const numbers = ['0', '9', '10', '99', '100', '1234567890123', '9007199254740991', '-5', '1.5', '']
  t.equal(drained(buffer), `*10\r\n${numbers.map((text) => `$${text.length}\r\n${text}\r\n`).join('')}`)
  for (const text of ['ä', `${'x'.repeat(63)}ß`, 'x'.repeat(200), 'ü'.repeat(70_000)]) {
    buffer.add(NO_PREFIX, [text])
    const bytes = Buffer.from(text)
    t.equal(drained(buffer), `*1\r\n$${bytes.length}\r\n${bytes.toString('latin1')}\r\n`)
  }
  t.end()
})

t.test('a prefix is as if its arguments were given each time, and commands stand behind each other', (t) => {
  const buffer = new CommandBuffer()
  buffer.add(encodePrefix('EVALSHA', 'abc', 1), ['{k}'], [7])
  buffer.add(NO_PREFIX, ['PING'])
  t.equal(
    drained(buffer),
    '*5\r\n$7\r\nEVALSHA\r\n$3\r\nabc\r\n$1\r\n1\r\n$3\r\n{k}\r\n$1\r\n7\r\n*1\r\n$4\r\nPING\r\n',
  )
  t.equal(buffer.length, 0)
  t.end()
})

t.test('memory that the socket still reads is not written to', (t) => {
  const buffer = new CommandBuffer()
  buffer.add(NO_PREFIX, ['A'])
  const kept: Buffer[] = []
  buffer.drain((bytes) => {
    kept.push(bytes)
    return false
  })
  buffer.add(NO_PREFIX, ['B'])
  t.equal(String(kept[0]), '*1\r\n$1\r\nA\r\n')
  t.end()
})

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
