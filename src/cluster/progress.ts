/** How far the cluster is with moving chunks to where they belong, from what its nodes say. Pure. */
import type { ClusterView, Member } from './contract.js'
import { planOf } from './plan.js'
import { NOTHING_HEALED } from './report.js'
import { ringMembers } from './watcher.js'

/** Folders in which a node walks its chunks; CHUNK_BUCKETS of the chunk contract. */
const BUCKETS = 4_096

export interface HealProgress {
  /** Every node that is there has walked the whole ring as it is now, and no owner that is there lacks anything. Never where nobody is an owner. */
  readonly isDone: boolean
  /** Share of the walk, 0 to 1, on average. */
  readonly walked: number
  /** Copies that are still to be made, as far as is known. */
  readonly waiting: number
  /** Since the nodes' starts: see copiedSince. */
  readonly copied: number
  readonly copiedBytes: number
  readonly bytesPerS: number
  /** Chunks that lie where they need not, and are given up once a ring is whole. */
  readonly surplus: number
  /** null: nobody can say yet. What is not looked through may lack anything. */
  readonly leftMs: number | null
  /** Nodes that have not finished. */
  readonly unfinished: readonly string[]
  /** Nodes that are down: what only they have is not copied, and what they lack is not known. */
  readonly away: readonly string[]
  /** Nodes that cannot list all that they have: what only they have there is not copied. */
  readonly short: readonly string[]
}

export function healProgress(view: ClusterView): HealProgress {
  const plan = planOf(view)
  const here = view.members.filter((member) => isHere(member, view))
  const away = view.members.filter((member) => member.state !== 'gone' && !isHere(member, view))
  const sum = (figure: (member: Member) => number): number => here.reduce((total, one) => total + figure(one), 0)
  const walkedOf = ({ report }: Member): number => (report?.heal.plan === plan ? report.heal.walked / BUCKETS : 0)
  const unfinished = here.filter((member) => !isFinished(member, plan))
  const waiting = sum(({ queueLength }) => queueLength)
  const walked = here.length === 0 ? 0 : sum(walkedOf) / here.length
  const totals = {
    copied: sum(({ report }) => report?.heal.copied ?? 0),
    copiedBytes: sum(({ report }) => report?.heal.copiedBytes ?? 0),
    bytesPerS: sum(({ report }) => report?.heal.bytesPerS ?? 0),
  }
  return {
    isDone: here.length > 0 && unfinished.length === 0 && ringMembers(view).length > 0,
    walked,
    waiting,
    ...totals,
    surplus: sum(({ report }) => report?.heal.surplus ?? 0),
    leftMs: unfinished.length === 0 ? 0 : leftMs(waiting, walked, totals),
    unfinished: unfinished.map(({ id }) => id),
    away: away.map(({ id }) => id),
    short: here.filter(({ report }) => (report?.heal.unlisted ?? 0) > 0).map(({ id }) => id),
  }
}

/** What nodes have copied between two views. One that was started again meanwhile counts from then on. */
export function copiedSince(first: ClusterView, now: ClusterView): Pick<HealProgress, 'copied' | 'copiedBytes'> {
  const then = new Map(first.members.map(({ id, report }) => [id, report?.heal]))
  const since = { copied: 0, copiedBytes: 0 }
  for (const { id, report } of now.members) {
    const before = then.get(id)
    const { copied, copiedBytes } = report?.heal ?? NOTHING_HEALED
    const isSame = before !== undefined && before.copied <= copied && before.copiedBytes <= copiedBytes
    since.copied += copied - (isSame ? before.copied : 0)
    since.copiedBytes += copiedBytes - (isSame ? before.copiedBytes : 0)
  }
  return since
}

/**
 * Of a node that drains: all that it has is whole without it. One that is silent by now may have had more than others know: its last word
 * counts. What an owner lacks that was down when it was to be asked nobody knows, and this node may have the only copy of it; so it may of what lies in
 * a folder that it cannot list.
 */
export function isHandedOver(view: ClusterView, id: string): boolean {
  const member = view.members.find((one) => one.id === id)
  if (member?.state !== 'draining' || !isFinished(member, planOf(view))) return false
  const { walked, skipped, unlisted } = member.report?.heal ?? NOTHING_HEALED
  return walked >= BUCKETS && skipped + unlisted === 0 && healProgress(view).isDone
}

function isFinished({ report, queueLength }: Member, plan: string): boolean {
  return queueLength === 0 && report?.heal.plan === plan && report.heal.isDone
}

/**
 * Whether a node may have chunks that are none of its business: it has not walked the whole ring as it is now, or found such ones, could not ask all
 * owners, or not list all that it has. Unknown is yes.
 */
export function mayHaveSurplus({ report }: Member, plan: string): boolean {
  const { heal } = report ?? { heal: NOTHING_HEALED }
  const isWalked = heal.plan === plan && heal.isDone && heal.walked >= BUCKETS
  return !isWalked || heal.surplus + heal.skipped + heal.unlisted > 0
}

/** One that drains is never judged by its silence: here it is. */
function isHere({ state, silentMs }: Member, { settings }: ClusterView): boolean {
  if (state === 'gone' || state === 'down') return false
  return state !== 'draining' || silentMs <= (settings?.downMs ?? Infinity)
}

function leftMs(
  waiting: number,
  walked: number,
  { copied, copiedBytes, bytesPerS }: Pick<HealProgress, 'copied' | 'copiedBytes' | 'bytesPerS'>,
): number | null {
  if (bytesPerS <= 0 || copied === 0 || walked <= 0 || waiting === 0) return null
  // What is not walked yet is as full of gaps as what is.
  return Math.round(((waiting / walked) * (copiedBytes / copied) * 1000) / bytesPerS)
}
