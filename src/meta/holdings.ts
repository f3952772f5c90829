/** The delegations of a session on Redis: asking, hearing of recalls, giving back; and what own changes owe them. */
import type { RedisStore, Script } from '../cluster/contract.js'
import type { ChangeGuard, Core } from './core.js'
import { Delegations, VALID_MS, type Grant } from './delegations.js'
import { decodeDelegationNotice } from './delegation-events.js'
import { ATTR, DATA, ENTRY } from './events.js'
import type { Openers } from './openers.js'
import { Reply } from './reply.js'
import { SCRIPTS } from './scripts.js'

const HOLDERS_MAX = 16
const ASK_DEADLINE_MS = 1_000
const GRANTED = 1
const LAPSED = 2

export interface DelegationOptions {
  /** false: nothing is asked for. Others' delegations are respected in any case. Default true. */
  readonly enabled?: boolean
  /** None is asked for so long after a change by others in the partition. Default 1,000. */
  readonly quietMs?: number
  /** None is granted for so long after a recall, and twice as long after each that follows soon. Default 500. */
  readonly restMs?: number
}

interface Truth {
  /** What others change in the partition is told. */
  hears(p: number): boolean
  /** A change of our own may still be made that we gave up: it needs no recall. */
  isUncertain(p: number): boolean
}

/** May take the last name of a file away. */
const REMOVING: ReadonlySet<Script> = new Set([SCRIPTS.unlink, SCRIPTS.rename, SCRIPTS.txCommit, SCRIPTS.txWhole])

export class Holdings implements ChangeGuard {
  readonly #core: Core
  readonly #store: RedisStore
  readonly #openers: Openers
  readonly #delegations: Delegations
  readonly #restMs: number
  readonly #isEnabled: boolean
  readonly #truth: Truth
  /** How many nobody was asked for. */
  opens = 0

  constructor(
    core: Core,
    store: RedisStore,
    openers: Openers,
    truth: Truth,
    { enabled = true, quietMs = 1_000, restMs = 500 }: DelegationOptions,
  ) {
    const { clock, log } = core.options
    this.#core = core
    this.#store = store
    this.#openers = openers
    this.#restMs = restMs
    this.#isEnabled = enabled
    this.#truth = truth
    this.#delegations = new Delegations({
      partitions: core.partitions,
      clock,
      log,
      isCoherent: (p) => truth.hears(p),
      ask: (p, token, renews) => this.#ask(p, token, renews),
      giveBack: (p, token) => this.#openers.pay(p, token),
      quietMs,
    })
  }

  /** Whether nobody else has changed the inode or the names in it without our having heard, nor will in this turn. */
  holds(ino: number): boolean {
    const p = this.#core.keys.home(ino)
    return this.#isEnabled && !this.#truth.isUncertain(p) && this.#delegations.holds(p)
  }

  /** Makes this session an opener of the inode without asking anybody. false: it has to be asked. */
  open(ino: number): boolean {
    if (!this.holds(ino) || !this.#openers.openHeld(ino)) return false
    this.opens++
    return true
  }

  /** After the events of the message were told. */
  receive(p: number, message: Buffer): void {
    const notice = decodeDelegationNotice(message)
    const { session } = this.#core
    if (notice === null) {
      if (isChangeOfOthers(message, session.id)) this.#delegations.changed(p)
    } else if (notice.kind === 'givenBack') this.#core.recalls.givenBack(p)
    else if (notice.kind === 'recall') {
      if (notice.sessions.includes(session.id)) this.#delegations.recalled(p)
    } else if (notice.session === session.id) this.#delegations.marked(p, notice.token)
  }

  lost(): void {
    this.#delegations.lost()
  }

  lostIn(p: number): void {
    this.#delegations.lostIn(p)
  }

  around<T>(script: Script, [p, ...others]: readonly number[], change: () => Promise<T>): Promise<T> {
    const isPreparing = script === SCRIPTS.txPrepare || script === SCRIPTS.txPrepareGrowing
    if (p === undefined || (!isPreparing && !REMOVING.has(script))) return change()
    const next = (): Promise<T> => this.around(script, others, change)
    return this.#delegations.removing(p, isPreparing, () => {
      return this.#openers.isPaid(p) ? next() : this.#openers.pay(p).then(next)
    })
  }

  /** Of all that may have an entry in Redis, and nothing more is asked for. */
  giveAllBack(): Promise<void> {
    return this.#delegations.stop()
  }

  async #ask(p: number, token: number, renews: number): Promise<Grant> {
    const { keys, session } = this.#core
    const { locks, channel } = keys.partition(p)
    const args = [session.id, token, VALID_MS, renews, HOLDERS_MAX, this.#restMs]
    const options = { deadlineMs: ASK_DEADLINE_MS }
    const server = this.#store.serverOf(locks)
    const reply = new Reply(await this.#store.run(SCRIPTS.delegate, [locks, channel], args, options))
    if (reply.status === LAPSED) return { kind: 'lapsed' }
    if (reply.status !== GRANTED) return { kind: 'later', ms: reply.number(1) }
    const isSafe = (await this.#isReplicated(locks)) && this.#store.serverOf(locks) === server
    return isSafe ? { kind: 'granted' } : { kind: 'later', ms: VALID_MS }
  }

  /** A replica that takes the master's place must know of it. */
  async #isReplicated(key: string): Promise<boolean> {
    const wanted = this.#core.options.settings.metaReplicas
    return wanted === 0 || (await this.#store.waitReplicas([key], wanted, ASK_DEADLINE_MS)) >= wanted
  }
}

const CHANGES: ReadonlySet<number | undefined> = new Set([ATTR, DATA, ENTRY])

/** What is changed beside delegations has a kind of its own. */
function isChangeOfOthers(message: Buffer, session: number): boolean {
  return message.length > 4 && message.readUInt32LE(0) !== session && CHANGES.has(message[4])
}
