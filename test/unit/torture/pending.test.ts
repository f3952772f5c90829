import { mkdir, open, stat } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { Reply, Words } from '../../torture/agent.js'
import { Pending } from '../../torture/pending.js'

type Ask = (words: Words, own?: readonly string[], text?: string) => Promise<void>

/** A file of ten bytes, open in slot 0 with these flags; what was done to it succeeded on both sides. */
async function opened(t: Test, flags: string): Promise<{ ask: Ask; isPending: () => boolean }> {
  const folder = t.testdir({ file: '0123456789' })
  await mkdir(join(folder, 'scratch'))
  const file = await open(join(folder, 'file'), 'r+')
  t.teardown(() => file.close())
  const ino = String((await stat(join(folder, 'file'))).ino)
  const pending = new Pending(join(folder, 'scratch'))
  pending.enabled = true
  pending.attach(process.pid)
  const ask: Ask = async (words, own = [], text = 'OK 5') => {
    const reply: Reply = { text, isOk: true, lines: [], own }
    await pending.before(words)
    await pending.after(words, reply)
  }
  for (const [slot, how] of [
    ['0', flags],
    ['1', 'rw'],
  ] as const) {
    await ask(['open', slot, 'file', how, '644'], [ino, String(file.fd), 'file'])
  }
  return { ask, isPending: () => pending.files.has(ino) }
}

t.test('a write through a descriptor is promised at once with O_SYNC, and else by fsync', async (t) => {
  for (const flags of ['rw', 'rw,sync', 'rw,dsync']) {
    const { ask, isPending } = await opened(t, flags)
    await ask(['pwrite', '0', '0', '5', '1'], ['5'])
    t.equal(isPending(), flags === 'rw', flags)
    await ask(['sync', '0', 'full'])
    t.notOk(isPending())
  }
})

t.test('a store through a mapping is promised by msync, and not by how the file was opened', async (t) => {
  for (const flags of ['rw', 'rw,sync']) {
    const { ask, isPending } = await opened(t, flags)
    await ask(['mwrite', '0', '0', '5', '1', 'sync'])
    t.notOk(isPending(), flags)
    await ask(['mwrite', '0', '0', '5', '1', 'later'])
    t.ok(isPending(), flags)
    await ask(['pwrite', '0', '5', '5', '1'], ['10'])
    t.ok(isPending(), 'a write elsewhere does not promise it')
    await ask(['sync', '0', 'full'])
    t.notOk(isPending())
  }
})

t.test('what does nothing to a file that is open with O_DSYNC promises nothing', async (t) => {
  const { ask, isPending } = await opened(t, 'rw,dsync')
  await ask(['pwrite', '1', '0', '5', '1'], ['5'])
  await ask(['copy', '0', '4096', '0', '0', '5'], [], 'OK 0')
  await ask(['pwritev', '0', '3', '1', '0'], ['3'], 'OK 0')
  t.ok(isPending())
  await ask(['copy', '0', '0', '0', '5', '5'], [], 'OK 5')
  t.notOk(isPending())
})
