/** The workload that knows what was acknowledged, on a local folder: it sees what is lost, doubled or changed, and nothing else. */
import { appendFile, copyFile, mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { MountedLoad } from '../../helpers/mounted-load.js'
import { eventually } from '../../helpers/ringfs.js'

/** A lane that goes on would keep the process: it is stopped however the test ends, and first (teardowns run last to first). */
async function newFolder(t: Pick<Test, 'teardown'>): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), 'ringfs-load-'))
  t.teardown(() => rm(root, { recursive: true, force: true }))
  return root
}

t.test('what is lost, changed, unreadable or back is seen', async (t) => {
  const root = await newFolder(t)
  const load = new MountedLoad(root, 2, 5_000)
  t.teardown(() => load.stop())
  for (let times = 0; times < 2; times++) {
    const before = load.steps
    await load.start()
    await eventually(
      'it works',
      () => load.steps,
      (steps) => steps > before + 60,
    )
    await load.stop()
    t.strictSame([load.faults, await load.check(root)], [[], []], 'also when it goes on after a rest')
  }
  const names = await readdir(join(root, 'folder-0'))
  const own = names.filter((name) => !name.endsWith('-linked')).map((name) => join('folder-0', name))
  const [changed, lost, unreadable] = own
  if (changed === undefined || lost === undefined || unreadable === undefined) throw new Error('too few files')
  await copyFile(join(root, changed), join(root, 'copy'))
  // Its links are changed with it.
  await rm(join(root, changed))
  await copyFile(join(root, 'copy'), join(root, changed))
  await appendFile(join(root, changed), 'x')
  await rm(join(root, lost))
  await rm(join(root, unreadable))
  await mkdir(join(root, unreadable))
  await copyFile(join(root, 'copy'), join(root, 'folder-0', '0-0'))
  const named = [`${changed} has other bytes`, `${lost} is lost`, `${unreadable} cannot be read: EISDIR`]
  t.strictSame(new Set(await load.check(root)), new Set([...named, 'folder-0/0-0 is back']))
})

t.test('an excused failure ends a round, any other the lane', async (t) => {
  const root = await newFolder(t)
  const load = new MountedLoad(root, 1)
  t.teardown(() => load.stop())
  load.excused = ['ENOENT']
  await load.start()
  await eventually(
    'it works',
    () => load.steps,
    (steps) => steps > 20,
  )
  // Not removed: the lane would put new files into it meanwhile.
  await rename(join(root, 'folder-0'), join(root, 'away'))
  load.excused = []
  await eventually(
    'the lane has ended',
    () => load.faults,
    (faults) => faults.length > 0,
  )
  await load.stop()
  t.match(load.faults, [/ENOENT/])
})
