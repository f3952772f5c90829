/** Random changes of names by several clients: one after the other as the model says, at once without breaking anything. */
import t from 'tap'
import fc from 'fast-check'
import { VolumeKeys } from '../../src/meta/keys.js'
import { checkVolume, walk } from '../helpers/meta-check.js'
import { NameModel, perform, type NameOp } from '../helpers/meta-model.js'
import { until, volumesOn, type MetaVolume } from '../helpers/meta.js'
import { propertyRun } from '../helpers/property.js'
import { startRedis } from '../helpers/redis.js'

const CLIENTS = 2
/** As few as 2 partitions mix local changes with those across partitions. */
const PARTITIONS = [1, 2, 8]

/** What a change of a name may say; not EIO or ETIMEDOUT. ESTALE: the way led through a directory that another has just removed. */
const ERRNOS = new Set(['ok', 'ENOENT', 'ESTALE', 'EEXIST', 'ENOTDIR', 'EISDIR', 'ENOTEMPTY', 'EINVAL', 'EPERM'])

const path = fc.array(fc.constantFrom('a', 'b', 'c'), { minLength: 1, maxLength: 3 })
const who = fc.nat({ max: CLIENTS - 1 })
const op: fc.Arbitrary<NameOp> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ who, kind: fc.constantFrom('create' as const, 'mkdir' as const), path }) },
  { weight: 2, arbitrary: fc.record({ who, kind: fc.constantFrom('unlink' as const, 'rmdir' as const), path }) },
  {
    weight: 4,
    arbitrary: fc.record({
      who,
      kind: fc.constantFrom<'link' | 'rename' | 'move' | 'exchange'>(
        'link',
        'rename',
        'rename',
        'move',
        'exchange',
        'exchange',
      ),
      path,
      to: path,
    }),
  },
)
const history = fc.record({
  partitions: fc.constantFrom(...PARTITIONS),
  /** Of each client: whether it makes changes across partitions at once. */
  ways: fc.array(fc.boolean(), { minLength: CLIENTS, maxLength: CLIENTS }),
  // A frame to work in, so that not all fail with ENOENT.
  ops: fc
    .array(op, { minLength: 10, maxLength: 50 })
    .map((ops): NameOp[] => [...['a', 'b'].map((name): NameOp => ({ who: 0, kind: 'mkdir', path: [name] })), ...ops]),
})

const redis = await startRedis(t)
const open = volumesOn(t, redis)

/** Who does in one script what all partitions of one server are needed for, beside who takes steps. */
async function clientsOf(
  volume: MetaVolume,
  ways: readonly boolean[],
): Promise<Awaited<ReturnType<MetaVolume['client']>>[]> {
  return Promise.all(ways.map((atOnce) => volume.client({ atOnce })))
}

/** Decisions that nobody may ask for any more. */
async function decisions(volume: MetaVolume): Promise<string[]> {
  const keys = new VolumeKeys(volume.settings.name, volume.settings.partitions)
  const left: string[] = []
  for (let p = 0; p < keys.partitions; p++) {
    const found = await volume.redis.call('HKEYS', keys.partition(p).decisions)
    if (Array.isArray(found)) left.push(...found.map(String))
  }
  return left
}

async function checkWhole(volume: MetaVolume): Promise<void> {
  const problems = await checkVolume(volume)
  if (problems.length > 0) throw new Error(problems.join('; '))
  await until('no decision is left', async () => (await decisions(volume)).length === 0)
  await volume.close()
}

void t.test('one after the other, every result is that of the model', { timeout: 300_000 }, async (t) => {
  const property = fc.asyncProperty(history, async ({ partitions, ways, ops }) => {
    const volume = await open(partitions)
    const clients = await clientsOf(volume, ways)
    const model = new NameModel()
    for (const [at, one] of ops.entries()) {
      const client = clients[one.who]
      if (client === undefined) throw new Error('no such client')
      const [got, wanted] = [await perform(client, one), model.apply(one)]
      if (got !== wanted) throw new Error(`step ${at}, ${JSON.stringify(one)}: ${got}, not ${wanted}`)
    }
    const [client] = clients
    if (client === undefined) throw new Error('no client')
    const tree = await walk(client)
    const found = [...tree.paths].map(([name, ino]) => {
      const attr = tree.attrs.get(ino)
      return `${name || '/'} ${attr?.type ?? 'gone'} ${attr?.nlink ?? 0}`
    })
    const lines = model.describe()
    if (found.sort().join('\n') !== lines.join('\n'))
      throw new Error(`${found.join('\n')}\nshould be\n${lines.join('\n')}`)
    await checkWhole(volume)
  })
  await fc.assert(property, propertyRun(t, 50))
  t.pass('results and trees were equal')
})

void t.test('at once, the tree stays a tree and nothing is left behind', { timeout: 300_000 }, async (t) => {
  const property = fc.asyncProperty(history, async ({ partitions, ways, ops }) => {
    const volume = await open(partitions)
    const clients = await clientsOf(volume, ways)
    // Three lanes a client: they meet each other's locks.
    const lanes = clients.flatMap((client) => [0, 1, 2].map((lane) => ({ client, lane })))
    const work = lanes.map(async ({ client }, at) => {
      for (let i = at; i < ops.length; i += lanes.length) {
        const one = ops[i]
        const got = one === undefined ? 'ok' : await perform(client, one)
        if (!ERRNOS.has(got)) throw new Error(`${JSON.stringify(one)}: ${got}`)
      }
    })
    await Promise.all(work)
    await checkWhole(volume)
  })
  await fc.assert(property, propertyRun(t, 50))
  t.pass('every volume was whole')
})
