import t from 'tap'
import { appendFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { LocalAof, type AofDisk } from '../../../src/cluster/aof.js'

/** A folder with an append-only file; says of each file what was on disk when a sync of it ended. */
class Disk implements AofDisk {
  manifest = 'first'
  readonly written = new Map<string, number>([['appendonly.aof.1.incr.aof', 0]])
  readonly synced = new Map<string, number>()
  syncs = 0
  opened = 0
  fail = false
  hold: Promise<void> = Promise.resolve()

  version(): Promise<string> {
    return Promise.resolve(this.manifest)
  }

  list(): Promise<readonly string[]> {
    return Promise.resolve([
      'appendonly.aof.1.base.rdb',
      'appendonly.aof.manifest',
      'gone.incr.aof',
      ...this.written.keys(),
    ])
  }

  open(path: string): ReturnType<AofDisk['open']> {
    const name = path.split('/').at(-1) ?? ''
    if (!this.written.has(name)) return Promise.reject(Object.assign(new Error('gone'), { code: 'ENOENT' }))
    this.opened++
    return Promise.resolve({
      stat: () => Promise.resolve({ size: this.written.get(name) ?? 0 }),
      datasync: async () => {
        const size = this.written.get(name) ?? 0
        this.syncs++
        await this.hold
        if (this.fail) throw new Error('EIO: a bad disk')
        this.synced.set(name, size)
      },
      close: () => {
        this.opened--
        return Promise.resolve()
      },
    })
  }

  write(name: string, bytes: number): void {
    this.written.set(name, (this.written.get(name) ?? 0) + bytes)
  }
}

const FIRST = 'appendonly.aof.1.incr.aof'
const SECOND = 'appendonly.aof.2.incr.aof'

t.test('a sync puts on disk what was written before it, also while another is under way', async (t) => {
  const disk = new Disk()
  const aof = new LocalAof('/redis', disk)
  disk.write(FIRST, 10)
  let letGo = (): void => undefined
  disk.hold = new Promise((resolve) => (letGo = resolve))
  const first = aof.sync()
  while (disk.syncs === 0) await new Promise(setImmediate)
  disk.write(FIRST, 5)
  const late = [aof.sync(), aof.sync(), aof.sync()]
  letGo()
  await first
  t.equal(disk.synced.get(FIRST), 10)
  await Promise.all(late)
  t.equal(disk.synced.get(FIRST), 15, 'the late ones did not take part in a sync that had begun before their data')
  t.equal(disk.syncs, 2, 'they shared one')
  await aof.close()
  t.equal(disk.opened, 0)
})

t.test('a file that a rewrite begins is synced, too', async (t) => {
  const disk = new Disk()
  const aof = new LocalAof('/redis', disk)
  await aof.sync()
  disk.manifest = 'second'
  disk.write(FIRST, 1)
  disk.write(SECOND, 7)
  await aof.sync()
  t.same([disk.synced.get(FIRST), disk.synced.get(SECOND)], [1, 7])
  t.equal(disk.opened, 2, 'files of the old manifest are closed')
  await aof.close()
})

t.test('nothing is promised after a failed sync until the file is made anew', async (t) => {
  const disk = new Disk()
  const aof = new LocalAof('/redis', disk)
  disk.fail = true
  await t.rejects(aof.sync(), { code: 'METADATA_NOT_SYNCED' })
  disk.fail = false
  await t.rejects(aof.sync(), /an earlier sync of it has failed/, 'the kernel tells a lost write only once')
  disk.manifest = 'a rewrite has begun'
  disk.write(SECOND, 7)
  await t.rejects(aof.sync(), /an earlier sync of it has failed/, 'what is new stands behind what is lost')
  disk.manifest = 'rewritten'
  disk.written.delete(FIRST)
  await aof.sync()
  t.equal(disk.synced.get(SECOND), 7)
  await aof.close()
  t.equal(disk.opened, 0)
})

t.test('the sync of every second leaves a file alone that has not grown', async (t) => {
  const disk = new Disk()
  const aof = new LocalAof('/redis', disk)
  disk.write(FIRST, 3)
  await aof.syncGrown()
  await aof.syncGrown()
  t.equal(disk.syncs, 1)
  disk.write(FIRST, 3)
  await aof.syncGrown()
  t.equal(disk.syncs, 2)
  await aof.close()
})

t.test('a folder that cannot be read is an error', async (t) => {
  const aof = new LocalAof('/nowhere/at/all')
  await t.rejects(aof.sync(), { code: 'METADATA_NOT_SYNCED' })
})

t.test(
  'the syncs of one turn of the event loop share one; a failure is told to all of them, and to them alone',
  async (t) => {
    const disk = new Disk()
    const aof = new LocalAof('/redis', disk)
    disk.write(FIRST, 4)
    await Promise.all([aof.sync(), aof.sync(), Promise.resolve().then(() => aof.sync())])
    t.equal(disk.syncs, 1)
    t.equal(disk.synced.get(FIRST), 4)
    await Promise.all([aof.syncGrown(), aof.sync(), aof.syncGrown()])
    t.equal(disk.opened, 1, 'two at once do not open the files twice')
    disk.fail = true
    const failed = [aof.sync(), aof.sync()]
    for (const one of failed) await t.rejects(one, { code: 'METADATA_NOT_SYNCED' })
    disk.fail = false
    disk.manifest = 'rewritten'
    disk.written.delete(FIRST)
    await aof.sync()
    await aof.close()
    t.equal(disk.opened, 0)
  },
)

t.test('real files: what has grown by little or by much is synced, and a file that is gone is an error', async (t) => {
  const folder = t.testdir({ appendonlydir: { 'appendonly.aof.manifest': 'x', [FIRST]: 'some' } })
  const file = join(folder, 'appendonlydir', FIRST)
  const aof = new LocalAof(folder)
  for (const bytes of [0, 10, 3_000_000, 10]) {
    appendFileSync(file, Buffer.alloc(bytes))
    await aof.sync()
  }
  rmSync(join(folder, 'appendonlydir', 'appendonly.aof.manifest'))
  await t.rejects(aof.sync(), { code: 'METADATA_NOT_SYNCED' })
  await aof.close()
})
