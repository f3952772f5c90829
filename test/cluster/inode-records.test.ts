/** What scripts do to the record of an inode (src/meta/scripts/lib/inode.lua, mutate.lua), in a real Redis, against records.ts. */
import { readFileSync } from 'node:fs'
import t from 'tap'
import { BUILD_FOLDER } from '../../src/base/places.js'
import { silentLog } from '../../src/base/log.js'
import { arrayOf } from '../../src/cluster/reply.js'
import { connectRedis } from '../../src/cluster/redis.js'
import { makeScript } from '../../src/cluster/script.js'
import { withConstants } from '../../src/meta/lua.js'
import { decodeInode, writeU56, type Inode } from '../../src/meta/records.js'
import { propertyRun } from '../helpers/property.js'
import { randomFrom } from '../helpers/random.js'
import { startRedis } from '../helpers/redis.js'

t.setTimeout(300_000)

const library = (name: string): string =>
  readFileSync(new URL(`src/meta/scripts/lib/${name}.lua`, BUILD_FOLDER), 'utf8')

/** KEYS: 1 inodes. ARGV as of a change, then a record, how many links it gets. Answers what each way of changing it leaves. */
const CHANGES = makeScript(
  'record-changes',
  withConstants(`${library('inode')}\n${library('mutate')}
local function put() redis.call('HSET', KEYS[1], '1', ARGV[7]) end
local function got() return redis.call('HGET', KEYS[1], '1') end
local results = {}
put()
results[1] = encode(decode(ARGV[7]))
local dir, n = loaddir('1'), decode(ARGV[7])
results[2] = dir.type == n.type and dir.xa == n.xa and dir.mode == n.mode and dir.gid == n.gid and dir.nlink == n.nlink and 1 or 0
touchdir('1', dir, tonumber(ARGV[8]), 'name')
results[3] = got()
touchdir('1', dir, 0, 'name')
results[4] = got()
put()
renamed('1')
results[5] = got()
put()
n.ms, n.mn, n.cs, n.cn, n.nlink = sec, nsec, sec, nsec, n.nlink + tonumber(ARGV[8])
save('1', n)
results[6] = got()
return results`),
)

const SECONDS = [0, 1, -1, -86_400 * 365 * 60, 2 ** 31 - 1, 2 ** 31, 2 ** 32, -(2 ** 31) - 1, 2 ** 34 - 1]
const NANOSECONDS = [0, 1, 999_999_999, 500_000_000]
const SIZES = [0, 1, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1, 2 ** 53 - 2, 2 ** 48 + 1]
const WORDS = [0, 1, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 2, 2 ** 32 - 1]
const LINKS = [2, 3, 64_999]

type Pick = (some: readonly number[]) => number

function recordOf(pick: Pick, random: () => number): Buffer {
  const tail = Buffer.from(Array.from({ length: 7 + Math.floor(random() * 60) }, () => Math.floor(random() * 256)))
  // Of a number: it stays one that JavaScript has.
  tail[6] = 0
  const head = Buffer.alloc(70)
  head[0] = 1
  head[1] = Math.floor(random() * 7) + 16 * Math.floor(random() * 16)
  head.writeUInt16LE(Math.floor(random() * 2 ** 14), 2)
  head.writeUInt32LE(pick(WORDS), 4)
  head.writeUInt32LE(pick(WORDS), 8)
  head.writeUInt32LE(pick(LINKS), 12)
  writeU56(head, pick(SIZES), 16)
  writeU56(head, pick(SIZES), 23)
  head.writeUInt32LE(pick(WORDS), 30)
  for (const at of [34, 43, 52, 61]) {
    head.writeIntLE(pick(SECONDS), at, 5)
    head.writeUInt32LE(pick(NANOSECONDS), at + 5)
  }
  return Buffer.concat([head, tail])
}

/** The record with what a change of names in it, or of its own name, leaves. */
function changed(record: Buffer, { sec, nsec, links, mtime }: Change): Inode {
  const inode = decodeInode(1, record)
  const now = { sec, nsec }
  const attr = { ...inode.attr, ctime: now, nlink: inode.attr.nlink + links, ...(mtime && { mtime: now }) }
  return { ...inode, attr }
}

interface Change {
  readonly sec: number
  readonly nsec: number
  readonly links: number
  readonly mtime: boolean
}

t.test('whatever a script changes of a record, all else of it stays', async (t) => {
  const redis = await startRedis(t)
  const store = await connectRedis(redis.url('v'), { log: silentLog })
  t.teardown(() => store.close())
  const { seed, numRuns } = propertyRun(t, 2_000)
  const random = randomFrom(seed)
  const pick: Pick = (some) => some[Math.floor(random() * some.length)] ?? 0
  for (let run = 0; run < numRuns; run++) {
    const record = recordOf(pick, random)
    const [sec, nsec, links] = [pick(SECONDS), pick(NANOSECONDS), pick([-1, 0, 1])]
    const reply = await store.run(CHANGES, ['{r}i'], [1, 1, 1, '', sec, nsec, record, links])
    const [same, isRead, touched, again, renamed, whole] = arrayOf(reply, 'record-changes')
    const shown = `${record.toString('hex')} ${sec}.${nsec} ${links}`
    const check = (found: unknown, wanted: Inode): void => {
      const isIt = Buffer.isBuffer(found) && found.length === record.length
      if (isIt) t.strictSame(decodeInode(1, found), wanted, shown)
      else t.fail(shown)
    }
    t.strictSame(same, record, shown)
    t.equal(isRead, 1, shown)
    check(touched, changed(record, { sec, nsec, links, mtime: true }))
    t.strictSame(again, touched, shown)
    t.strictSame(whole, touched, shown)
    check(renamed, changed(record, { sec, nsec, links: 0, mtime: false }))
    if (!t.passing()) break
  }
})
