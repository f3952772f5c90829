/**
 * The volume-wide lease for moving a directory to another parent, so that no two moves can build a loop.
 *
 * Invariant: while a transaction holds the lease no other move of a directory can commit. A holder that ran out is made
 * unable to commit (its decision becomes A, unless it is C) before the lease passes on: this is the fence, since the lease
 * and the commit points lie on different masters. So who does not know whether his commit may still be done does not give the lease back:
 * it runs out, and whoever wants it then has it fenced.
 */
import type { Core } from './core.js'
import { PosixError } from '../base/errno.js'
import { ROOT_INO } from '../base/limits.js'
import type { Attr } from './contract.js'
import { Reply } from './reply.js'
import { SCRIPTS } from './scripts.js'
import type { Transaction } from './transaction.js'

const LEASE_MS = 5_000
const DEPTH_MAX = 4096

export async function withMoveLease<T>(core: Core, tx: Transaction, work: () => Promise<T>): Promise<T> {
  await take(core, tx)
  try {
    return await work()
  } finally {
    if (!tx.mayStillCommit) await core.run(SCRIPTS.leaseGive, [core.keys.wide('lease')], [tx.id]).catch(() => undefined)
  }
}

async function take(core: Core, tx: Transaction): Promise<void> {
  const patience = core.patience()
  const keys = [core.keys.wide('lease'), core.keys.wide('n')]
  let fenced = ''
  let fencedAt = 0
  for (;;) {
    const args = [tx.id, tx.commitPartition, LEASE_MS, fenced]
    const ask = async (): Promise<Reply> => new Reply(await core.run(SCRIPTS.leaseTake, keys, args))
    // A replica that did not know of the lease would give it to another move, too.
    const reply = await core.replicas.behind(core.keys.wide('lease'), ask, ({ status }) => status !== 1)
    if (reply.status === 1) {
      if (fenced !== '') await forgetDead(core, fenced, fencedAt)
      return
    }
    const holder = reply.buffer(1).toString('latin1')
    if (reply.number(3) > 0) {
      await patience.wait()
      continue
    }
    await core.decide(holder, reply.number(2), true)
    fenced = holder
    fencedAt = reply.number(2)
  }
}

/** The decisions of a session are forgotten when it is cleaned up after; one that was written later still is not. */
async function forgetDead(core: Core, tx: string, commitPartition: number): Promise<void> {
  const [session = ''] = tx.split('.')
  const isKnown = await core.options.store.call('HEXISTS', core.keys.wide('h'), session)
  if (isKnown === 0) await core.forget(tx, commitPartition)
}

/** EINVAL if `ino` is `directory` or above it. Only true for as long as the lease is held. */
export async function refuseLoop(
  getattr: (ino: number) => Promise<Attr>,
  ino: number,
  directory: number,
): Promise<void> {
  let at = directory
  for (let depth = 0; depth < DEPTH_MAX; depth++) {
    if (at === ino) throw new PosixError('EINVAL', 'a directory cannot be moved into itself')
    if (at === ROOT_INO) return
    at = (await getattr(at)).parent
  }
  throw new PosixError('ELOOP', `more than ${DEPTH_MAX} directories above each other`)
}
