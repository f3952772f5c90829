/**
 * One partition in a world of its own: Redis as the scripts make it (delegate.lua, register.lua, recall() of lib/mutate.lua), some
 * clients with the real Delegations, and between them messages that take as long as the game likes, in order on a subscription,
 * in any order elsewhere, and some of them twice. Each open that a client answers by what it holds is compared with the truth.
 */
import { setImmediate as turn } from 'node:timers/promises'
import type { Clock } from '../../src/base/clock.js'
import { silentLog } from '../../src/base/log.js'
import { Delegations, VALID_MS, type Grant } from '../../src/meta/delegations.js'

/** What a protocol with a hole would do. */
export type Defect =
  | 'a grant counts before its marker came'
  | 'Redis counts shorter than the holder'
  | 'a change recalls nobody'
  | 'preparing recalls nobody'
  | 'granted beside something prepared'
  | 'given back without being ended'
  | 'a late give back takes a newer entry'
  | 'what is over is renewed'
  | 'a lost subscription is not told'
  | 'Redis forgets an entry'

export type Move =
  | {
      readonly kind: 'look' | 'open' | 'hear' | 'cut' | 'change' | 'prepare' | 'decide' | 'finish'
      readonly client: number
    }
  /** Of the requests that are under way, the one at this place is carried out, or its reply delivered. */
  | { readonly kind: 'run' | 'again' | 'reply'; readonly place: number }
  | { readonly kind: 'pass'; readonly ms: number }

type Message =
  | { readonly kind: 'changed'; readonly by: number }
  | { readonly kind: 'marker'; readonly session: number; readonly token: number }
  | { readonly kind: 'recall'; readonly sessions: readonly number[] }

interface Request {
  readonly run: () => unknown
  readonly done: (reply: unknown) => void
  reply: unknown
  hasRun: boolean
}

interface Entry {
  readonly token: number
  readonly endsMs: number
}

const PARTITION = 0
const REST_MS = 20
const TELL_MS = 500

export class DelegationWorld {
  readonly #defect: Defect | null
  readonly #clients: Client[]
  readonly #requests: Request[] = []
  readonly #entries = new Map<number, Entry>()
  #nowMs = 1_000_000
  #quietMs = 0
  /** When the holders were told last; 0: not since the last grant. */
  #toldMs = 0
  /** What is true, decided transactions included. */
  #version = 1
  #preparedBy: { readonly client: number; isDecided: boolean } | null = null
  /** Opens that were answered locally, and those among them that were stale. */
  opens = 0
  stale = 0

  constructor(clients: number, defect: Defect | null) {
    this.#defect = defect
    this.#clients = Array.from({ length: clients }, (_, id) => new Client(id, this))
  }

  get clock(): Clock {
    return {
      now: () => ({ sec: Math.floor(this.#nowMs / 1_000), nsec: (this.#nowMs % 1_000) * 1e6 }),
      monotonicMs: () => this.#nowMs,
      wallMs: () => this.#nowMs,
      sleep: () => new Promise(() => undefined),
      after: () => ({ close: () => undefined, unref: () => undefined }),
    }
  }

  async play(moves: readonly Move[]): Promise<void> {
    for (const move of moves) {
      this.#play(move)
      // What was answered is acted upon before anything else happens: a client has one thread.
      await turn()
    }
  }

  #play(move: Move): void {
    switch (move.kind) {
      case 'pass':
        this.#nowMs += move.ms
        return
      case 'run':
      case 'again':
      case 'reply':
        this.#serve(move.kind, move.place)
        return
      default:
        this.#act(move.kind, move.client % this.#clients.length)
    }
  }

  #act(kind: Move['kind'], id: number): void {
    const client = this.#clients[id]
    if (client === undefined) return
    if (kind === 'look') client.cached = this.#version
    else if (kind === 'open') this.#open(client)
    else if (kind === 'hear') client.hear()
    else if (kind === 'cut') client.cut(this.#defect === 'a lost subscription is not told')
    else if (kind === 'change') void this.request(() => this.#change(id))
    else if (kind === 'prepare') client.prepare(() => this.request(() => this.#prepare(id)))
    else if (kind === 'decide') this.#decide(id)
    else if (kind === 'finish') this.#finish(id)
  }

  #serve(kind: 'run' | 'again' | 'reply', place: number): void {
    const some = this.#requests.filter((one) => one.hasRun === (kind !== 'run'))
    const request = some[place % Math.max(1, some.length)]
    if (request === undefined) return
    if (kind === 'again') request.run()
    else if (kind === 'run') {
      request.reply = request.run()
      request.hasRun = true
    } else {
      request.done(request.reply)
      // Some stay: a copy of them may still be carried out.
      if (place % 2 === 0) this.#requests.splice(this.#requests.indexOf(request), 1)
    }
  }

  request(run: () => unknown): Promise<unknown> {
    return new Promise((done) => this.#requests.push({ run, done, reply: undefined, hasRun: false }))
  }

  #open(client: Client): void {
    if (!client.delegations.holds(PARTITION) || client.cached === 0) return
    this.opens++
    if (client.cached !== this.#version) this.stale++
  }

  // --- Redis -----------------------------------------------------------------------------------------------------

  #publish(message: Message): void {
    for (const client of this.#clients) client.inbox.push(message)
  }

  ask(session: number, token: number, renews: number): Grant {
    const own = this.#entries.get(session)
    if (own !== undefined && own.token > token) return { kind: 'later', ms: 0 }
    const lasts = own?.token === renews && own.endsMs > this.#nowMs
    if (renews > 0 && !lasts && this.#defect !== 'what is over is renewed') return { kind: 'lapsed' }
    if (this.#nowMs < this.#quietMs) return { kind: 'later', ms: this.#quietMs - this.#nowMs }
    if (this.#preparedBy !== null && this.#defect !== 'granted beside something prepared')
      return { kind: 'later', ms: 1 }
    const validMs = this.#defect === 'Redis counts shorter than the holder' ? VALID_MS / 3 : VALID_MS
    this.#entries.set(session, { token, endsMs: this.#nowMs + validMs })
    this.#toldMs = 0
    if (renews === 0) {
      if (this.#defect === 'a grant counts before its marker came') this.#clients[session]?.delegations.marked(0, token)
      this.#publish({ kind: 'marker', session, token })
    }
    return { kind: 'granted' }
  }

  giveBack(session: number, token: number): void {
    const own = this.#entries.get(session)
    const isNewer = own !== undefined && own.token > token
    if (!isNewer || this.#defect === 'a late give back takes a newer entry') this.#entries.delete(session)
  }

  /** true: somebody else has to give back first. */
  #recalls(session: number): boolean {
    if (this.#defect === 'Redis forgets an entry') this.#entries.clear()
    const others = [...this.#entries].filter(([id, { endsMs }]) => id !== session && endsMs > this.#nowMs)
    if (others.length === 0) return false
    this.#quietMs = this.#nowMs + REST_MS
    if (this.#nowMs - this.#toldMs < TELL_MS) return true
    this.#toldMs = this.#nowMs
    if (this.#defect === 'given back without being ended') for (const [id] of others) this.#entries.delete(id)
    else this.#publish({ kind: 'recall', sessions: others.map(([id]) => id) })
    return true
  }

  #change(session: number): void {
    if (this.#preparedBy !== null) return
    if (this.#defect !== 'a change recalls nobody' && this.#recalls(session)) return
    this.#version++
    this.#publish({ kind: 'changed', by: session })
    this.#tell(session)
  }

  #prepare(session: number): void {
    if (this.#preparedBy !== null) return
    if (this.#defect !== 'preparing recalls nobody' && this.#recalls(session)) return
    this.#preparedBy = { client: session, isDecided: false }
  }

  /** In another partition: nothing is published here. */
  #decide(session: number): void {
    if (this.#preparedBy?.client !== session || this.#preparedBy.isDecided) return
    this.#preparedBy.isDecided = true
    this.#version++
    this.#tell(session)
  }

  /** By anybody. */
  #finish(session: number): void {
    if (this.#preparedBy?.isDecided !== true) return
    this.#publish({ kind: 'changed', by: this.#preparedBy.client })
    this.#preparedBy = null
    this.#tell(session)
  }

  /** Who changed something knows: in the turn of its reply, which is not what this is about. */
  #tell(session: number): void {
    const client = this.#clients[session]
    if (client !== undefined) client.cached = this.#version
  }
}

class Client {
  readonly delegations: Delegations
  readonly inbox: Message[] = []
  /** The version that its caches hold, 0: none. */
  cached = 0
  readonly #id: number

  constructor(id: number, world: DelegationWorld) {
    this.#id = id
    this.delegations = new Delegations({
      partitions: 1,
      clock: world.clock,
      log: silentLog,
      isCoherent: () => true,
      quietMs: 0,
      ask: async (_p, token, renews) => {
        const reply = await world.request(() => world.ask(id, token, renews))
        return isGrant(reply) ? reply : { kind: 'lapsed' }
      },
      giveBack: async (_p, token) => {
        await world.request(() => world.giveBack(id, token))
      },
    })
  }

  /** The next message of the subscription. */
  hear(): void {
    const message = this.inbox.shift()
    if (message?.kind === 'changed' && message.by !== this.#id) this.cached = 0
    else if (message?.kind === 'marker' && message.session === this.#id) this.delegations.marked(0, message.token)
    else if (message?.kind === 'recall' && message.sessions.includes(this.#id)) this.delegations.recalled(0)
  }

  /** The subscription is lost, and back at once: what was on its way never comes. */
  cut(isSilent: boolean): void {
    this.inbox.length = 0
    if (isSilent) return
    this.cached = 0
    this.delegations.lost()
  }

  prepare(send: () => Promise<unknown>): void {
    void this.delegations.removing(0, true, send)
  }
}

function isGrant(reply: unknown): reply is Grant {
  return typeof reply === 'object' && reply !== null && 'kind' in reply
}
