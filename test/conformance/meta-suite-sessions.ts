/** MetaStore: what one client is told of another's changes, and sessions that die. */
import type { Test } from 'tap'
import type { MetaEvent } from '../../src/meta/contract.js'
import {
  ROOT,
  bytes,
  claim,
  coherent,
  listen,
  makeDir,
  outcome,
  touch,
  until,
  writeAt,
  type OpenVolume,
} from '../helpers/meta.js'

const SHORT_LEASE = { sessionTtlMs: 400 }
/** Of those that are to renew it, also on a machine that stands still for a moment. */
const LIVING_TTL_MS = 3_000

function has(events: readonly MetaEvent[], wanted: Partial<MetaEvent> & { readonly name?: Buffer }): boolean {
  return events.some((event) =>
    Object.entries(wanted).every(([key, value]) => {
      const found = Object.entries(event).find(([name]) => name === key)?.[1] as unknown
      return Buffer.isBuffer(value) && Buffer.isBuffer(found) ? value.equals(found) : found === value
    }),
  )
}

export function sessionClaims(t: Test, open: OpenVolume): void {
  claim(t, open, 'another client is told of each change, the one who made it is not', async (t, volume) => {
    const [a, b] = [await volume.client(), await volume.client()]
    await coherent(a, b)
    const to = await makeDir(a, ROOT, 'to')
    const [mine, events] = [listen(a), listen(b)]
    const told = async (what: string, ...wanted: (Partial<MetaEvent> & { name?: Buffer })[]): Promise<void> => {
      for (const one of wanted) await until(`b is told of ${what}`, () => has(events, one))
      events.length = 0
    }
    const { ino } = await touch(a, ROOT, 'file')
    const file = bytes('file')
    await told('create', { kind: 'entry', parent: ROOT, name: file })
    await a.setattr(ino, { mode: 0o600 })
    await told('chmod', { kind: 'attr', ino })
    await writeAt(a, ino, 0, 10)
    await told('commit', { kind: 'data', ino })
    await a.setattr(ino, { sizeBytes: 5 })
    await told('truncate', { kind: 'data', ino })
    await a.setxattr(ino, bytes('user.a'), bytes('1'), 'any')
    await told('setxattr', { kind: 'attr', ino })
    await a.link(ino, to.ino, bytes('two'))
    await told('link', { kind: 'entry', parent: to.ino, name: bytes('two') }, { kind: 'attr', ino })
    await a.unlink(to.ino, bytes('two'))
    await told('unlink', { kind: 'entry', parent: to.ino, name: bytes('two') }, { kind: 'attr', ino })
    await a.rename(ROOT, file, to.ino, file, {})
    await told('rename', { kind: 'entry', parent: ROOT, name: file }, { kind: 'entry', parent: to.ino, name: file })
    await makeDir(a, ROOT, 'dir')
    await told('mkdir', { kind: 'entry', parent: ROOT, name: bytes('dir') })
    await a.rmdir(ROOT, bytes('dir'))
    await told('rmdir', { kind: 'entry', parent: ROOT, name: bytes('dir') })
    // What was finished behind its answer, elsewhere, it may have looked at in between.
    const others = mine.filter((event) => event.kind !== 'attr' || event.ino !== ino)
    t.strictSame(others, [], 'a has heard nothing of its own')
  })

  claim(t, open, 'a client whose lease is not renewed is incoherent, and a new session later', async (t, volume) => {
    const [lost, other] = [await volume.client(SHORT_LEASE), await volume.client(SHORT_LEASE)]
    await coherent(lost, other)
    const { ino } = await touch(lost, ROOT, 'file')
    await lost.open(ino, { truncate: false })
    const events = listen(lost)
    const old = lost.sessionId
    volume.cut(lost)
    await until('its lease is over', () => !lost.coherent)
    await until('it is told', () => has(events, { kind: 'lost' }))
    await until('the other cleans up', async () => {
      const sessions = await volume.redis.call('HKEYS', `{${volume.settings.name}}:m:h`)
      return Array.isArray(sessions) && !sessions.map(String).includes(String(old))
    })
    volume.mend(lost)
    await until('it is back', () => lost.coherent && lost.sessionId !== old)
    await until('it is told that, too', () => has(events, { kind: 'back' }))
    t.equal(await outcome(touch(lost, ROOT, 'after')), 'ok')
    await other.unlink(ROOT, bytes('file'))
    await until('what it has open is registered anew', async () => (await outcome(lost.getattr(ino))) === 'ok')
    t.match(await lost.getattr(ino), { nlink: 0 })
    lost.close(ino)
  })

  claim(t, open, 'sessions that renew their leases are left alone', async (t, volume) => {
    const clients = await Promise.all([1, 2, 3].map(() => volume.client({ sessionTtlMs: LIVING_TTL_MS })))
    const ids = clients.map((client) => client.sessionId)
    await new Promise((resolve) => setTimeout(resolve, 2.5 * LIVING_TTL_MS))
    t.strictSame(
      clients.map((client) => client.sessionId),
      ids,
    )
    for (const [i, client] of clients.entries()) t.equal(await outcome(touch(client, ROOT, `f${i}`)), 'ok')
  })

  claim(t, open, 'chunk ids are never given twice', async (t, volume) => {
    const clients = await Promise.all([1, 2, 3].map(() => volume.client()))
    const ids = await Promise.all(clients.flatMap((client) => Array.from({ length: 20 }, () => client.chunkId())))
    t.equal(new Set(ids).size, 60)
  })
}
