/** One change that takes several partitions, as data: a test hands it to a process of its own (crash-child.ts). */
import { z } from 'zod'
import type { MetaStore } from '../../src/meta/contract.js'

export const Action = z.discriminatedUnion('op', [
  z.object({ op: z.literal('mkdir'), parent: z.number(), name: z.string() }),
  z.object({ op: z.literal('rmdir'), parent: z.number(), name: z.string() }),
  z.object({ op: z.literal('unlink'), parent: z.number(), name: z.string() }),
  z.object({ op: z.literal('link'), ino: z.number(), parent: z.number(), name: z.string() }),
  z.object({
    op: z.enum(['rename', 'exchange']),
    parent: z.number(),
    name: z.string(),
    newParent: z.number(),
    newName: z.string(),
  }),
])
export type Action = z.infer<typeof Action>

export async function act(meta: MetaStore, action: Action): Promise<void> {
  const name = Buffer.from(action.name)
  if (action.op === 'mkdir') await meta.mkdir(action.parent, name, 0o755, 1000, 1000)
  else if (action.op === 'rmdir') await meta.rmdir(action.parent, name)
  else if (action.op === 'unlink') await meta.unlink(action.parent, name)
  else if (action.op === 'link') await meta.link(action.ino, action.parent, name)
  else {
    const flags = { exchange: action.op === 'exchange' }
    await meta.rename(action.parent, name, action.newParent, Buffer.from(action.newName), flags)
  }
}

/** What the parent tells the child: one action in a session of its own, held up after its step number `haltAt`. */
export const Case = z.object({
  id: z.number(),
  volume: z.string(),
  partitions: z.number(),
  action: Action,
  haltAt: z.number(),
  sessionTtlMs: z.number(),
  /** Told to go on, it waits first until its session, which others have ended, is replaced. */
  awaitsSession: z.boolean(),
  /** What the child does after the action, to see whether it goes on well. */
  probe: Action,
})
export type Case = z.infer<typeof Case>

export const Orders = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('begin'),
    hosts: z.array(z.object({ host: z.string(), port: z.number() })),
    password: z.string(),
    intentTimeoutMs: z.number(),
    cases: z.array(Case),
  }),
  /** Everything that is held up goes on. */
  z.object({ kind: z.literal('go') }),
])
export type Orders = z.infer<typeof Orders>

export const News = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('halted'), id: z.number() }),
  /** The errno's name or 'ok', of the action and of the probe; the sessions before and after. */
  z.object({
    kind: z.literal('done'),
    id: z.number(),
    action: z.string(),
    probe: z.string(),
    before: z.number(),
    after: z.number(),
  }),
])
export type News = z.infer<typeof News>
