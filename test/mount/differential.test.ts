import fc from 'fast-check'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { FileCalls } from '../helpers/file-calls.js'
import { describeTree } from '../helpers/fs-ops.js'
import { mountTest, type TestMount } from '../helpers/mount.js'
import { startRedis } from '../helpers/redis.js'
import { type PropertyRun, propertyRun } from '../helpers/property.js'
import { type Operation, operation, PRELUDE, rangeOperation, Side } from '../helpers/random-ops.js'

const OPERATIONS_MAX = 60
const RUNS = 25
const TIMEOUT_MS = 120_000

t.setTimeout(8 * TIMEOUT_MS)

/** A local folder is the oracle. */
async function compare(
  local: string,
  mounted: string,
  operations: readonly Operation[],
  calls: FileCalls,
): Promise<void> {
  await Promise.all([mkdir(local), mkdir(mounted)])
  const [expected, actual] = [new Side(local, calls), new Side(mounted, calls)]
  try {
    for (const [index, next] of [...PRELUDE, ...operations].entries()) {
      const results = [JSON.stringify(await expected.apply(next)), JSON.stringify(await actual.apply(next))]
      if (results[0] === results[1]) continue
      throw new Error(`${index}: ${JSON.stringify(next)}: ${results[0]} on the disk, ${results[1]} on the mount`)
    }
    const trees = [await describeTree(local), await describeTree(mounted)].map((lines) => lines.join('\n'))
    if (trees[0] !== trees[1]) throw new Error(`on the disk:\n${trees[0]}\non the mount:\n${trees[1]}`)
  } finally {
    await Promise.all([expected.closeAll(), actual.closeAll()])
    await Promise.all([rm(local, { recursive: true }), rm(mounted, { recursive: true })])
  }
}

async function checkProperty(t: Test, mountpoint: string, run: PropertyRun, hasRanges: boolean): Promise<void> {
  const local = await mkdtemp(join(tmpdir(), 'ringfs-oracle-'))
  t.teardown(() => rm(local, { recursive: true }))
  let folder = 0
  const calls = await FileCalls.start(t)
  const one: fc.Arbitrary<Operation> = hasRanges ? rangeOperation : operation
  const property = fc.asyncProperty(fc.array(one, { maxLength: OPERATIONS_MAX, size: 'max' }), async (list) => {
    const name = String(folder++)
    await compare(join(local, name), join(mountpoint, name), list, calls)
  })
  await fc.assert(property, { ...run, interruptAfterTimeLimit: TIMEOUT_MS })
}

interface Matrix extends TestMount {
  readonly runs: number
}

const MOUNTS: readonly Matrix[] = [
  { driver: 'fuse-native', backend: 'memory', runs: RUNS },
  { driver: 'kernel', backend: 'memory', runs: RUNS },
  { driver: 'fuse-native', backend: 'vfs', runs: RUNS },
  { driver: 'kernel', backend: 'vfs', runs: RUNS },
  // Calls overtake each other.
  { driver: 'fuse-native', backend: 'memory', delayMs: 2, runs: 5 },
  { driver: 'kernel', backend: 'vfs', delayMs: 2, runs: 5 },
]

for (const { runs, ...mount } of MOUNTS) {
  t.test(`random operations do on the mount what they do on a local disk: ${JSON.stringify(mount)}`, async (t) => {
    const { mountpoint } = await mountTest(t, mount)
    await checkProperty(t, mountpoint, propertyRun(t, runs), mount.driver === 'kernel')
  })
}

t.test('and with metadata in Redis', async (t) => {
  const redis = await startRedis(t)
  const { mountpoint } = await mountTest(t, { driver: 'kernel', backend: redis.urlText('mounted') })
  await checkProperty(t, mountpoint, propertyRun(t, RUNS), true)
})
