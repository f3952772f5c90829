/**
 * Decoders of files, and of notices by Redis: anything at all, and good ones that were damaged, are a value or a clear error; what has a
 * checksum is taken only if it is what was written.
 */
import fc from 'fast-check'
import t from 'tap'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { silentLog } from '../../../src/base/log.js'
import { encodePrefix } from '../../../src/chunk/format.js'
import { IDENTITY_FILE, readIdentity, writeIdentity } from '../../../src/chunk/node/identity.js'
import {
  contentOf,
  decodeLogHead,
  encodeIds,
  encodeLogHead,
  encodeRecord,
} from '../../../src/chunk/node/journal-format.js'
import { readScrubState } from '../../../src/chunk/node/scrub.js'
import { noteRemoved, readRemoved } from '../../../src/chunk/node/removed-file.js'
import { parseNodes } from '../../../src/cluster/form-cluster.js'
import { readFiles } from '../../../src/cluster/private-redis-files.js'
import { faultOf, parseInfo } from '../../../src/cluster/redis-check.js'
import { readUpRecord } from '../../../src/main/data-folder.js'
import { readPlan, readRunning } from '../../../src/main/redis-cluster-files.js'
import { readRunFiles } from '../../../src/main/runfiles.js'
import { readVolumeFile } from '../../../src/main/volume-file.js'
import {
  RecordReader,
  RecordWriter,
  WIDE,
  checkPreamble,
  decodeHead,
  encodeHead,
  encodePreamble,
} from '../../../src/meta/backup/format.js'
import { decodeDelegationNotice } from '../../../src/meta/delegation-events.js'
import { parseSettings } from '../../../src/meta/format.js'
import { decodeLockNotices } from '../../../src/meta/lock-events.js'
import { parseAddress } from '../../../src/rpc/address.js'
import { findRunning } from '../../../src/rpc/run-files.js'
import { decodeError, encodeError } from '../../../src/rpc/wire-errors.js'
import { VOLUME, randomChunk, temporaryFolder } from '../../helpers/chunks.js'
import { damage, damaged, isClear, staysClear } from '../../helpers/damage.js'
import { propertyRun } from '../../helpers/property.js'

t.setTimeout(120_000)

const UUID = '0d4e4f5a-1111-4222-8333-7d8e9f0a1b2c'
const head = { volume: 'v', uuid: VOLUME, formatVersion: 1, partitions: 8, takenMs: 1, version: '0' }
const settings = {
  ...{ name: 'v', uuid: VOLUME, formatVersion: 1, partitions: 8, chunkBytes: 4_194_304, replicas: 1, writeQuorum: 1 },
  ...{ createdMs: 1, metaReplicas: 0, metaSync: 'always' as const },
}

t.test('a backup: what is taken to its end is what was written', async (t) => {
  const writer = new RecordWriter()
  const records = [
    encodeHead(head),
    { kind: 'hash', partition: 3, key: ':i', items: [Buffer.from('1'), Buffer.alloc(90, 1)] },
    { kind: 'zset', partition: WIDE, key: ':m:s', items: [] },
  ] as const
  const good = Buffer.concat([...records.map((record) => writer.encode(record)), writer.end()])
  const read = (bytes: Buffer, cuts: readonly number[]): void => {
    const reader = new RecordReader()
    let at = 0
    const found = [...cuts, bytes.length].flatMap((cut) => reader.push(bytes.subarray(at, (at += cut))))
    reader.finish()
    const [first] = found
    if (first !== undefined) decodeHead(first)
  }
  read(good, [5, 1, 40])
  fc.assert(
    fc.property(damage, fc.array(fc.nat(60), { maxLength: 6 }), (how, cuts) => {
      const bytes = damaged([good], how)
      try {
        read(bytes, cuts)
        return bytes.equals(good)
      } catch (error) {
        return isClear(error)
      }
    }),
    propertyRun(t, 3_000),
  )
  t.pass('held')
})

t.test('a log of small chunks: no chunk comes out of it that was not put in', async (t) => {
  const use = { generation: 3, salt: 0x1234_5678_9abc_def0n }
  const chunk = randomChunk(9, 5_000)
  const { id, bytes: data, root, leaves, origin } = chunk
  const prefix = encodePrefix({ volume: VOLUME, id, lengthBytes: data.length, root, origin }, leaves)
  const log = Buffer.concat([
    encodeLogHead('open', use),
    encodeRecord({ kind: 'chunk', number: 1, id: 9 }, use.salt, [prefix, data], prefix.length),
    encodeRecord({ kind: 'removed', number: 2, id: 0 }, use.salt, [encodeIds([4, 5])], 16),
    Buffer.alloc(20_000),
  ])
  t.strictSame([...contentOf(log, use).chunks.keys()], [9])
  const body = contentOf(log, use).chunks.get(9)
  fc.assert(
    fc.property(damage, fc.nat(12_000), (how, at) => {
      // Damage near the heads is rare in a long log: it is moved there.
      const bytes = Buffer.from(log)
      const from = 8_192 + (at % (bytes.length - 8_192))
      damaged([bytes.subarray(from, from + 300)], how).copy(bytes, from)
      for (const some of [bytes, damaged([log], how)]) {
        decodeLogHead(some)
        for (const [id, found] of contentOf(some, use).chunks)
          if (id !== 9 || body?.equals(found) !== true) return false
      }
      return true
    }),
    propertyRun(t, 500),
  )
  t.pass('held')
})

t.test('notes of removals: only ids that were noted, and all of them that are whole', async (t) => {
  const file = join(temporaryFolder(t), 'removed', 'd')
  noteRemoved({ files: [file], ids: [7, 8, 9_000_000_000], maxBytes: 1000 })
  const good = readFileSync(file)
  fc.assert(
    fc.property(damage, (how) => {
      writeFileSync(file, damaged([good], how))
      return [...readRemoved({ files: [file] })].every((id) => [7, 8, 9_000_000_000].includes(id))
    }),
    propertyRun(t, 500),
  )
  t.pass('held')
})

interface FileDecoder {
  readonly name: string
  readonly file: string
  readonly example: string
  readonly read: (folder: string) => unknown
}

const FILES: readonly FileDecoder[] = [
  {
    name: 'identity of a node',
    file: IDENTITY_FILE,
    example: JSON.stringify({ format: 1, node: UUID, volume: VOLUME, disk: UUID, set: { version: 1, disks: [] } }),
    read: (folder) => readIdentity(folder, VOLUME),
  },
  {
    name: 'settings beside a node',
    file: 'ringfs-volume.json',
    example: JSON.stringify(settings),
    read: readVolumeFile,
  },
  {
    name: 'up.json',
    file: 'up.json',
    example: JSON.stringify({ format: 1, volume: 'v', uuid: VOLUME, nodes: 1, mountpoint: '/m', more: [] }),
    read: readUpRecord,
  },
  {
    name: 'private Redis',
    file: 'ringfs-redis.json',
    example: JSON.stringify({ port: 7, password: 'p', member: { busPort: 8, nodeTimeoutMs: 9 } }),
    read: readFiles,
  },
  {
    name: 'plan of a Redis Cluster',
    file: 'redis-cluster.json',
    example: JSON.stringify({
      ...{ format: 1, masters: 1, replicas: 0, nodeTimeoutMs: 5_000, isFormed: true, tls: false },
      servers: [{ port: 7, busPort: 8 }],
    }),
    read: readPlan,
  },
  {
    name: 'who keeps a Redis Cluster running',
    file: 'running.json',
    example: JSON.stringify({ pid: 7, startedAt: '1' }),
    read: readRunning,
  },
  {
    name: 'place of scrubbing',
    file: 'scrub.json',
    example: JSON.stringify({
      bucket: 1,
      startedMs: 1,
      finishedMs: 1,
      checked: 1,
      checkedBytes: 1,
      bad: 0,
      replaced: 0,
    }),
    read: (folder) => readScrubState({ log: silentLog, scrubFile: () => join(folder, 'scrub.json') }),
  },
  {
    name: 'run file',
    file: '1.json',
    example: JSON.stringify({
      volume: 'v',
      metaUrl: 'u',
      dataDir: null,
      mountpoint: '/',
      socket: 's',
      pid: 1,
      startedAt: '1',
    }),
    read: (folder) => readRunFiles(folder),
  },
  {
    name: 'run file, as a program that connects reads it',
    file: '1.json',
    example: JSON.stringify({ volume: 'v', socket: '/s', pid: process.pid }),
    read: (folder) => findRunning(folder),
  },
]

for (const { name, file, example, read } of FILES) {
  t.test(`${name}: a value or a clear error`, async (t) => {
    const folder = temporaryFolder(t)
    mkdirSync(dirname(join(folder, file)), { recursive: true })
    await fc.assert(
      fc.asyncProperty(damage, async (how) => {
        writeFileSync(join(folder, file), damaged([Buffer.from(example)], how))
        try {
          await read(folder)
          return true
        } catch (error) {
          return isClear(error)
        }
      }),
      propertyRun(t, 400),
    )
    t.pass('held')
  })
}

t.test('the identity that is written is read', (t) => {
  const folder = temporaryFolder(t)
  writeIdentity(folder, { node: UUID, volume: VOLUME, disk: UUID })
  t.match(readIdentity(folder, VOLUME), { node: UUID, disk: UUID })
  t.end()
})

const notice = Buffer.from([9, 0, 0, 0, 7, 1, 2, 3, 4, 5, 6, 7, 14, 71, 1, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 65, 66])
const TEXTS = {
  nodes:
    'a1 127.0.0.1:7000@17000 myself,master - 0 0 1 connected 0-5460\nb2 127.0.0.1:7001@17001 slave a1 0 0 1 connected',
  info: 'redis_version:7.0.1\r\naof_enabled:1\r\nmaxmemory_policy:noeviction\r\n',
}

const DECODERS: readonly {
  readonly name: string
  readonly decode: (bytes: Buffer) => unknown
  readonly examples: readonly Buffer[]
}[] = [
  { name: 'start of a backup', decode: checkPreamble, examples: [encodePreamble()] },
  { name: 'head of a log', decode: decodeLogHead, examples: [encodeLogHead('open', { generation: 3, salt: 5n })] },
  { name: 'notices of locks', decode: decodeLockNotices, examples: [notice] },
  { name: 'notice of a delegation', decode: decodeDelegationNotice, examples: [9, 10, 11].map((kind) => marked(kind)) },
  { name: 'error of a peer', decode: decodeError, examples: [Buffer.from(encodeError(new Error('no')))] },
  {
    name: 'settings on Redis',
    decode: (bytes) => parseSettings(bytes.toString(), 'v'),
    examples: [Buffer.from(JSON.stringify(settings))],
  },
  { name: 'CLUSTER NODES', decode: (bytes) => parseNodes(bytes.toString()), examples: [Buffer.from(TEXTS.nodes)] },
  {
    name: 'INFO',
    decode: (bytes) => faultOf(parseInfo(bytes.toString()), true),
    examples: [Buffer.from(TEXTS.info)],
  },
  {
    name: 'address',
    decode: (bytes) => parseAddress(bytes.toString('latin1')),
    examples: ['h:1', '[::1]:2', 'unix:/s'].map((text) => Buffer.from(text)),
  },
]

function marked(kind: number): Buffer {
  const bytes = Buffer.from(notice)
  bytes.writeUInt8(kind, 4)
  return bytes
}

for (const { name, decode, examples } of DECODERS) {
  t.test(`${name}: a value or a clear error`, async (t) => {
    for (const example of examples) decode(example)
    staysClear(t, { decode, examples }, 2_000)
  })
}
