import t from 'tap'
import { CommandBuffer, NO_PREFIX, encodePrefix } from '../../../src/cluster/resp-commands.js'

function drained(buffer: CommandBuffer): string {
  let text = ''
  buffer.drain((bytes) => {
    text = bytes.toString('latin1')
    return true
  })
  return text
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
