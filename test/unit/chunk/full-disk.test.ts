/** A real filesystem that is really full: a tmpfs of 4 MiB, where the tests run as root on Linux. */
import t from 'tap'
import { execFileSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import { failureOf, openStore, poolOf, randomChunk, temporaryFolder, type TestChunk } from '../../helpers/chunks.js'

const CHUNK_BYTES = 300_000

function smallDisk(t: Test): string {
  const folder = temporaryFolder(t)
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'ringfs-test', folder])
  t.teardown(() => execFileSync('umount', ['-l', folder]))
  return folder
}

const isRoot = process.platform === 'linux' && process.getuid?.() === 0

// Everywhere else the reserve is what fills a disk: store.test.ts.
if (isRoot) {
  for (const inlineMaxBytes of [0, 4 * 1024 * 1024]) {
    t.test(`a full disk is ENOSPC, leaves nothing behind, and can be emptied (inline ${inlineMaxBytes})`, async (t) => {
      const folder = smallDisk(t)
      const store = await openStore(folder, poolOf(t), { inlineMaxBytes, reserveBytes: -1e12 })
      const kept: TestChunk[] = []
      for (let id = 0; id < 30; id++) {
        const chunk = randomChunk(id, CHUNK_BYTES)
        const code = await failureOf(store.put(chunk, chunk.data))
        if (code === '') kept.push(chunk)
        else t.equal(code, 'ENOSPC')
      }
      t.ok(kept.length >= 10 && kept.length <= 13)
      t.strictSame(readdirSync(join(folder, 'tmp')), [], 'no temporary file takes room')
      t.equal(store.chunks, kept.length)
      for (const { id, bytes } of kept) t.ok((await store.read(id, 0, CHUNK_BYTES)).data.equals(bytes))
      await store.remove(kept.slice(0, 2).map(({ id }) => id))
      const chunk = randomChunk(99, CHUNK_BYTES)
      await store.put(chunk, chunk.data)
      t.strictSame(await store.sync([99]), [])
    })
  }

  t.test('the reserve keeps a real disk from getting full', async (t) => {
    const folder = smallDisk(t)
    const store = await openStore(folder, poolOf(t), { reserveBytes: 1024 * 1024 })
    let code = ''
    for (let id = 0; code === '' && id < 30; id++) {
      const chunk = randomChunk(id, CHUNK_BYTES)
      code = await failureOf(store.put(chunk, chunk.data))
    }
    t.equal(code, 'ENOSPC')
    t.ok(store.chunks < 11 && store.chunks > 6)
    t.ok(store.space().freeBytes < CHUNK_BYTES * 1.1)
  })
} else {
  t.pass('needs root to mount a small disk')
}
