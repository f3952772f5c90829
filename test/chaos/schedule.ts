/**
 * What is done to the cluster, and when: from the seed alone. Pure, so that the same seed is the same schedule.
 *
 * A round is a few faults while everybody works; all are lifted before what came of it is compared. The plan keeps to the fault model of
 * docs/reliability.md: of a chunk's copies at most W-1 = 1 is destroyed (lost, rotten) before all is whole again, and one Redis server of
 * a master and its replica is away at a time. Everything else may come in any mixture.
 */
import type { Rule } from '../helpers/wire.js'
import type { Random } from '../torture/random.js'

export type Fault =
  /** SIGKILL, SIGSTOP, cable out, nothing that it sends arrives, nothing arrives there, no space left on its disk. */
  | { readonly kind: 'kill' | 'stop' | 'cut' | 'mute' | 'deafen' | 'fill'; readonly node: number }
  /** Killed, its folder deleted; an empty node takes its place. */
  | { readonly kind: 'lose'; readonly node: number }
  /** A bit in each of some copies. */
  | { readonly kind: 'rot'; readonly node: number; readonly copies: number }
  /** What one node sends to another is lost. */
  | { readonly kind: 'sever'; readonly node: number; readonly to: number }
  | { readonly kind: 'impair'; readonly host: number; readonly rule: Rule }
  | { readonly kind: 'clock'; readonly host: number; readonly seconds: number }
  | { readonly kind: 'kill-mount' | 'cut-mount' | 'stop-mount'; readonly mount: number }
  | { readonly kind: 'kill-redis' | 'stop-redis' | 'promote-redis'; readonly shard: number }
  | { readonly kind: 'move-slots'; readonly from: number; readonly to: number }

export interface Planned {
  readonly fault: Fault
  /** Since the round began. */
  readonly atMs: number
  readonly forMs: number
}

export interface RoundPlan {
  readonly faults: readonly Planned[]
  /**
   * One node at a time is out of action, and neither Redis nor a mount is: no call may fail. Otherwise one may end with EIO, after
   * its deadline.
   */
  readonly isStrict: boolean
  /** Copies are destroyed: the cluster is made whole before the next round. */
  readonly isDamaging: boolean
  /** Since the round began: all is over. */
  readonly endMs: number
}

export interface Shape {
  readonly nodes: number
  readonly mounts: number
  readonly shards: number
  /** Nothing but these; default: everything. */
  readonly only?: readonly string[]
}

const START_MS = 500
const SPREAD_MS = 8_000
/** Of a round without faults to the end of its work, and after the last one. */
const REST_MS = 1_500
const TRIES = 40
const HOUR_S = 3_600

interface Kind {
  readonly kind: Fault['kind']
  readonly weight: number
  /** Shortest and longest. */
  readonly forMs: readonly [number, number]
}

const KINDS: readonly Kind[] = [
  { kind: 'kill', weight: 12, forMs: [500, 12_000] },
  { kind: 'stop', weight: 10, forMs: [500, 12_000] },
  { kind: 'cut', weight: 8, forMs: [1_000, 12_000] },
  { kind: 'mute', weight: 5, forMs: [1_000, 10_000] },
  { kind: 'deafen', weight: 5, forMs: [1_000, 10_000] },
  { kind: 'sever', weight: 6, forMs: [2_000, 10_000] },
  { kind: 'fill', weight: 5, forMs: [2_000, 8_000] },
  { kind: 'lose', weight: 6, forMs: [1_000, 4_000] },
  { kind: 'rot', weight: 5, forMs: [0, 0] },
  { kind: 'impair', weight: 14, forMs: [2_000, 10_000] },
  { kind: 'clock', weight: 8, forMs: [4_000, 20_000] },
  { kind: 'kill-mount', weight: 10, forMs: [0, 0] },
  { kind: 'stop-mount', weight: 4, forMs: [500, 6_000] },
  { kind: 'cut-mount', weight: 4, forMs: [500, 6_000] },
  { kind: 'kill-redis', weight: 6, forMs: [200, 14_000] },
  { kind: 'stop-redis', weight: 6, forMs: [200, 14_000] },
  { kind: 'promote-redis', weight: 4, forMs: [0, 0] },
  { kind: 'move-slots', weight: 5, forMs: [0, 0] },
]

/** Faults that take a node out of action, its disk included. */
const OUT: readonly Fault['kind'][] = ['kill', 'stop', 'cut', 'mute', 'deafen', 'fill', 'lose']
const REDIS: readonly Fault['kind'][] = ['kill-redis', 'stop-redis', 'promote-redis', 'move-slots']
const DAMAGE: readonly Fault['kind'][] = ['lose', 'rot']

export function planRound(random: Random, shape: Shape): RoundPlan {
  const outAtOnce = random.pick([1, 1, 1, 2, 2, shape.nodes])
  const wanted = random.between(2, 7)
  const faults: Planned[] = []
  for (let tries = TRIES; tries > 0 && faults.length < wanted; tries--) {
    const planned = draw(random, shape)
    if (fits(planned, faults, outAtOnce)) faults.push(planned)
  }
  faults.sort((a, b) => a.atMs - b.atMs)
  return {
    faults,
    isStrict: mostOut(faults) <= 1 && faults.every(({ fault }) => isBorne(fault)),
    isDamaging: faults.some(({ fault }) => DAMAGE.includes(fault.kind)),
    endMs: Math.max(SPREAD_MS, ...faults.map(endOf)) + REST_MS,
  }
}

export const FAULT_KINDS: readonly string[] = KINDS.map(({ kind }) => kind)

function draw(random: Random, shape: Shape): Planned {
  const kinds = KINDS.filter((each) => shape.only?.includes(each.kind) ?? true)
  let at = random.below(kinds.reduce((sum, { weight }) => sum + weight, 0))
  const kind = kinds.find(({ weight }) => (at -= weight) < 0)
  if (kind === undefined) throw new Error('the weights do not add up')
  const fault = faultOf(kind.kind, random, shape)
  return { fault, atMs: START_MS + random.below(SPREAD_MS), forMs: random.between(...kind.forMs) }
}

function faultOf(kind: Fault['kind'], random: Random, { nodes, mounts, shards }: Shape): Fault {
  const node = random.below(nodes)
  switch (kind) {
    case 'rot':
      return { kind, node, copies: random.between(1, 20) }
    case 'sever':
      return { kind, node, to: (node + random.between(1, nodes - 1)) % nodes }
    case 'impair':
      return { kind, host: random.below(nodes + mounts), rule: ruleOf(random) }
    case 'clock':
      return { kind, host: random.below(nodes + mounts), seconds: random.between(-48 * HOUR_S, 48 * HOUR_S) }
    case 'kill-mount':
    case 'cut-mount':
    case 'stop-mount':
      return { kind, mount: random.below(mounts) }
    case 'kill-redis':
    case 'stop-redis':
    case 'promote-redis':
      return { kind, shard: random.below(shards) }
    case 'move-slots': {
      const from = random.below(shards)
      return { kind, from, to: (from + random.between(1, shards - 1)) % shards }
    }
    default:
      return { kind, node }
  }
}

function ruleOf(random: Random): Rule {
  const slow = random.pick([0, 5, 50, 300])
  return {
    delayMs: random.below(slow + 1),
    jitterMs: random.below(slow + 1),
    loss: random.pick([0, 0, 0.01, 0.05, 0.2]),
    doubled: random.pick([0, 0.01, 0.2]),
  }
}

function endOf({ atMs, forMs }: Planned): number {
  return atMs + forMs
}

/** Nodes are hosts, mounts come behind them; shards are far off. */
function targetsOf(fault: Fault): readonly string[] {
  if ('mount' in fault) return [`mount ${fault.mount}`]
  if ('host' in fault) return [`${fault.kind} ${fault.host}`]
  if ('node' in fault) return [`node ${fault.node}`]
  return ['redis']
}

/** A kind of fault does not meet itself or another one of the same target, damage and Redis come once a round. */
function fits(planned: Planned, others: readonly Planned[], outAtOnce: number): boolean {
  const { kind } = planned.fault
  const again = others.map(({ fault }) => fault.kind)
  if (DAMAGE.includes(kind) && again.some((other) => DAMAGE.includes(other))) return false
  if (REDIS.includes(kind) && again.some((other) => REDIS.includes(other))) return false
  const targets = targetsOf(planned.fault)
  const meets = (other: Planned): boolean => targetsOf(other.fault).some((target) => targets.includes(target))
  // A killed mount, and a lost node, stay so until the end.
  if (others.some((other) => meets(other))) return false
  return mostOut([...others, planned]) <= outAtOnce
}

function mostOut(faults: readonly Planned[]): number {
  const out = faults.filter(({ fault }) => OUT.includes(fault.kind))
  return Math.max(0, ...out.map(({ atMs }) => out.filter((one) => one.atMs <= atMs && endOf(one) >= atMs).length))
}

/** Calls wait for it, and none fails. */
function isBorne(fault: Fault): boolean {
  if (fault.kind === 'impair') return (fault.rule.loss ?? 0) <= 0.01
  return fault.kind === 'clock' || 'node' in fault
}

/** For people. */
export function faultText(fault: Fault): string {
  switch (fault.kind) {
    case 'rot':
      return `rot ${fault.copies} copies of node ${fault.node}`
    case 'sever':
      return `sever node ${fault.node} to node ${fault.to}`
    case 'impair':
      return `impair host ${fault.host} ${JSON.stringify(fault.rule)}`
    case 'clock':
      return `clock of host ${fault.host} off by ${fault.seconds} s`
    case 'move-slots':
      return `move slots of shard ${fault.from} to shard ${fault.to}`
    default:
      if ('mount' in fault) return `${fault.kind} ${fault.mount}`
      if ('shard' in fault) return `${fault.kind} of shard ${fault.shard}`
      return `${fault.kind} node ${fault.node}`
  }
}

export function plannedText({ fault, atMs, forMs }: Planned): string {
  const lasting = forMs === 0 ? '' : ` for ${(forMs / 1000).toFixed(1)} s`
  return `at ${(atMs / 1000).toFixed(1)} s ${faultText(fault)}${lasting}`
}
