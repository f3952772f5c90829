/**
 * Changes across partitions, each with the ground it stands on. Everything is put into chosen partitions, and inode
 * numbers come out the same each time: what one volume looks like afterwards is what another has to look like.
 */
import type { Attr, MetaStore } from '../../src/meta/contract.js'
import { VolumeKeys } from '../../src/meta/keys.js'
import { DEFAULT, aclOf } from './acls.js'
import { act, type Action } from './meta-actions.js'
import { describe, walk } from './meta-check.js'
import { ROOT, bytes, makeDir, makeDirIn, outcome, touch, type MetaVolume } from './meta.js'

export interface Place {
  readonly parent: number
  readonly name: string
}

export interface Ground {
  readonly action: Action
  /** The names that the action changes. */
  readonly touched: readonly Place[]
}

export interface Scenario {
  readonly name: string
  prepare(meta: MetaStore): Promise<Ground>
}

/** Directories `a` and `b` in partitions 2 and 3, where the actions take place. */
async function places(meta: MetaStore): Promise<{ a: number; b: number }> {
  const a = await makeDirIn(meta, ROOT, 'a', { partition: 2 })
  const b = await makeDirIn(meta, ROOT, 'b', { partition: 3 })
  return { a: a.ino, b: b.ino }
}

/** A file whose inode lies in `partition`, and its only name in another. */
async function farFile(meta: MetaStore, partition: number, parent: number, name: string): Promise<Attr> {
  const home = await makeDirIn(meta, ROOT, 'home', { partition })
  const file = await touch(meta, home.ino, 'file')
  await meta.link(file.ino, parent, bytes(name))
  await meta.unlink(home.ino, bytes('file'))
  await meta.rmdir(ROOT, bytes('home'))
  return file
}

function make(setgid: boolean, acl = false): Scenario['prepare'] {
  return async (meta) => {
    const { a } = await places(meta)
    if (setgid) await meta.setattr(a, { mode: 0o2755, gid: 77 })
    if (acl) await meta.setxattr(a, DEFAULT, aclOf('u::rwx,u:1000:rwx,g::r-x,m::rwx,o::---'), 'any')
    return { action: { op: 'mkdir', parent: a, name: 'x' }, touched: [{ parent: a, name: 'x' }] }
  }
}

function move(kind: 'file' | 'directory', target: boolean): Scenario['prepare'] {
  const put = (meta: MetaStore, partition: number, parent: number, name: string): Promise<Attr> =>
    kind === 'file' ? farFile(meta, partition, parent, name) : makeDirIn(meta, parent, name, { partition })
  return async (meta) => {
    const { a, b } = await places(meta)
    await put(meta, 5, a, 'x')
    if (target) await put(meta, 6, b, 'y')
    return {
      action: { op: 'rename', parent: a, name: 'x', newParent: b, newName: 'y' },
      touched: [
        { parent: a, name: 'x' },
        { parent: b, name: 'y' },
      ],
    }
  }
}

/** Something of one kind trades places with something of another. */
function trade(one: 'file' | 'directory', other: 'file' | 'directory'): Scenario['prepare'] {
  const put = (meta: MetaStore, kind: string, partition: number, parent: number, name: string): Promise<Attr> =>
    kind === 'file' ? farFile(meta, partition, parent, name) : makeDirIn(meta, parent, name, { partition })
  return async (meta) => {
    const { a, b } = await places(meta)
    await put(meta, one, 5, a, 'x')
    await put(meta, other, 6, b, 'y')
    return {
      action: { op: 'exchange', parent: a, name: 'x', newParent: b, newName: 'y' },
      touched: [
        { parent: a, name: 'x' },
        { parent: b, name: 'y' },
      ],
    }
  }
}

export const SCENARIOS: readonly Scenario[] = [
  { name: 'mkdir', prepare: make(false) },
  { name: 'mkdir in a set-gid directory', prepare: make(true) },
  { name: 'mkdir in a directory with a default ACL', prepare: make(true, true) },
  {
    name: 'rmdir',
    async prepare(meta) {
      const { a } = await places(meta)
      await makeDirIn(meta, a, 'x', { partition: 4 })
      return { action: { op: 'rmdir', parent: a, name: 'x' }, touched: [{ parent: a, name: 'x' }] }
    },
  },
  {
    name: 'link to a far file',
    async prepare(meta) {
      const { a, b } = await places(meta)
      const { ino } = await touch(meta, a, 'f')
      return { action: { op: 'link', ino, parent: b, name: 'y' }, touched: [{ parent: b, name: 'y' }] }
    },
  },
  {
    name: 'unlink of one of two names, far',
    async prepare(meta) {
      const { a, b } = await places(meta)
      const { ino } = await touch(meta, a, 'f')
      await meta.link(ino, b, bytes('y'))
      return { action: { op: 'unlink', parent: b, name: 'y' }, touched: [{ parent: b, name: 'y' }] }
    },
  },
  {
    name: 'unlink of the last name, far',
    async prepare(meta) {
      const { b } = await places(meta)
      await farFile(meta, 5, b, 'y')
      return { action: { op: 'unlink', parent: b, name: 'y' }, touched: [{ parent: b, name: 'y' }] }
    },
  },
  { name: 'rename of a file', prepare: move('file', false) },
  { name: 'rename of a file onto a far one', prepare: move('file', true) },
  { name: 'rename of a directory', prepare: move('directory', false) },
  { name: 'rename of a directory onto an empty one', prepare: move('directory', true) },
  { name: 'exchange of two files', prepare: trade('file', 'file') },
  { name: 'exchange of a directory and a file', prepare: trade('directory', 'file') },
  { name: 'exchange of two directories', prepare: trade('directory', 'directory') },
]

/** As described by a client: one line a path, or what does not fit together. */
export async function look(meta: MetaStore): Promise<string[]> {
  const tree = await walk(meta)
  return tree.problems.length > 0 ? [...tree.problems] : describe(tree)
}

/** The same without inode numbers, for where a directory may have been made in several attempts. */
export async function shape(meta: MetaStore): Promise<string[]> {
  return (await look(meta)).map((line) => line.replace(/ ino=\d+/, '').replace(/ parent=\d+/, ''))
}

/**
 * Uses every touched name in every way, by `meta`: whatever it names is moved aside and back, the name is taken by a
 * file and by a directory, and at the end nothing is there. Answers which of the names were there at first.
 */
export async function wipe(meta: MetaStore, places: readonly Place[]): Promise<string[]> {
  const found: string[] = []
  const aside = await makeDir(meta, ROOT, 'aside')
  for (const { parent, name } of places) {
    const here = bytes(name)
    if ((await outcome(meta.rename(parent, here, parent, bytes('moved'), {}))) === 'ok') {
      found.push(name)
      await meta.rename(parent, bytes('moved'), aside.ino, here, {})
      await meta.rename(aside.ino, here, parent, here, {})
      const isDirectory = (await meta.lookup(parent, here)).type === 'directory'
      await (isDirectory ? meta.rmdir(parent, here) : meta.unlink(parent, here))
    }
    await touch(meta, parent, name)
    await meta.unlink(parent, here)
    await makeDir(meta, parent, name)
    await meta.rmdir(parent, here)
  }
  await meta.rmdir(ROOT, bytes('aside'))
  return found
}

export interface Plan {
  readonly scenario: Scenario
  /** Names of the steps, in order. */
  readonly steps: readonly string[]
  readonly before: readonly string[]
  readonly after: readonly string[]
  /** Which touched names are there before and after. */
  readonly foundBefore: readonly string[]
  readonly foundAfter: readonly string[]
}

/** Does the scenario with nothing in its way. `random` as in crash-child.ts. */
export async function rehearse(scenario: Scenario, open: () => Promise<MetaVolume>): Promise<Plan> {
  const volume = await open()
  const owner = await volume.client({ random: () => 0 })
  const { action, touched } = await scenario.prepare(owner)
  const before = await look(owner)
  const foundBefore = await present(owner, touched)
  const steps: string[] = []
  const onStep = (step: string): Promise<void> => {
    steps.push(step)
    return Promise.resolve()
  }
  const actor = await volume.client({ random: () => 0.6, onStep })
  await act(actor, action)
  await actor.shutdown()
  const plan = { scenario, steps, before, foundBefore }
  return { ...plan, after: await look(owner), foundAfter: await present(owner, touched) }
}

async function present(meta: MetaStore, places: readonly Place[]): Promise<string[]> {
  const found: string[] = []
  for (const { parent, name } of places) {
    if ((await outcome(meta.lookup(parent, bytes(name)))) === 'ok') found.push(name)
  }
  return found
}

/** Names of transactions whose outcome is still written down. Nobody needs them once all sessions have ended. */
export async function decisions(volume: MetaVolume): Promise<string[]> {
  const keys = new VolumeKeys(volume.settings.name, volume.settings.partitions)
  const found: string[] = []
  for (let p = 0; p < keys.partitions; p++) {
    const names = await volume.redis.call('HKEYS', keys.partition(p).decisions)
    if (Array.isArray(names)) found.push(...names.map((name) => `the decision of ${String(name)} is left in ${p}`))
  }
  return found
}
