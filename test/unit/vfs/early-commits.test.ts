/** Small files that are written once: their bytes go with the write when that has become a habit. */
import t, { type Test } from 'tap'
import { PosixError } from '../../../src/base/errno.js'
import { ManualClock } from '../../helpers/manual-clock.js'
import { CALLER, codeOf, fixture, make } from '../../helpers/vfs-fixture.js'

/** The clock stands: nothing is flushed by itself. */
const opened = (st: Test): Fixture => fixture(st, { settings: { inlineBytes: 100 }, vfsClock: new ManualClock() })

type Fixture = ReturnType<typeof fixture>

async function turns(): Promise<void> {
  for (let i = 0; i < 10; i++) await new Promise((resolve) => setImmediate(resolve))
}

async function writeOnce({ vfs }: Fixture, name: string): Promise<void> {
  const { handle } = await make(vfs, name)
  await vfs.write(handle, 0, Buffer.from(name))
  await vfs.flush(handle)
  await vfs.release(handle)
}

async function withHabit(st: Test): Promise<Fixture> {
  const volume = opened(st)
  for (let i = 0; i < 4; i++) await writeOnce(volume, `habit${i}`)
  return volume
}

function commits({ meta }: Fixture): number {
  return meta.calls.get('commitInline') ?? 0
}

/** How many commits the first write of a new file brings about by itself. */
async function sentByWrite(volume: Fixture, name: string, length = 5): Promise<number> {
  const { vfs } = volume
  const { handle } = await make(vfs, name)
  const before = commits(volume)
  await vfs.write(handle, 0, Buffer.alloc(length, 'x'))
  await turns()
  const sent = commits(volume) - before
  await vfs.flush(handle)
  await vfs.release(handle)
  return sent
}

t.test('after four files that were written once the next is sent with its write, and once', async (st) => {
  const volume = await withHabit(st)
  st.equal(commits(volume), 4)
  const { handle, ino } = await make(volume.vfs, 'f')
  await volume.vfs.write(handle, 0, Buffer.from('hello'))
  await turns()
  st.equal(commits(volume), 5)
  st.ok(volume.vfs.atHand.flush(handle), 'the close has nothing to wait for')
  await volume.vfs.release(handle)
  st.equal(commits(volume), 5)
  const other = volume.another()
  const opened = await other.vfs.open(CALLER, ino, 0)
  st.equal((await other.vfs.read(opened.handle, 0, 9)).toString(), 'hello')
  await other.vfs.release(opened.handle)
})

t.test('not before, not what is for chunks, and not of a file that was there', async (st) => {
  const volume = opened(st)
  st.equal(await sentByWrite(volume, 'first'), 0)
  for (let i = 0; i < 3; i++) await writeOnce(volume, `habit${i}`)
  const uploaded = volume.chunks.stored.size
  const { handle } = await make(volume.vfs, 'long')
  await volume.vfs.write(handle, 0, Buffer.alloc(401))
  await turns()
  st.equal(volume.chunks.stored.size, uploaded)
  await volume.vfs.flush(handle)
  const before = commits(volume)
  await volume.vfs.write(handle, 0, Buffer.from('again'))
  await turns()
  st.equal(commits(volume), before)
  await volume.vfs.release(handle)
})

for (const [what, change] of [
  ['written twice', (volume: Fixture, handle: number) => volume.vfs.write(handle, 5, Buffer.from('more'))],
  [
    'given times',
    async (volume: Fixture, handle: number, ino: number) => {
      await volume.vfs.setattr(CALLER, ino, { mtime: { sec: 7, nsec: 0 } }, handle)
    },
  ],
] as const) {
  t.test(`a file that was ${what} ends the habit`, async (st) => {
    const volume = await withHabit(st)
    st.equal(await sentByWrite(volume, 'usual'), 1)
    const { handle, ino } = await make(volume.vfs, 'other')
    await volume.vfs.write(handle, 0, Buffer.from('first'))
    await change(volume, handle, ino)
    await volume.vfs.flush(handle)
    await volume.vfs.release(handle)
    st.equal(await sentByWrite(volume, 'f'), 0)
  })
}

t.test('the close tells what became of it', async (st) => {
  const volume = await withHabit(st)
  const { handle } = await make(volume.vfs, 'f')
  volume.meta.before = (call) => {
    if (call === 'commitInline') throw new PosixError('EIO', 'for the test')
    return undefined
  }
  await volume.vfs.write(handle, 0, Buffer.from('lost'))
  await turns()
  st.notOk(volume.vfs.atHand.flush(handle))
  st.equal(await codeOf(volume.vfs.flush(handle)), 'EIO')
  await volume.vfs.release(handle)
})
