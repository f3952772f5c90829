/** Decoders of what other processes say, through Redis, a pipe or the kernel: anything at all is a value or a clear error, at once. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import fc from 'fast-check'
import t from 'tap'
import { z } from 'zod'
import { RingfsError } from '../../../src/base/errors.js'
import { silentLog } from '../../../src/base/log.js'
import { PID_MAX } from '../../../src/base/processes.js'
import { readSmallFile } from '../../../src/base/small-file.js'
import { readScrubState } from '../../../src/chunk/node/scrub.js'
import type { RedisValue } from '../../../src/cluster/contract.js'
import { WEIGHT_MAX, buildRing } from '../../../src/cluster/ring.js'
import { decodeView } from '../../../src/cluster/view.js'
import { parseMountinfo } from '../../../src/fuse/mounts.js'
import { failureLine, firstLine, parseOutcome, successLine } from '../../../src/main/outcome-line.js'
import { readPlan, readRunning } from '../../../src/main/redis-cluster-files.js'
import { findRunning } from '../../../src/rpc/run-files.js'
import { decodeWho } from '../../../src/meta/neighbours.js'
import { temporaryFolder } from '../../helpers/chunks.js'
import { isClear, staysClear } from '../../helpers/damage.js'
import { propertyRun } from '../../helpers/property.js'

t.setTimeout(300_000)

const who = { boot: 'b', pidns: 'pid:[1]', timens: '', pid: 7, start: '9' }
const schema = z.object({ id: z.string(), address: z.string() })
const mountinfo =
  '36 35 98:0 / /mnt/a\\040b rw,noatime shared:1 - fuse.ringfs ringfs rw\n37 35 0:5 / /proc rw - proc proc rw\n'

const DECODERS: readonly {
  readonly name: string
  readonly decode: (bytes: Buffer) => unknown
  readonly examples: readonly Buffer[]
}[] = [
  {
    name: 'record of a session',
    decode: (bytes) => decodeWho(bytes.toString()),
    examples: [Buffer.from(JSON.stringify({ host: 'h', since: 1, ...who }))],
  },
  {
    name: 'outcome of a start',
    decode: (bytes) => parseOutcome(bytes.toString(), schema),
    examples: [Buffer.from(successLine({ id: 'a', address: 'b:1' }))],
  },
  { name: 'list of mounts', decode: (bytes) => parseMountinfo(bytes.toString()), examples: [Buffer.from(mountinfo)] },
]

for (const { name, decode, examples } of DECODERS) {
  t.test(`${name}: anything at all gives a value or a clear error`, async (t) => {
    for (const example of examples) decode(example)
    staysClear(t, { decode, examples }, 3_000)
  })
}

t.test('a list of mounts that is none says which file it was', async (t) => {
  t.throws(() => parseMountinfo('36 35 98:0 / /a rw shared:1 ext3', '/proc/9/mountinfo'), {
    code: 'INTERNAL',
    message: /\/proc\/9\/mountinfo/,
  })
})

t.test('the record of a session never names a group of processes', async (t) => {
  t.same(decodeWho(JSON.stringify(who)), who)
  for (const pid of [0, -1, -7, PID_MAX + 1, 2 ** 40, 1.5])
    t.equal(decodeWho(JSON.stringify({ ...who, pid })), undefined)
})

t.test('an outcome is told as it was, and what is none says so', async (t) => {
  t.same(parseOutcome(successLine({ id: 'a', address: 'b:1' }), schema), { id: 'a', address: 'b:1' })
  t.throws(() => parseOutcome(failureLine(new RingfsError('KEY_REQUIRED', 'no')), schema), { code: 'KEY_REQUIRED' })
  t.throws(() => parseOutcome('Segmentation fault', schema), { code: 'INTERNAL', message: /Segmentation fault/ })
  t.throws(() => parseOutcome('{"ok":{"id":7}}', schema), { code: 'INTERNAL' })
})

t.test(
  'the first line of a process: whole in pieces, the beginning of one without end, and what follows is read',
  async (t) => {
    t.equal(await firstLine(Readable.from([Buffer.from('{"a"'), Buffer.from(':1}\nmore\n')])), '{"a":1}')
    t.equal(await firstLine(Readable.from([])), undefined)
    const endless = new PassThrough()
    const line = firstLine(endless)
    for (let i = 0; i < 100; i++) endless.write(Buffer.alloc(4_096, 'x'))
    t.ok(((await line) ?? '').length < 80_000)
    for (let i = 0; i < 100; i++) endless.write(Buffer.alloc(4_096, 'y'))
    endless.end()
    await new Promise((resolve) => endless.once('end', resolve))
    t.equal(endless.readableLength, 0)
  },
)

const text = (value: string): Buffer => Buffer.from(value)
const member = ['n1', 'h:1', 'z', '0.5', 'up', '12', 'inc', '5 100 50 3', 9, '', ''].map((one) =>
  typeof one === 'string' ? text(one) : one,
)
const view: RedisValue = [
  3,
  [member, member],
  [4],
  [4_000, 15_000, 300_000, 0, 0, 60_000, 1, 604_800_000],
  1_700_000_000_000,
  5,
]

t.test('a view is what Redis told', async (t) => {
  const { members, ...rest } = decodeView(view)
  t.match(rest, {
    epoch: 3,
    lengths: [4],
    redisMs: 1_700_000_000_000,
    changedMs: 5,
    settings: { outMs: 300_000, rings: 1, scrubMs: 604_800_000 },
  })
  t.match(members?.[0], {
    id: 'n1',
    weight: 0.5,
    state: 'up',
    pid: 12,
    totalBytes: 100,
    chunks: 3,
    silentMs: 9,
    isOut: false,
  })
  t.equal(decodeView([3, null, [], [1, 2, 3, 4, 5, 6, 7, 8], 1, 1]).members, null)
})

/** As `value`, with something else at one place of it. */
function replaced(value: RedisValue, path: readonly number[], by: RedisValue): RedisValue {
  if (!Array.isArray(value) || value.length === 0 || path.length === 0) return by
  const [at = 0, ...rest] = path
  const list: readonly RedisValue[] = value
  return list.map((one, index) => (index === at % list.length ? replaced(one, rest, by) : one))
}

t.test(
  'a view with anything in any place is a view or a clear error, and its ring has a bounded number of places',
  async (t) => {
    const leaf = fc.oneof(
      fc.integer(),
      fc.constant(null),
      fc.constantFrom('', '-1', 'NaN', 'Infinity', '1e300', '0', '101', 'x', '{"disks":7}').map(text),
      fc.uint8Array({ maxLength: 12 }).map((bytes) => Buffer.from(bytes)),
      fc.constant<RedisValue>([]),
    )
    const path = fc.array(fc.nat(20), { minLength: 1, maxLength: 3 })
    fc.assert(
      fc.property(path, leaf, (at, by) => {
        try {
          const { members, epoch, redisMs } = decodeView(replaced(view, at, by))
          if (!Number.isFinite(epoch) || !Number.isFinite(redisMs)) return false
          if (members?.some(({ weight }) => !(weight > 0 && weight <= WEIGHT_MAX)) === true) return false
          buildRing(
            (members ?? []).slice(0, 1).map(({ id, zone, weight }) => ({ id, zone, weight: Math.min(weight, 1) })),
          )
          return true
        } catch (error) {
          return isClear(error)
        }
      }),
      propertyRun(t, 3_000),
    )
    t.pass('held')
  },
)

t.test('a damaged record of a node names the node', async (t) => {
  for (const [at, by] of [
    [3, '1e9'],
    [3, 'x'],
    [5, 'x'],
    [7, '1 x'],
  ] as const) {
    t.throws(() => decodeView(replaced(view, [1, 0, at], text(by))), { code: 'VOLUME_CORRUPT', message: /node n1 / })
  }
})

const ports = [1, 2].map((port) => ({ port, busPort: port + 10 }))
const plan = { format: 1, masters: 1, replicas: 1, nodeTimeoutMs: 5_000, servers: ports, isFormed: true, tls: false }

t.test('redis-cluster.json says how it is wrong', async (t) => {
  const folder = temporaryFolder(t)
  const write = (value: object): void => writeFileSync(join(folder, 'redis-cluster.json'), JSON.stringify(value))
  t.equal(readPlan(folder), undefined)
  write(plan)
  t.same(readPlan(folder), plan)
  for (const wrong of [
    { masters: 3 },
    { servers: [] },
    { servers: [{ port: 70_000, busPort: 1 }, ports[1]] },
    { format: 0 },
  ]) {
    write({ ...plan, ...wrong })
    t.throws(() => readPlan(folder), { code: 'USAGE', message: /redis-cluster\.json is damaged/ })
  }
  write({ format: 99, masters: 'many' })
  t.throws(() => readPlan(folder), { code: 'USAGE', message: /newer ringfs/ })
})

t.test('running.json that is damaged is not taken for nobody', async (t) => {
  const folder = temporaryFolder(t)
  const file = join(folder, 'running.json')
  t.equal(readRunning(folder), undefined)
  writeFileSync(file, '{"pid":7,"startedAt":null}\n')
  t.same(readRunning(folder), { pid: 7, startedAt: null })
  for (const content of ['', '{"pid":', '[]', '{"pid":0,"startedAt":null}', `{"pid":${2 ** 40},"startedAt":null}`]) {
    writeFileSync(file, content)
    t.throws(() => readRunning(folder), { code: 'USAGE', message: /running\.json is damaged/ })
  }
})

t.test('the place of scrubbing: what no round can have found begins anew', async (t) => {
  const file = join(temporaryFolder(t), 'scrub.json')
  const older = { bucket: 5, startedMs: 1, finishedMs: 2, checked: 3, checkedBytes: 4, bad: 0, replaced: 0 }
  const good = { ...older, unread: 1, unlisted: 2 }
  const read = (content: string): object => {
    writeFileSync(file, content)
    return readScrubState({ log: silentLog, scrubFile: () => file })
  }
  t.same(read(JSON.stringify(good)), good)
  t.same(read(JSON.stringify(older)), { ...older, unread: 0, unlisted: 0 })
  for (const wrong of [{ finishedMs: 9e15 }, { checked: -1 }, { bucket: 1e9 }, { bad: 'x' }, { unlisted: -1 }]) {
    t.match(read(JSON.stringify({ ...good, ...wrong })), { bucket: 0, finishedMs: 0, checked: 0 })
  }
  t.match(read('{"bucket":'), { bucket: 0 })
})

t.test('files in place of ours take no more memory than ours, and no pipe is waited for', async (t) => {
  const folder = temporaryFolder(t)
  const running = join(folder, 'running.json')
  symlinkSync('/dev/zero', running)
  t.throws(() => readRunning(folder), { code: 'USAGE', message: /too long/ })
  mkdirSync(join(folder, 'redis-cluster.json'))
  t.throws(() => readPlan(folder), { code: 'USAGE', message: /cannot be read/ })
  const pipe = join(folder, 'pipe')
  execFileSync('mkfifo', [pipe])
  t.equal(readSmallFile(pipe), '')
  const runs = temporaryFolder(t)
  execFileSync('mkfifo', [join(runs, '1.json')])
  symlinkSync('/dev/zero', join(runs, '2.json'))
  for (const pid of [0, -1, 1.5]) {
    writeFileSync(join(runs, '3.json'), JSON.stringify({ volume: 'v', socket: '/s', pid }))
    await t.rejects(findRunning(runs), { code: 'NOT_RUNNING' })
  }
  writeFileSync(join(runs, '3.json'), JSON.stringify({ volume: 'v', socket: '/s', pid: process.pid }))
  t.match(await findRunning(runs), { volume: 'v', address: 'unix:/s' })
})
