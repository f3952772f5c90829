/** Places in a listing, also where many names have one score. */
import t from 'tap'
import { ROOT_INO } from '../../../src/base/limits.js'
import { Positions } from '../../../src/vfs/positions.js'
import { CALLER, fixture } from '../../helpers/vfs-fixture.js'

const name = (text: string): Buffer => Buffer.from(text)

t.test('a directory whose names all have one score is listed, from wherever somebody goes on', async (st) => {
  const { vfs } = fixture(st, { score: () => 2 ** 52 - 1, limits: { readdirBatch: 100 } })
  const names = Array.from({ length: 3_000 }, (_, i) => `name-${i}`)
  for (const one of names) await vfs.mknod(CALLER, ROOT_INO, name(one), 0o644, 0)
  const handle = await vfs.opendir(CALLER, ROOT_INO)
  const seen: string[] = []
  const offsets: bigint[] = []
  for (let offset = 0n; ;) {
    const entries = await vfs.readdir(handle, offset, 70, false)
    const last = entries.at(-1)
    if (last === undefined) break
    seen.push(...entries.map((entry) => entry.name.toString()))
    offsets.push(...entries.map((entry) => entry.offset))
    offset = last.offset
  }
  st.same(seen.slice(2).sort(), names.sort())
  st.equal(new Set(offsets).size, offsets.length, 'no position twice')
  st.ok(offsets.every((offset) => offset > 0n && offset < 2n ** 63n))
  for (let at = 0; at < seen.length - 1; at += 97) {
    const [next] = await vfs.readdir(handle, offsets[at] ?? 0n, 1, false)
    st.equal(next?.name.toString(), seen[at + 1], `on from ${at}`)
  }
  vfs.releasedir(handle)
})

t.test('a name keeps its place, whoever is met in between', (st) => {
  const positions = new Positions()
  const [a, b, c] = [
    positions.offsetOf(5, name('a')),
    positions.offsetOf(5, name('b')),
    positions.offsetOf(6, name('c')),
  ]
  st.same(
    ['a', 'c', 'b'].map((text) => positions.offsetOf(text === 'c' ? 6 : 5, name(text))),
    [a, c, b],
  )
  st.same(positions.cursorAt(a), { score: 5, name: name('a') })
  st.same(positions.cursorAt(b), { score: 5, name: name('b') })
  st.equal(positions.cursorAt(2n), null)
  st.end()
})

t.test('what is remembered of names with one score is bounded: older places are none any more', (st) => {
  const positions = new Positions(10)
  positions.offsetOf(5, name('first'))
  const offsets = Array.from({ length: 30 }, (_, i) => positions.offsetOf(5, name(`n${i}`)))
  for (const [i, offset] of offsets.entries()) {
    if (i >= 20) st.same(positions.cursorAt(offset), { score: 5, name: name(`n${i}`) })
    else st.throws(() => positions.cursorAt(offset), { code: 'EINVAL' })
  }
  st.ok(positions.offsetOf(5, name('n0')) > (offsets.at(-1) ?? 0n), 'met again it gets another one')
  for (const none of [0n, 1n, 2n ** 60n]) st.throws(() => positions.cursorAt(none), { code: 'EINVAL' })
  st.end()
})

t.test('behind a name that is forgotten no other of its score is left out: that is no place any more', (st) => {
  const positions = new Positions(2)
  const pair = (score: number): bigint => {
    const first = positions.offsetOf(score, name(`a${score}`))
    positions.offsetOf(score, name(`b${score}`))
    return first
  }
  const single = positions.offsetOf(1, name('single'))
  const [gone, again, ...kept] = [pair(2), pair(3), pair(4), pair(5)]
  for (const place of [gone, again]) st.throws(() => positions.cursorAt(place), { code: 'EINVAL' })
  st.same(
    kept.map((place) => positions.cursorAt(place)?.name?.toString()),
    ['a4', 'a5'],
  )
  st.same(positions.cursorAt(single), { score: 1, name: null }, 'one alone')
  st.equal(pair(3), again)
  st.same(positions.cursorAt(again), { score: 3, name: name('a3') }, 'met again')
  for (let score = 6; score < 60; score++) pair(score)
  const last = positions.offsetOf(60, name('last'))
  st.same(positions.cursorAt(last), { score: 60, name: name('last') })
  for (const place of [gone, again]) st.throws(() => positions.cursorAt(place), { code: 'EINVAL' })
  st.end()
})

t.test(
  'what was answered last is forgotten last, also if it had its place before; and no more is kept of a name than itself',
  (st) => {
    const positions = new Positions(2)
    positions.offsetOf(5, name('first'))
    const a = positions.offsetOf(5, name('a'))
    positions.offsetOf(5, name('b'))
    st.equal(positions.offsetOf(5, name('a')), a)
    positions.offsetOf(5, name('c'))
    const cursor = positions.cursorAt(a)
    st.same(cursor?.name?.toString(), 'a')
    st.equal(cursor?.name?.buffer.byteLength, 1, 'not a slice of something larger')
    st.end()
  },
)
