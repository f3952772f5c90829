/**
 * What a session knows of its replies in each partition: which the server may forget, and whether the servers still know what it was
 * told is done. A replica that takes its master's place may lack the last of it.
 *
 * A judged change is remembered until the server was told, in a change that was judged behind it, that its reply may be forgotten
 * (lib/mutate.lua). Invariants:
 * - Nobody but this session has the server forget a reply. So one that was never named to it, and is not there, was lost.
 * - Replies are named as known to be there: the server counts them, and notes where some were missing. So what was lost is found out also
 *   if changes were made behind the loss before anybody asked: each of these either is asked about itself, or named what was lost.
 * - What changes names or contents is named only by what changes names or contents: losing a change of the other kind, with what
 *   it had named, says nothing of these.
 * - Of a change whose answer did not come nobody knows whether it had these replies forgotten: they are named once more, and not counted.
 *
 * Two kinds: what changes names or contents, and the rest (locks, opens, access times). Losing the rest is mended in silence; losing
 * the first is what an fsync must tell.
 */
import type { Script } from '../cluster/contract.js'
import { SCRIPTS } from './scripts.js'

/** So many are gathered, since each is work for Redis; and so many go with one change. */
const NAMED_MIN = 8
const NAMED_MAX = 64
/** In one script. */
const ASKED_MAX = 1_000

const OTHER: ReadonlySet<Script> = new Set<Script>([
  ...[SCRIPTS.touch, SCRIPTS.open, SCRIPTS.close, SCRIPTS.register, SCRIPTS.reserve, SCRIPTS.txFinish],
  ...[SCRIPTS.lock, SCRIPTS.unlock, SCRIPTS.lockCancel, SCRIPTS.lockDrop],
])

/** Its reply is not kept, since it may run twice: nobody asks about it, and it has nothing forgotten. */
const UNKEPT: ReadonlySet<Script> = new Set<Script>([SCRIPTS.reap])

/** It changes names, attributes or contents, and its reply is kept: sent again with the same sequence, it is done once. */
export function isOfContents(script: Script): boolean {
  return !OTHER.has(script) && !UNKEPT.has(script)
}

/** Replies that a change tells the server to forget. */
export interface Named {
  readonly contents: readonly number[]
  readonly others: readonly number[]
  /** Which may be forgotten already. */
  readonly again: readonly number[]
}

const NOTHING: Named = { contents: [], others: [], again: [] }
const NONE: ReadonlySet<number> = new Set()

interface Replies {
  /** Judged, and no judged change has named them. */
  readonly contents: Set<number>
  readonly others: Set<number>
  /** Nobody asks about them: not judged, or what they are to tell is known to be lost. */
  readonly again: Set<number>
  /** Named by a change that is under way: which. */
  readonly carriers: Map<number, number>
  /** How often the server had noted that replies were missing, of contents and of others, when it was dealt with. */
  missed: Missed
}

type Missed = readonly [contents: number, others: number]

/** A sequence, and the one of the change under way that names it, or 0. */
export type Asked = readonly [sequence: number, carrier: number]

export interface Answer {
  readonly missed: Missed
  /** Of these neither the reply nor the one of their carrier is there. */
  readonly missing: ReadonlySet<number>
}

export interface TailLoss {
  /** Names or contents are lost, not only locks, opens and the like. */
  readonly hasContents: boolean
}

export class Tails {
  readonly #replies = new Map<number, Replies>()
  /** Partitions with changes of contents that no fsync has looked at yet: how many there were, to tell a newer one. */
  readonly #unsynced = new Map<number, number>()
  /** By partition: others in which such changes of it changed something, too. They are lost with it. */
  readonly #beside = new Map<number, Set<number>>()
  #count = 0

  /**
   * What change `carrier`, which is about to be sent, names. Only below the lowest sequence in use, `low`, which goes with it: a copy of
   * what is named that is still on its way is refused then, and would run again else.
   */
  name(p: number, script: Script, carrier: number, low: number): Named {
    const replies = this.#replies.get(p)
    if (replies === undefined || UNKEPT.has(script)) return NOTHING
    const { contents, others, again, carriers } = replies
    const ofContents = OTHER.has(script) ? NONE : contents
    if (again.size + others.size + ofContents.size < NAMED_MIN) return NOTHING
    let room = NAMED_MAX
    const some = (from: Iterable<number>): number[] => {
      const list: number[] = []
      for (const sequence of from) {
        if (room === 0 || sequence >= low) break
        if (carriers.has(sequence)) continue
        list.push(sequence)
        room--
      }
      return list
    }
    const named = { again: some(again), others: some(others), contents: some(ofContents) }
    if (NAMED_MAX - room < NAMED_MIN) return NOTHING
    for (const one of sequencesOf(named)) carriers.set(one, carrier)
    return named
  }

  /** A change was judged, and what it named is forgotten. `isNothing`: it was refused, and had named no contents: its loss is none of contents. */
  judged(
    p: number,
    script: Script,
    sequence: number,
    named: Named,
    isNothing = false,
    beside: readonly number[] = [],
  ): void {
    if (UNKEPT.has(script)) return
    const replies = this.#of(p)
    for (const one of sequencesOf(named)) {
      for (const set of [replies.contents, replies.others, replies.again]) set.delete(one)
      replies.carriers.delete(one)
    }
    if (OTHER.has(script)) replies.others.add(sequence)
    else if (isNothing && named.others.length > 0) replies.others.add(sequence)
    else if (isNothing) replies.again.add(sequence)
    else {
      replies.contents.add(sequence)
      this.#unsynced.set(p, ++this.#count)
      for (const other of beside) this.#showsIn(p, other)
    }
  }

  #showsIn(p: number, other: number): void {
    const others = this.#beside.get(p)
    if (others === undefined) this.#beside.set(p, new Set([other]))
    else others.add(other)
  }

  /** Where a loss of changes of the partition that no fsync has looked at may show. */
  shownIn(p: number): ReadonlySet<number> {
    return new Set([p, ...(this.#beside.get(p) ?? [])])
  }

  /** Whether a change was judged is not known, nor whether what it named is forgotten. */
  failed(p: number, sequence: number, named: Named): void {
    const replies = this.#of(p)
    for (const one of sequencesOf(named)) {
      replies.contents.delete(one)
      replies.others.delete(one)
      replies.carriers.delete(one)
      replies.again.add(one)
    }
    replies.again.add(sequence)
  }

  #of(p: number): Replies {
    let replies = this.#replies.get(p)
    if (replies === undefined) {
      replies = { contents: new Set(), others: new Set(), again: new Set(), carriers: new Map(), missed: [0, 0] }
      this.#replies.set(p, replies)
    }
    return replies
  }

  /** For an fsync: the partitions to look at. Given to `synced` when they are well. */
  unsynced(): ReadonlyMap<number, number> {
    return new Map(this.#unsynced)
  }

  synced(seen: ReadonlyMap<number, number>): void {
    for (const [p, count] of seen) {
      if (this.#unsynced.get(p) !== count) continue
      this.#unsynced.delete(p)
      this.#beside.delete(p)
    }
  }

  /** In which anything was changed. */
  get partitions(): readonly number[] {
    return [...this.#replies.keys()]
  }

  /** `ask`: what the server knows of these. null: nothing is lost. What it answers is dealt with: it is not answered again. */
  async lossOf(p: number, ask: (asked: readonly Asked[]) => Promise<Answer>): Promise<TailLoss | null> {
    const replies = this.#replies.get(p)
    if (replies === undefined) return null
    let [lostContents, lostOthers] = [false, false]
    let missed = replies.missed
    const found = new Set<number>()
    let open = [...replies.contents, ...replies.others]
    // At least once: also what was named may have been missing.
    for (let isOpen = true; isOpen;) {
      const asked = open.slice(0, ASKED_MAX).map((one): Asked => [one, replies.carriers.get(one) ?? 0])
      open = open.slice(ASKED_MAX)
      const answer = await ask(asked)
      missed = answer.missed
      let isGone = false
      for (const [one, carrier] of asked) {
        const isContents = replies.contents.has(one)
        if (!answer.missing.has(one)) found.add(one)
        else if (!isContents && !replies.others.has(one)) isGone = true
        else if ((replies.carriers.get(one) ?? 0) !== carrier) open.push(one)
        else if (isContents) lostContents = true
        else lostOthers = true
      }
      // A change that was judged meanwhile named it. By this server: then it is counted if it was missing, but perhaps behind this answer. Or by
      // one that is lost with all it had forgotten: then that change is missing, or the one that named it in turn.
      if (isGone) open = [...replies.contents, ...replies.others].filter((one) => !found.has(one))
      isOpen = isGone || open.length > 0
    }
    const hasContents = lostContents || missed[0] !== replies.missed[0]
    const isAny = hasContents || lostOthers || missed[1] !== replies.missed[1]
    replies.missed = missed
    return isAny ? { hasContents } : null
  }

  /** The loss is dealt with: what comes from now on counts. */
  forget(p: number): void {
    this.#unsynced.delete(p)
    this.#beside.delete(p)
    const replies = this.#replies.get(p)
    if (replies === undefined) return
    for (const set of [replies.contents, replies.others]) {
      for (const one of set) replies.again.add(one)
      set.clear()
    }
  }

  /** Another session begins. */
  clear(): void {
    this.#replies.clear()
    this.#unsynced.clear()
    this.#beside.clear()
  }
}

/** As the scripts take them: lists of the three, with a slash in between; '' for none. */
export function encodeNamed({ contents, others, again }: Named): string {
  if (contents.length + others.length + again.length === 0) return ''
  return `${contents.join(' ')}/${others.join(' ')}/${again.join(' ')}`
}

function sequencesOf({ contents, others, again }: Named): number[] {
  return [...contents, ...others, ...again]
}
