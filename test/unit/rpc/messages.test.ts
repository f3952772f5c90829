import fc from 'fast-check'
import t from 'tap'
import { RingfsError } from '../../../src/base/errors.js'
import { CHUNK_MAX_BYTES, LEAF_BYTES } from '../../../src/base/limits.js'
import { CHUNK_GET, CHUNK_METHODS, CHUNK_PUT, CHUNK_SYNC } from '../../../src/rpc/messages-chunk.js'
import {
  FILE_METHODS,
  FILE_OPEN,
  FILE_READDIR,
  FILE_SETATTR,
  FILE_STAT,
  FILE_WRITE,
} from '../../../src/rpc/messages-file.js'
import { STATS_METHODS } from '../../../src/rpc/messages-stats.js'
import { PING } from '../../../src/rpc/method.js'
import { enumValues, serviceCalls } from '../../../src/rpc/protobuf.js'

const MAX = Number.MAX_SAFE_INTEGER
const time = { sec: -1, nsec: 999_999_999 }
const attr = {
  ...{ ino: MAX, type: 'symlink' as const, mode: 0o7777, uid: 4_294_967_295, gid: 0, nlink: 1, sizeBytes: MAX },
  ...{ allocatedBytes: 0, rdev: 5, atime: time, mtime: { sec: 2 ** 40, nsec: 0 }, ctime: time, btime: time },
}

t.test('every method of the contract has one codec pair, of the messages that its service declares', async (t) => {
  const all = [PING, ...CHUNK_METHODS, ...FILE_METHODS, ...STATS_METHODS]
  const numbers = new Map([...enumValues('Method')].filter(([, number]) => number !== 0))
  t.same(new Map(all.map(({ name, number }) => [name, number])), numbers)
  t.equal(new Set(numbers.values()).size, numbers.size, 'no number twice')
  for (const [service, methods] of [
    ['ChunkNode', CHUNK_METHODS],
    ['FileService', FILE_METHODS],
    ['StatsService', STATS_METHODS],
  ] as const) {
    t.same(
      methods.map(({ request, reply }) => [request.type, reply.type]),
      serviceCalls(service).map(({ request, reply }) => [request, reply]),
      service,
    )
    t.same(
      methods.map(({ name }) => name.slice(name.indexOf('_') + 1).replaceAll('_', '')),
      serviceCalls(service).map(({ name }) => name.toUpperCase()),
    )
  }
})

t.test('ids, sizes and offsets are exact numbers up to 2^53-1', async (t) => {
  for (const value of [0, 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 49 - 1, 2 ** 53 - 2, MAX]) {
    const request = { volume: 'v', ids: [value, MAX] }
    t.same(CHUNK_SYNC.request.decode(CHUNK_SYNC.request.encode(request)), request)
    t.equal(FILE_STAT.reply.decode(FILE_STAT.reply.encode({ ...attr, sizeBytes: value })).sizeBytes, value)
    for (const sec of [value, -value]) {
      const seconds = FILE_STAT.reply.decode(FILE_STAT.reply.encode({ ...attr, atime: { sec, nsec: 0 } })).atime.sec
      t.ok(seconds === sec, String(sec))
    }
  }
  const tooLarge = Buffer.concat([Buffer.from([0x0a, 1, 0x76, 0x12, 8]), Buffer.from('8080808080808010', 'hex')])
  t.throws(() => CHUNK_SYNC.request.decode(tooLarge), { code: 'FRAME_BAD', message: /ids/ }, '2^53')
})

t.test('messages come back as they went', async (t) => {
  const put = {
    ...{ volume: '6e7f', id: MAX, root: Buffer.alloc(32, 1), leaves: Buffer.alloc(64, 2), sync: true, copies: 2 },
    ...{
      forward: ['a', 'b'],
      absent: [],
      origin: { ino: 7, order: MAX, extents: [{ fileOffset: MAX, chunkOffset: 3, lengthBytes: 4 }] },
    },
  }
  t.same(CHUNK_PUT.request.decode(CHUNK_PUT.request.encode(put)), put)
  const got = { chunkLengthBytes: 4, leaves: Buffer.alloc(32), firstLeaf: 0 }
  t.same(CHUNK_GET.reply.decode(CHUNK_GET.reply.encode(got)), got)
  t.same(CHUNK_GET.reply.decode(CHUNK_GET.reply.encode({ ...got, origin: put.origin })), { ...got, origin: put.origin })
  t.same(FILE_STAT.reply.decode(FILE_STAT.reply.encode(attr)), attr)
  const target = { handle: 0, path: Buffer.from([0x2f, 0xff, 0xfe]), noFollow: true }
  for (const change of [
    {},
    { mode: 0 },
    { uid: 0, gid: 5 },
    { sizeBytes: 0 },
    { atime: 'now', mtime: time } as const,
    { mtime: 'now' } as const,
  ]) {
    t.same(FILE_SETATTR.request.decode(FILE_SETATTR.request.encode({ target, ...change })), { target, ...change })
  }
  for (const durability of ['all', 'quorum', 'async'] as const) {
    const write = { handle: 1, offset: 2, durability }
    t.same(FILE_WRITE.request.decode(FILE_WRITE.request.encode(write)), write)
  }
  t.same(FILE_WRITE.request.decode(FILE_WRITE.request.encode({ handle: 1, offset: 2 })), { handle: 1, offset: 2 })
  const page = {
    handle: 9,
    cursor: Buffer.alloc(8, 1),
    entries: [
      { name: Buffer.from([0xff]), ino: 3, type: 'directory' as const },
      { name: Buffer.from('x'), ino: 4, type: 'block' as const, attr },
    ],
  }
  t.same(FILE_READDIR.reply.decode(FILE_READDIR.reply.encode(page)), page)
  const open = { path: Buffer.from('/x'), flags: 0o102, mode: 0o644, owner: { uid: 1, gid: 0 } }
  t.same(FILE_OPEN.request.decode(FILE_OPEN.request.encode(open)), open)
})

t.test('what is decoded is checked: lengths of hashes, ranges, missing parts', async (t) => {
  const good = {
    ...{ volume: 'v', id: 1, root: Buffer.alloc(32), leaves: Buffer.alloc(32), sync: false, copies: 1 },
    ...{ forward: [], absent: [], origin: { ino: 7, order: 1, extents: [] } },
  }
  for (const [part, bad] of [
    ['root', { ...good, root: Buffer.alloc(31) }],
    ['leaves', { ...good, leaves: Buffer.alloc((CHUNK_MAX_BYTES / LEAF_BYTES) * 32 + 1) }],
    ['volume', { ...good, volume: 'v'.repeat(200) }],
  ] as const) {
    t.throws(() => CHUNK_PUT.request.decode(CHUNK_PUT.request.encode(bad)), {
      code: 'FRAME_BAD',
      message: new RegExp(part),
    })
  }
  t.throws(() => CHUNK_PUT.request.decode(Buffer.alloc(0)), { code: 'FRAME_BAD' }, 'nothing at all')
  t.throws(() => FILE_STAT.reply.decode(FILE_STAT.reply.encode({ ...attr, atime: { sec: 0, nsec: 1e9 } })), {
    code: 'FRAME_BAD',
  })
})

t.test('any bytes decode to a message or to FRAME_BAD', async (t) => {
  const codecs = [...CHUNK_METHODS, ...FILE_METHODS, ...STATS_METHODS].flatMap(({ request, reply }) => [request, reply])
  fc.assert(
    fc.property(fc.constantFrom(...codecs), fc.uint8Array({ maxLength: 120 }), (codec, bytes) => {
      try {
        codec.decode(Buffer.from(bytes))
        return true
      } catch (error) {
        return error instanceof RingfsError && error.code === 'FRAME_BAD'
      }
    }),
    { numRuns: 3000 },
  )
  t.pass('held')
})
