/**
 * Decoders of what others have written, given anything at all and damaged good things: an answer or a clear error, at once,
 * and memory only for what has come. Files are in files.test.ts; chunk prefixes, frames, messages, ACLs,
 * mount options and FUSE requests have the same beside their own tests.
 */
import fc from 'fast-check'
import t from 'tap'
import { silentLog } from '../../../src/base/log.js'
import { decodeTask, encodeTask } from '../../../src/cluster/queue-task.js'
import { classify } from '../../../src/cluster/redis-errors.js'
import { parseSlots } from '../../../src/cluster/redis-topology.js'
import { decodeReport } from '../../../src/cluster/report.js'
import { ProtocolError, ReplyReader } from '../../../src/cluster/resp-replies.js'
import { parseMetaUrl } from '../../../src/cluster/url.js'
import { decodeEvents } from '../../../src/meta/events.js'
import {
  decodeBody,
  decodeClaim,
  decodeDirent,
  decodeExtents,
  decodeInode,
  encodeBody,
  encodeExtents,
  INODE_HEAD_BYTES,
} from '../../../src/meta/records.js'
import { CHUNK_METHODS } from '../../../src/rpc/messages-chunk.js'
import { FILE_METHODS } from '../../../src/rpc/messages-file.js'
import { parseKeys } from '../../../src/rpc/key-ring.js'
import { damage, damaged, isClear, staysClear } from '../../helpers/damage.js'
import { propertyRun } from '../../helpers/property.js'

t.setTimeout(300_000)

type Decode = (bytes: Buffer) => unknown

const root = Buffer.alloc(32, 7)
const chunk = { id: 9, lengthBytes: 5000, root }
const extents = encodeExtents([{ fileOffset: 3, lengthBytes: 4000, chunkOffset: 1000, chunk }], 0)
/** Version, type and tail kind, and zeros. */
const inodes = [0, 1, 2, 5].flatMap((type) =>
  [0, 1, 2, 3].map((tail) => Buffer.from([1, type | (tail << 4), ...Buffer.alloc(INODE_HEAD_BYTES + 5)])),
)
const event = Buffer.from([9, 0, 0, 0, 3, 5, 0, 0, 0, 0, 0, 0, 2, 0x61, 0x62, 2, 5, 0, 0, 0, 0, 0, 0, 0])

const DECODERS: readonly { readonly name: string; readonly decode: Decode; readonly examples: readonly Buffer[] }[] = [
  { name: 'inode', decode: (bytes) => decodeInode(7, bytes), examples: inodes },
  { name: 'extents', decode: (bytes) => decodeExtents(bytes, 0), examples: [extents] },
  {
    name: 'body',
    decode: (bytes) => decodeBody(7, bytes),
    examples: [encodeBody(7, [{ fileOffset: 0, bytes: Buffer.from('body') }])],
  },
  { name: 'dirent', decode: decodeDirent, examples: [Buffer.from('name\0\x05\0\0\0\0\0\0\x01', 'latin1')] },
  { name: 'claim', decode: decodeClaim, examples: [Buffer.concat([Buffer.alloc(18), extents])] },
  { name: 'events', decode: (bytes) => decodeEvents(bytes, 1, silentLog), examples: [event] },
  {
    name: 'task',
    decode: (bytes) => decodeTask(bytes.toString()),
    examples: [Buffer.from(encodeTask({ kind: 'copy', chunk: 5, root, sources: ['a'] }))],
  },
  {
    name: 'report',
    decode: (bytes) => decodeReport(bytes.toString()),
    examples: [Buffer.from('{"clockOffsetMs":1,"unreachable":[{"id":"a","address":"b","why":"c","forMs":1}]}')],
  },
  {
    name: 'META_URL',
    decode: (bytes) => parseMetaUrl(bytes.toString('latin1')),
    examples: [Buffer.from('rediss://ann:pw@h:1,[::1]:2/v?ca=/c&cert=/d&key=/e&password-file=/p')],
  },
  {
    name: 'key file',
    decode: (bytes) => parseKeys(bytes.toString()),
    examples: [Buffer.from('# keys\na cluster key of decent length\nanother one of decent length\n')],
  },
  {
    name: 'error reply',
    decode: (bytes) => classify(new Error(bytes.toString())),
    examples: [Buffer.from('MOVED 5 127.0.0.1:7000'), Buffer.from('ASK 5 h')],
  },
]

for (const { name, decode, examples } of DECODERS) {
  t.test(`${name}: anything at all gives a value or a clear error`, async (t) => {
    for (const example of examples) {
      if (name !== 'inode') decode(example)
    }
    staysClear(t, { decode, examples }, 3_000)
  })
}

function reader(): ReplyReader {
  return new ReplyReader({ onReply: () => undefined, onError: () => undefined, onPush: () => undefined })
}

const REPLIES = [
  '*3\r\n$3\r\nabc\r\n:5\r\n*1\r\n+OK\r\n',
  '%1\r\n+a\r\n#t\r\n>2\r\n+x\r\n_\r\n',
  '-ERR no\r\n=7\r\ntxt:abc\r\n,1.5\r\n(123\r\n~1\r\n$-1\r\n*-1\r\n',
].map((text) => Buffer.from(text))

t.test('RESP: anything at all, in any pieces, is replies or a ProtocolError', async (t) => {
  fc.assert(
    fc.property(damage, fc.array(fc.nat(40), { maxLength: 10 }), (how, cuts) => {
      const bytes = damaged(REPLIES, how)
      const replies = reader()
      try {
        let at = 0
        for (const cut of cuts) {
          replies.push(bytes.subarray(at, at + cut))
          at += cut
        }
        replies.push(bytes.subarray(at))
        return true
      } catch (error) {
        return isClear(error)
      }
    }),
    propertyRun(t, 5_000),
  )
  t.pass('held')
})

/** Of memory outside the heap, while `work` runs. */
function grownBytes(work: () => void): number {
  const before = process.memoryUsage().arrayBuffers
  work()
  return process.memoryUsage().arrayBuffers - before
}

t.test('RESP: a length that is only announced takes no memory', async (t) => {
  for (const head of ['$536870000\r\n', '*134000000\r\n', '%60000000\r\n', '*64\r\n$500000000\r\n']) {
    const replies = reader()
    const grown = grownBytes(() => {
      replies.push(Buffer.from(head))
      for (let i = 0; i < 3; i++) replies.push(Buffer.alloc(1000, 'x'))
    })
    t.ok(grown < 16 * 1024 * 1024, `${JSON.stringify(head)}: ${grown} bytes`)
  }
  t.throws(() => reader().push(Buffer.from('$536870913\r\n')), ProtocolError)
  t.throws(() => reader().push(Buffer.from(':99999999999999999999\r\n'.replace(':', '$'))), ProtocolError)
})

t.test('RESP: a line without end is refused, and a long reply in small pieces comes whole', async (t) => {
  const endless = reader()
  t.throws(() => {
    for (let i = 0; i < 1_000; i++) endless.push(Buffer.alloc(1_000, '+'))
  }, ProtocolError)
  const got: unknown[] = []
  const listener = {
    onReply: (value: unknown) => void got.push(value),
    onError: () => t.fail('an error'),
    onPush: () => t.fail('a push'),
  }
  const replies = new ReplyReader(listener)
  const large = Buffer.alloc(5_000_000, 'y')
  const all = Buffer.concat([Buffer.from(`$${large.length}\r\n`), large, Buffer.from('\r\n:1\r\n')])
  for (let at = 0; at < all.length; at += 7_001) replies.push(all.subarray(at, at + 7_001))
  t.ok(Buffer.isBuffer(got[0]) && got[0].equals(large))
  t.equal(got[1], 1)
})

t.test('CLUSTER SLOTS of any shape is a map or a clear error', async (t) => {
  const leaf = fc.oneof(
    fc.integer(),
    fc.constant(null),
    fc.uint8Array({ maxLength: 12 }).map((b) => Buffer.from(b)),
  )
  const { value } = fc.letrec<{ value: number | null | Buffer | unknown[] }>((tie) => ({
    value: fc.oneof({ depthSize: 'small' }, leaf, fc.array(tie('value'), { maxLength: 4 })),
  }))
  fc.assert(
    fc.property(value, (reply) => {
      try {
        parseSlots(redisValue(reply), '127.0.0.1:1')
        return true
      } catch (error) {
        return isClear(error)
      }
    }),
    propertyRun(t, 2_000),
  )
  t.pass('held')
})

type Value = Parameters<typeof parseSlots>[0]

function redisValue(value: unknown): Value {
  if (Array.isArray(value)) return value.map(redisValue)
  return typeof value === 'number' || Buffer.isBuffer(value) ? value : null
}

t.test('protobuf: groups in groups without end, and lengths without bytes, are FRAME_BAD', async (t) => {
  const hostile = [
    Buffer.alloc(1_000_000, 0x0b),
    Buffer.concat([Buffer.from([0x0a, 0xff, 0xff, 0xff, 0xff, 0x07]), Buffer.alloc(10)]),
    Buffer.concat([Buffer.from([0xfa, 0x7f, 0xff, 0xff, 0xff, 0xff, 0x0f])]),
    Buffer.alloc(500_000, 0xff),
  ]
  for (const { request, reply, name } of [...CHUNK_METHODS, ...FILE_METHODS]) {
    for (const codec of [request, reply]) {
      for (const bytes of hostile) {
        const grown = grownBytes(() => t.throws(() => codec.decode(bytes), { code: 'FRAME_BAD' }, name))
        if (grown > 32 * 1024 * 1024) t.fail(`${name} took ${grown} bytes`)
      }
    }
  }
})
