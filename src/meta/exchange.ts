/** renameat2(2) with RENAME_EXCHANGE: two names trade what they name. Nothing is made or removed. */
import type { Attr, RenameReply } from './contract.js'
import type { Core } from './core.js'
import { refuseLoop, withMoveLease } from './move-lease.js'
import { typeCode } from './records.js'
import { STATUS_FAR } from './reply.js'
import { SCRIPTS } from './scripts.js'
import { Transaction, changeInode, ignoreGone, putEntry, untilDone, type Entry } from './transaction.js'

const DIRECTORY = typeCode('directory')

interface Target {
  readonly ino: number
  readonly type: number
}

export interface ExchangeDeps {
  readonly core: Core
  readonly getattr: (ino: number) => Promise<Attr>
  /** ENOENT if there is none. */
  readonly find: (entry: Entry) => Promise<Target>
  /** What these names lead to may be missing because it is still to be made: Restart then, and for whatever is missing. */
  readonly orBorn: (work: Promise<void>, found: readonly (readonly [Entry, number])[]) => Promise<void>
}

/** Errors: ENOENT if either is missing, EINVAL if one is a directory above the other. */
export async function exchange(deps: ExchangeDeps, a: Entry, b: Entry): Promise<RenameReply> {
  const { keys } = deps.core
  const isLocal = keys.home(a.parent) === keys.home(b.parent)
  return untilDone(deps.core, async () => {
    const done = isLocal ? await exchangeLocal(deps.core, a, b) : null
    return done ?? (await exchangeFar(deps, a, b))
  })
}

/** null: takes a transaction. */
async function exchangeLocal(core: Core, a: Entry, b: Entry): Promise<RenameReply | null> {
  const partition = core.keys.of(a.parent)
  const reply = await core.change(
    SCRIPTS.exchange,
    core.keys.home(a.parent),
    [partition.names(a.parent), partition.names(b.parent)],
    [a.parent, a.name, a.hash, b.parent, b.name, b.hash, core.partitions],
  )
  if (reply.status === STATUS_FAR) return null
  // Directories that stay in their parent: their inodes are elsewhere, and only their ctime is still missing.
  for (const ino of reply.numbers(3)) {
    await core.change(SCRIPTS.setattr, core.keys.home(ino), [], [ino]).catch(ignoreGone)
  }
  return { moved: reply.number(1), replaced: reply.number(2) }
}

/**
 * Invariant: while the lease is held no directory gets another parent, so what is seen here of the ancestors is so at the
 * commit, too; and the commit takes place only if both names still mean what was looked at.
 */
async function exchangeFar({ core, getattr, find, orBorn }: ExchangeDeps, a: Entry, b: Entry): Promise<RenameReply> {
  const [first, second] = [await find(a), await find(b)]
  const reply = { moved: first.ino, replaced: second.ino }
  if (first.ino === second.ino) return reply
  const moves = a.parent !== b.parent
  const nlinks = isDirectory(second) - isDirectory(first)
  const parts = [
    putEntry(a, second.ino, second.type, nlinks, first),
    putEntry(b, first.ino, first.type, -nlinks, second),
    changeInode(first.ino, 0, moves && isDirectory(first) === 1 ? b.parent : 0),
    changeInode(second.ino, 0, moves && isDirectory(second) === 1 ? a.parent : 0),
  ]
  const tx = new Transaction(core, 'exchange', b.parent)
  const found = [
    [a, first.ino],
    [b, second.ino],
  ] as const
  const run = (): Promise<void> => orBorn(tx.run(parts), found)
  if (!moves || isDirectory(first) + isDirectory(second) === 0) {
    await run()
    return reply
  }
  await withMoveLease(core, tx, async () => {
    if (isDirectory(first) === 1) await refuseLoop(getattr, first.ino, b.parent)
    if (isDirectory(second) === 1) await refuseLoop(getattr, second.ino, a.parent)
    await run()
  })
  return reply
}

function isDirectory({ type }: Target): 0 | 1 {
  return type === DIRECTORY ? 1 : 0
}
