/** MetaStore: access times after reads. */
import type { Test } from 'tap'
import type { AccessTime } from '../../src/meta/contract.js'
import { ROOT, claim, coherent, makeDirIn, touch, type OpenVolume, until } from '../helpers/meta.js'

const ATIME = { sec: 1_900_000_000, nsec: 7 }

export function accessTimeClaims(t: Test, open: OpenVolume): void {
  claim(t, open, 'touch sets access times of many inodes and nothing else', async (t, volume) => {
    const meta = await volume.client()
    const far = await makeDirIn(meta, ROOT, 'far', { not: ROOT % meta.settings.partitions })
    const before = [await meta.getattr(far.ino)]
    for (let i = 0; i < 150; i++) before.push(await touch(meta, ROOT, `f${i}`))
    const updates: AccessTime[] = before.map(({ ino, atime }) => ({ ino, replaces: atime, atime: ATIME }))
    await meta.touch([...updates, { ino: far.ino + 8 * 1000, replaces: ATIME, atime: ATIME }])
    for (const attr of before) t.strictSame(await meta.getattr(attr.ino), { ...attr, atime: ATIME })
  })

  claim(t, open, 'touch is void where the access time is another by now, and others hear of it', async (t, volume) => {
    const [meta, other] = await Promise.all([volume.client(), volume.client()])
    const file = await touch(meta, ROOT, 'file')
    await coherent(other)
    const heard: number[] = []
    other.onEvent((event) => {
      if (event.kind === 'attr') heard.push(event.ino)
    })
    await meta.touch([{ ino: file.ino, replaces: file.atime, atime: ATIME }])
    const set = await meta.setattr(file.ino, { atime: { sec: 5, nsec: 6 } })
    await meta.touch([{ ino: file.ino, replaces: ATIME, atime: { sec: 9, nsec: 9 } }])
    t.strictSame(await other.getattr(file.ino), set)
    await until('both are told', () => heard.filter((ino) => ino === file.ino).length >= 2)
    t.equal(heard.filter((ino) => ino === file.ino).length, 2, 'of the touch and of setattr, not of the void one')
  })

  claim(t, open, 'negative and late times survive', async (t, volume) => {
    const meta = await volume.client()
    const file = await touch(meta, ROOT, 'file')
    const early = { sec: -5_000_000_000, nsec: 999_999_999 }
    await meta.setattr(file.ino, { atime: early })
    await meta.touch([{ ino: file.ino, replaces: early, atime: { sec: 8_589_934_592, nsec: 1 } }])
    t.strictSame((await meta.getattr(file.ino)).atime, { sec: 8_589_934_592, nsec: 1 })
  })
}
