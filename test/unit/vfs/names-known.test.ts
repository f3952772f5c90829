/** What is known of directories without asking: their attributes after changes of ours, and all that is not in them. */
import t from 'tap'
import { ROOT_INO } from '../../../src/base/limits.js'
import { CompleteDirectories } from '../../../src/vfs/complete.js'
import { ForgottenNames } from '../../../src/vfs/forgotten-names.js'
import type { VfsContract, VfsDirEntry } from '../../../src/vfs/contract.js'
import { ManualClock } from '../../helpers/manual-clock.js'
import type { MemoryMeta } from '../../helpers/memory-meta.js'
import { CALLER, Gate, codeOf, fixture, make, settle } from '../../helpers/vfs-fixture.js'

const name = (text: string): Buffer => Buffer.from(text)

async function mkdir(vfs: VfsContract, text: string): Promise<number> {
  return (await vfs.mkdir(CALLER, ROOT_INO, name(text), 0o755)).ino
}

async function list(vfs: VfsContract, ino: number, limit = 1_000, plus = true): Promise<VfsDirEntry[]> {
  const handle = await vfs.opendir(CALLER, ino)
  const all: VfsDirEntry[] = []
  for (let at = 0n; ;) {
    const page = await vfs.readdir(handle, at, limit, plus)
    all.push(...page)
    const last = page.at(-1)
    if (last === undefined) break
    at = last.offset
  }
  vfs.releasedir(handle)
  return all
}

function asked(meta: MemoryMeta): Record<string, number> {
  const calls = Object.fromEntries(meta.calls)
  meta.calls.clear()
  return calls
}

/** The errno of a lookup, and how many questions it took. */
async function absent(vfs: VfsContract, meta: MemoryMeta, parent: number, text: string): Promise<[string, number]> {
  meta.calls.clear()
  const code = await codeOf(vfs.lookup(CALLER, parent, name(text)))
  return [code, meta.calls.get('lookup') ?? 0]
}

t.test('a change of a name leaves the attributes of its directories known, as the store has them', async (st) => {
  const { vfs, meta } = fixture(st)
  const [a, b] = [await mkdir(vfs, 'a'), await mkdir(vfs, 'b')]
  const { ino } = await make(vfs, 'f')
  const changes: readonly [string, readonly number[], () => Promise<unknown>][] = [
    ['create', [a], () => vfs.create(CALLER, a, name('x'), 0o644, 0)],
    ['mknod', [a], () => vfs.mknod(CALLER, a, name('y'), 0o644, 0)],
    ['symlink', [a], () => vfs.symlink(CALLER, a, name('s'), name('to'))],
    ['link', [b], () => vfs.link(CALLER, ino, b, name('l'))],
    ['mkdir', [a], () => vfs.mkdir(CALLER, a, name('d'), 0o755)],
    ['rename', [a], () => vfs.rename(CALLER, a, name('y'), a, name('z'), {})],
    ['rename elsewhere', [a, b], () => vfs.rename(CALLER, a, name('z'), b, name('z'), {})],
    ['unlink', [a], () => vfs.unlink(CALLER, a, name('x'))],
    ['rmdir', [a], () => vfs.rmdir(CALLER, a, name('d'))],
  ]
  for (const [what, directories, change] of changes) {
    await change()
    meta.calls.clear()
    for (const directory of directories) {
      const attr = await vfs.getattr(CALLER, directory)
      st.same(asked(meta), {}, `${what}: nobody is asked`)
      st.same(attr, await meta.getattr(directory), what)
      meta.calls.clear()
    }
  }
})

t.test('of two changes in one directory at once neither leaves attributes that the other made old', async (st) => {
  const { vfs, meta } = fixture(st)
  const a = await mkdir(vfs, 'a')
  const gate = new Gate()
  meta.after = (call) => (call === 'mkdir' ? gate.passed : undefined)
  const slow = vfs.mkdir(CALLER, a, name('d'), 0o755)
  await settle()
  await vfs.mknod(CALLER, a, name('y'), 0o644, 0)
  gate.open()
  await slow
  const attr = await vfs.getattr(CALLER, a)
  st.same(attr, await meta.getattr(a))
  st.equal(attr.nlink, 3)
})

t.test('attributes of a directory have no lifetime while a change in it is under way', async (st) => {
  const { vfs, meta } = fixture(st)
  const a = await mkdir(vfs, 'a')
  await vfs.getattr(CALLER, a)
  st.ok(vfs.coherence.attr(a))
  const gate = new Gate()
  meta.after = (call) => (call === 'mkdir' ? gate.passed : undefined)
  const change = vfs.mkdir(CALLER, a, name('d'), 0o755)
  await settle()
  st.equal(vfs.coherence.attr(a), undefined, 'who asks now may take the answer when the change has ended')
  gate.open()
  await change
  st.equal(vfs.coherence.attr(a)?.nlink, 3)
})

t.test('a change by somebody else that came with ours leaves the attributes to be asked for', async (st) => {
  const { vfs, meta, another } = fixture(st)
  const other = another()
  const a = await mkdir(vfs, 'a')
  const gate = new Gate()
  meta.after = (call) => (call === 'mkdir' ? gate.passed : undefined)
  const ours = vfs.mkdir(CALLER, a, name('d'), 0o755)
  await settle()
  await other.vfs.mkdir(CALLER, a, name('e'), 0o755)
  await meta.delivered()
  gate.open()
  await ours
  st.equal((await vfs.getattr(CALLER, a)).nlink, 4)
})

t.test('what is not in a directory that was made here is known without asking', async (st) => {
  const { vfs, meta } = fixture(st)
  const a = await mkdir(vfs, 'a')
  st.same(await absent(vfs, meta, a, 'x'), ['ENOENT', 0])
  await vfs.mknod(CALLER, a, name('x'), 0o644, 0)
  st.same(await absent(vfs, meta, a, 'x'), ['ok', 0])
  await vfs.rename(CALLER, a, name('x'), a, name('y'), {})
  st.same(await absent(vfs, meta, a, 'x'), ['ENOENT', 0])
  st.same(await absent(vfs, meta, a, 'y'), ['ok', 0])
  await vfs.unlink(CALLER, a, name('y'))
  st.same(await absent(vfs, meta, a, 'y'), ['ENOENT', 0])
  meta.setCoherent(false)
  st.same(await absent(vfs, meta, a, 'x'), ['ENOENT', 1], 'not while nothing would be heard')
  meta.setCoherent(true)
  st.same(await absent(vfs, meta, a, 'z'), ['ENOENT', 1], 'nor afterwards, for it was not heard')
})

t.test('a name that came from elsewhere shows in a directory that was made here', async (st) => {
  const { vfs, meta, another } = fixture(st)
  const other = another()
  const a = await mkdir(vfs, 'a')
  await other.vfs.mknod(CALLER, a, name('x'), 0o644, 0)
  await meta.delivered()
  st.same(await absent(vfs, meta, a, 'x'), ['ok', 1])
  st.same(await absent(vfs, meta, a, 'y'), ['ENOENT', 1], 'and the directory is asked about from now on')
  await list(vfs, a)
  st.same(await absent(vfs, meta, a, 'z'), ['ENOENT', 1], 'also when it was listed just after')
})

t.test('a name that came from elsewhere before we knew that the directory is made shows', async (st) => {
  const { vfs, meta, another } = fixture(st)
  const other = another()
  const gate = new Gate()
  meta.after = (call) => (call === 'mkdir' ? gate.passed : undefined)
  const making = mkdir(vfs, 'a')
  await settle()
  const { ino } = await other.vfs.lookup(CALLER, ROOT_INO, name('a'))
  await other.vfs.mknod(CALLER, ino, name('x'), 0o644, 0)
  await meta.delivered()
  gate.open()
  st.equal(await making, ino)
  st.same(await absent(vfs, meta, ino, 'x'), ['ok', 1])
})

t.test('a directory that was removed elsewhere is asked about', async (st) => {
  const { vfs, meta, another } = fixture(st)
  const other = another()
  const a = await mkdir(vfs, 'a')
  await other.vfs.rmdir(CALLER, ROOT_INO, name('a'))
  await meta.delivered()
  st.same(await absent(vfs, meta, a, 'x'), ['ENOENT', 1])
})

for (const [how, limit, plus] of [
  ['at once', 1_000, true],
  ['in pages', 3, true],
  ['without attributes', 5, false],
] as const) {
  t.test(`what is not in a directory that was listed ${how} is known without asking`, async (st) => {
    const { vfs, another } = fixture(st, { limits: { readdirBatch: 4 } })
    const a = await mkdir(vfs, 'a')
    for (let i = 0; i < 10; i++) await vfs.mknod(CALLER, a, name(`f${i}`), 0o644, 0)
    const { vfs: other, meta } = another()
    await settle()
    st.same(await absent(other, meta, a, 'x'), ['ENOENT', 1], 'not before')
    st.equal((await list(other, a, limit, plus)).length, 12)
    st.same(await absent(other, meta, a, 'y'), ['ENOENT', 0])
    st.same(await absent(other, meta, a, 'f7'), ['ok', 0])
  })
}

t.test(
  'a listing that another client changed under way, or that left something out, says nothing of other names',
  async (st) => {
    const { vfs, another } = fixture(st, { limits: { readdirBatch: 4 } })
    const a = await mkdir(vfs, 'a')
    for (let i = 0; i < 10; i++) await vfs.mknod(CALLER, a, name(`f${i}`), 0o644, 0)
    const { vfs: changed, meta } = another()
    const handle = await changed.opendir(CALLER, a)
    let page = await changed.readdir(handle, 0n, 6, true)
    await vfs.mknod(CALLER, a, name('late'), 0o644, 0)
    await meta.delivered()
    while (page.length > 0) page = await changed.readdir(handle, page.at(-1)?.offset ?? 0n, 6, true)
    changed.releasedir(handle)
    st.same(await absent(changed, meta, a, 'x'), ['ENOENT', 1])
    const { vfs: part, meta: partMeta } = another()
    await settle()
    const whole = await list(vfs, a)
    const seeking = await part.opendir(CALLER, a)
    const first = await part.readdir(seeking, 0n, 4, true)
    st.ok(first.length > 0)
    for (let last = whole[8]; last !== undefined;) last = (await part.readdir(seeking, last.offset, 6, true)).at(-1)
    st.same(await absent(part, partMeta, a, 'y'), ['ENOENT', 1], 'names were passed over by seekdir')
  },
)

t.test(
  'a directory with more names than there is room for is asked about those that were forgotten, and no others',
  async (st) => {
    const { vfs, meta } = fixture(st, { limits: { dentries: 8 } })
    const a = await mkdir(vfs, 'a')
    await vfs.mknod(CALLER, a, name('x'), 0o644, 0)
    st.same(await absent(vfs, meta, a, 'y'), ['ENOENT', 0])
    asked(meta)
    for (let i = 0; i < 1_000; i++) {
      await codeOf(vfs.lookup(CALLER, a, name(`f${i}`)))
      await vfs.mknod(CALLER, a, name(`f${i}`), 0o644, 0)
    }
    st.same(asked(meta), { create: 1_000 }, 'a new name takes one round trip, however many there are')
    st.same(await absent(vfs, meta, a, 'x'), ['ok', 1])
    st.same(await absent(vfs, meta, a, 'f7'), ['ok', 1])
    st.same(await absent(vfs, meta, a, 'z'), ['ENOENT', 0])
    await vfs.unlink(CALLER, a, name('f8'))
    st.equal((await absent(vfs, meta, a, 'f8'))[0], 'ENOENT')
  },
)

t.test('a directory that was not known wholly is asked about when a name of it was forgotten', async (st) => {
  const { vfs, another } = fixture(st, { limits: { dentries: 8 } })
  const a = await mkdir(vfs, 'a')
  await vfs.mknod(CALLER, a, name('x'), 0o644, 0)
  const { vfs: other, meta } = another()
  await settle()
  await other.lookup(CALLER, a, name('x'))
  for (let i = 0; i < 8; i++) await other.mknod(CALLER, ROOT_INO, name(`f${i}`), 0o644, 0)
  st.same(await absent(other, meta, a, 'x'), ['ok', 1])
  st.same(await absent(other, meta, a, 'z'), ['ENOENT', 1])
})

t.test('when more names were forgotten than can be remembered, directories are asked about again', (st) => {
  const complete = new CompleteDirectories(new ManualClock(), () => 0, new ForgottenNames(2))
  complete.add(7, complete.mark())
  for (const [key, isKnown] of [
    ['7/a', true],
    ['7/b', true],
    ['7/a', true],
    ['7/c', false],
  ] as const) {
    const mark = complete.mark()
    complete.forgot(7, key)
    st.notOk(complete.lacks(7, key))
    st.equal(complete.lacks(7, '7/x'), isKnown, key)
    if (isKnown) continue
    complete.add(7, mark)
    st.notOk(complete.lacks(7, '7/x'), 'nor by a listing that began before')
  }
  st.end()
})

t.test('names that there is no room for are told from others', (st) => {
  const forgotten = new ForgottenNames()
  for (let i = 0; i < 100_000; i++) forgotten.add(`12345/file-${i}`)
  for (let i = 0; i < 100_000; i++) if (!forgotten.mayHave(`12345/file-${i}`)) st.fail(`file-${i}`)
  let wrong = 0
  for (let i = 0; i < 100_000; i++) if (forgotten.mayHave(`12345/other-${i}`)) wrong++
  st.ok(wrong < 200, `${wrong} of 100,000 others are taken for them`)
  st.end()
})

t.test('a rename of names that were forgotten leaves the attributes of everything else known', async (st) => {
  const { vfs, meta } = fixture(st, { limits: { dentries: 8 } })
  const a = await mkdir(vfs, 'a')
  await vfs.mknod(CALLER, a, name('x'), 0o644, 0)
  const inos: number[] = []
  for (let i = 0; i < 20; i++) inos.push((await vfs.mknod(CALLER, a, name(`f${i}`), 0o644, 0)).ino)
  asked(meta)
  await vfs.rename(CALLER, a, name('x'), a, name('f1'), {})
  st.same(asked(meta), { lookup: 1, rename: 1 })
  for (const [i, ino] of inos.entries()) if (i !== 1) await vfs.getattr(CALLER, ino)
  st.same(asked(meta), {})
  st.equal((await absent(vfs, meta, a, 'x'))[0], 'ENOENT')
  st.equal((await absent(vfs, meta, a, 'f1'))[0], 'ok')
})

t.test('after a change whose outcome is not known the directory is asked about', async (st) => {
  const { vfs, meta } = fixture(st)
  const a = await mkdir(vfs, 'a')
  meta.after = (call) => (call === 'create' ? Promise.reject(new Error('the answer is lost')) : undefined)
  st.equal(await codeOf(vfs.mknod(CALLER, a, name('x'), 0o644, 0)), 'EIO')
  meta.after = () => undefined
  st.same(await absent(vfs, meta, a, 'x'), ['ok', 1])
  st.same(await absent(vfs, meta, a, 'y'), ['ENOENT', 1])
})

t.test('attributes of a page that was fetched for an earlier read are given only as they are known now', async (st) => {
  const { vfs, meta, another } = fixture(st, { limits: { readdirBatch: 100 } })
  const a = await mkdir(vfs, 'a')
  for (let i = 0; i < 10; i++) await vfs.mknod(CALLER, a, name(`f${i}`), 0o644, 0)
  const { vfs: reader, meta: readerMeta } = another()
  await settle()
  const handle = await reader.opendir(CALLER, a)
  const first = await reader.readdir(handle, 0n, 4, true)
  st.ok(first.slice(2).every(({ attr }) => attr?.mode === 0o644))
  const rest = (await list(vfs, a)).slice(4)
  const changed = rest[0]?.ino ?? 0
  await vfs.setattr(CALLER, changed, { mode: 0o600 })
  await readerMeta.delivered()
  const second = await reader.readdir(handle, first.at(-1)?.offset ?? 0n, 20, true)
  st.equal(second.length, 8)
  for (const { ino, attr } of second) st.equal(attr?.mode, ino === changed ? undefined : 0o644)
  reader.releasedir(handle)
  st.ok(meta)
})

t.test('a directory that others change is not taken for complete until it was left alone for a while', async (st) => {
  const clock = new ManualClock()
  const complete = new CompleteDirectories(clock, () => 0)
  complete.add(7, complete.mark())
  st.ok(complete.lacks(7, '7/x'))
  complete.doubt(7)
  complete.add(7, complete.mark())
  st.notOk(complete.lacks(7, '7/x'))
  await clock.pass(61_000)
  complete.add(7, complete.mark())
  st.ok(complete.lacks(7, '7/x'))
  const mark = complete.mark()
  complete.clear()
  complete.add(7, mark)
  st.notOk(complete.lacks(7, '7/x'), 'a listing that began before everything was in doubt')
})

t.test('after a rename a name means what was moved, not what was taken for it', async (st) => {
  const { vfs, meta, another } = fixture(st)
  const other = another()
  const old = await make(other.vfs, 'x')
  await vfs.lookup(CALLER, ROOT_INO, name('x'))
  await codeOf(vfs.lookup(CALLER, ROOT_INO, name('y')))
  // The events of these are late.
  const late = st.capture(meta, 'receive', () => undefined)
  await other.vfs.rename(CALLER, ROOT_INO, name('x'), ROOT_INO, name('kept'), {})
  const next = await make(other.vfs, 'x')
  await vfs.rename(CALLER, ROOT_INO, name('x'), ROOT_INO, name('y'), {})
  const calls = late()
  Reflect.deleteProperty(meta, 'receive')
  for (const { args } of calls) meta.receive(...args)
  st.equal((await vfs.lookup(CALLER, ROOT_INO, name('y'))).ino, next.ino)
  st.equal((await vfs.lookup(CALLER, ROOT_INO, name('kept'))).ino, old.ino)
  st.equal(await codeOf(vfs.lookup(CALLER, ROOT_INO, name('x'))), 'ENOENT')
})

t.test('after an exchange each name means what the other meant', async (st) => {
  const { vfs, meta, another } = fixture(st)
  const other = another()
  const [x, y] = [await make(other.vfs, 'x'), await make(other.vfs, 'y')]
  for (const one of ['x', 'y']) await vfs.lookup(CALLER, ROOT_INO, name(one))
  st.capture(meta, 'receive', () => undefined)
  await other.vfs.rename(CALLER, ROOT_INO, name('x'), ROOT_INO, name('kept'), {})
  const next = await make(other.vfs, 'x')
  await vfs.rename(CALLER, ROOT_INO, name('x'), ROOT_INO, name('y'), { exchange: true })
  st.equal((await vfs.lookup(CALLER, ROOT_INO, name('y'))).ino, next.ino)
  st.equal((await vfs.lookup(CALLER, ROOT_INO, name('x'))).ino, y.ino)
  st.not(x.ino, next.ino)
})

t.test('the links of what a rename replaced are known as they are, by whatever name', async (st) => {
  const { vfs, meta, another } = fixture(st)
  const other = another()
  await make(vfs, 'x')
  const { ino } = await make(other.vfs, 'other')
  await codeOf(vfs.lookup(CALLER, ROOT_INO, name('y')))
  await vfs.lookup(CALLER, ROOT_INO, name('other'))
  st.capture(meta, 'receive', () => undefined)
  await other.vfs.link(CALLER, ino, ROOT_INO, name('y'))
  await vfs.rename(CALLER, ROOT_INO, name('x'), ROOT_INO, name('y'), {})
  st.equal((await vfs.getattr(CALLER, ino)).nlink, 1)
  st.same(await vfs.getattr(CALLER, ino), await meta.getattr(ino))
})

t.test('a rename of one name of a file over another leaves both', async (st) => {
  const { vfs } = fixture(st)
  const { ino } = await make(vfs, 'x')
  await vfs.link(CALLER, ino, ROOT_INO, name('y'))
  await vfs.rename(CALLER, ROOT_INO, name('x'), ROOT_INO, name('y'), {})
  for (const one of ['x', 'y']) st.equal((await vfs.lookup(CALLER, ROOT_INO, name(one))).ino, ino)
})

/** Nothing of what others do is heard until the end of the test. */
function deaf(meta: MemoryMeta): () => void {
  const late: Parameters<MemoryMeta['receive']>[0][] = []
  meta.receive = (event) => void late.push(event)
  return () => {
    Reflect.deleteProperty(meta, 'receive')
    for (const event of late) meta.receive(event)
  }
}

const REMOVALS: readonly (readonly [string, (vfs: VfsContract) => Promise<unknown>])[] = [
  ['by rmdir', (vfs) => vfs.rmdir(CALLER, ROOT_INO, name('taken'))],
  ['by a rename over it', (vfs) => vfs.rename(CALLER, ROOT_INO, name('over'), ROOT_INO, name('taken'), {})],
]
for (const [how, remove] of REMOVALS) {
  for (const isKnown of [true, false]) {
    const what = isKnown ? 'another directory' : 'nothing'
    goesOpen(
      `an open directory that goes ${how}, by a name that was taken for ${what}, is as it was last`,
      isKnown,
      remove,
    )
  }
}

function goesOpen(claim: string, isKnown: boolean, remove: (vfs: VfsContract) => Promise<unknown>): void {
  t.test(claim, async (st) => {
    const { vfs, meta, another } = fixture(st)
    const other = another()
    const open = await mkdir(other.vfs, 'open')
    await mkdir(other.vfs, 'over')
    if (isKnown) await mkdir(other.vfs, 'taken')
    await settle()
    const handle = await vfs.opendir(CALLER, open)
    await vfs.readdir(handle, 0n, 10, true)
    await vfs.setattr(CALLER, open, { mode: 0o700 })
    for (const one of ['open', 'over', 'taken']) await codeOf(vfs.lookup(CALLER, ROOT_INO, name(one)))
    const hear = deaf(meta)
    await other.vfs.rename(CALLER, ROOT_INO, name('open'), ROOT_INO, name('taken'), {})
    await remove(vfs)
    st.match(await vfs.getattr(CALLER, open), { ino: open, nlink: 0, mode: 0o700 })
    for (const offset of [0n, 1n]) st.equal(await codeOf(vfs.readdir(handle, offset, 10, true)), 'ENOENT')
    st.same(await vfs.readdir(handle, 2n, 10, true), [], 'who has read it to its end finds nothing more')
    st.equal(await codeOf(vfs.lookup(CALLER, open, name('x'))), 'ENOENT')
    st.equal(await codeOf(vfs.mkdir(CALLER, open, name('x'), 0o755)), 'ENOENT')
    st.match(await vfs.setattr(CALLER, open, { mode: 0o711 }), { nlink: 0, mode: 0o711 })
    hear()
    st.match(await vfs.getattr(CALLER, open), { nlink: 0, mode: 0o711 }, 'also when what others did is heard')
    vfs.releasedir(handle)
    st.equal(await codeOf(vfs.getattr(CALLER, open)), 'ENOENT')
  })
}

t.test('an open directory that another client removes is as it was last seen', async (st) => {
  const { vfs, another } = fixture(st)
  const other = another()
  const open = await mkdir(other.vfs, 'open')
  await settle()
  const handle = await vfs.opendir(CALLER, open)
  await other.vfs.setattr(CALLER, open, { mode: 0o700 })
  await settle()
  await vfs.getattr(CALLER, open)
  await other.vfs.rmdir(CALLER, ROOT_INO, name('open'))
  await settle()
  st.match(await vfs.getattr(CALLER, open), { nlink: 0, mode: 0o700 })
  vfs.releasedir(handle)
})
