/** `ringfs node drain`, `remove`, `settings`: the operator's part of membership. */
import { Command } from 'commander'
import { RingfsError } from '../base/errors.js'
import type { ClusterView, NodeState } from '../cluster/contract.js'
import { changeState, setHealLimit, setMembershipTimes, setScrubTime, setSurplusTime } from '../cluster/membership.js'
import { healProgress, isHandedOver } from '../cluster/progress.js'
import { ReplicationQueue } from '../cluster/queue.js'
import { ringMembers } from '../cluster/watcher.js'
import { atLeast, positive } from './arguments.js'
import { findNode, watchHealing, withCluster, type Cluster, type ClusterOptions } from './cluster.js'
import { withVolume } from './files/session.js'
import { megabytes } from './rebalance.js'
import { logOf, print, say, type Surroundings } from './surroundings.js'
import { humanDays, humanMs } from './units.js'

const ANY: readonly NodeState[] = ['joining', 'up', 'suspect', 'down']
/** Of a node that works, or may any moment. */
const HERE: readonly NodeState[] = ['joining', 'up', 'suspect', 'draining']
/** Of a node that was heard lately; one that drains is not judged by its silence. */
const BEATS: readonly NodeState[] = ['joining', 'up', 'draining']

const DRAIN_EXAMPLES = `
A node that drains takes no new chunks; what it has is copied to where it belongs without it. It goes on serving meanwhile. Ctrl-C
ends only the watching: the same command again goes on watching, and --cancel takes the node back. Refused where too few nodes would be
left for a write. While another node is down it is not known what that one lacks: the drain waits until it is back, or out. A node that
falls silent while it drains is waited for until it would count as out (5 minutes); started again, it goes on by itself.

Examples:
  $ ringfs node drain 3f2a
  $ ringfs node drain 3f2a --cancel`

interface DrainOptions extends ClusterOptions {
  readonly cancel?: boolean
}

export function drainCommand(surroundings: Surroundings): Command {
  const command = new Command('drain')
    .summary('move everything off a node')
    .description('Moves all chunks of a node to the others, and waits until that is done.')
    .argument('<id>', 'id of the node, or how it begins')
    .option('--cancel', 'give the node its place back')
    .option('--no-wait', 'do not wait')
    .option('--json', 'progress as JSON lines')
    .addHelpText('after', DRAIN_EXAMPLES)
  return withVolume(command).action(async (id: string, _options: DrainOptions, self: Command) => {
    const options = self.optsWithGlobals<DrainOptions>()
    await withCluster(surroundings, options, (cluster) => drain(surroundings, cluster, id, options))
  })
}

async function drain(surroundings: Surroundings, cluster: Cluster, text: string, options: DrainOptions): Promise<void> {
  const view = await cluster.view()
  const { id } = findNode(view, text)
  const [to, from]: ['up' | 'draining', readonly NodeState[]] =
    options.cancel === true ? ['up', ['draining']] : ['draining', ANY]
  if (to === 'draining') checkDrainable(surroundings, cluster, view, id)
  const state = await changeState(cluster.redis, cluster.volume, id, to, from)
  if (state !== to) throw new RingfsError('USAGE', `node ${id} is ${state ?? 'unknown'}: it cannot be made ${to}`)
  if (options.wait === false) return
  const isWhole = await watchHealing(surroundings, cluster, options, {
    isMet: (seen) => to === 'up' || isHandedOver(seen, id),
    ...(to === 'draining' && { waitsFor: (seen: ClusterView) => silenceOf(seen, id) }),
  })
  if (options.json === true) return
  if (!isWhole) print(surroundings, `node ${id} is ${to}, and goes on without this command\n`)
  else if (to === 'up') print(surroundings, `node ${id} has its place back\n`)
  else print(surroundings, `node ${id} is drained: stop it, then: ringfs node remove ${id}\n`)
}

/** A node that fell silent while it drains. Errors: NODE_UNREACHABLE, after as long as others would be given up. */
function silenceOf({ members, settings }: ClusterView, id: string): string | undefined {
  const silentMs = members.find((one) => one.id === id)?.silentMs
  if (silentMs === undefined || settings === undefined || silentMs <= settings.suspectMs) return undefined
  const text = `node ${id} has been silent for ${humanMs(silentMs)}, and only it can tell what it has`
  if (silentMs <= settings.outMs) return text
  throw new RingfsError(
    'NODE_UNREACHABLE',
    `${text}: start it, and it goes on draining; if it is lost: ringfs node remove ${id} --lost`,
  )
}

/** There must be somewhere for its chunks to go. Errors: USAGE. */
function checkDrainable(surroundings: Surroundings, { settings }: Cluster, view: ClusterView, id: string): void {
  const { replicas, writeQuorum } = settings
  if (view.members.find((one) => one.id === id)?.state === 'down') {
    throw new RingfsError(
      'USAGE',
      `node ${id} is down, and cannot tell what it has: start it, or: ringfs node remove ${id} --lost`,
    )
  }
  const left = ringMembers(view).filter((one) => one.id !== id).length
  if (left < writeQuorum) {
    const need = `a write needs ${writeQuorum}`
    throw new RingfsError('USAGE', `without node ${id} there are ${left} nodes, and ${need}: add one first`)
  }
  if (left < replicas) say(surroundings, `without node ${id} there are ${left} copies of each chunk, not ${replicas}`)
}

const REMOVE_EXAMPLES = `
What the node has counts for nothing any more, and its queue is dropped. Refused while others may need its chunks: drain it first,
or say --lost when it will never come back. Should it come back all the same, it is a new node with its old chunks. One that runs is not
lost: --lost is refused until it has been silent for so long that it is suspect, or with --force. It is gone at once; with --lost the
command then shows how far the others are with making up for it. Ctrl-C ends only the watching.

Examples:
  $ ringfs node remove 3f2a
  $ ringfs node remove 3f2a --lost`

interface RemoveOptions extends ClusterOptions {
  readonly lost?: boolean
  readonly force?: boolean
}

export function removeCommand(surroundings: Surroundings): Command {
  const command = new Command('remove')
    .summary('forget a node for good')
    .description('Takes a node that is drained, or lost for ever, out of the volume.')
    .argument('<id>', 'id of the node, or how it begins')
    .option('--lost', 'it will never come back: make up for its chunks from the other copies')
    .option('--force', 'with --lost: also if it beats, or did a moment ago')
    .option('--no-wait', 'with --lost: do not wait until the others have made up for it')
    .option('--json', 'the outcome as JSON, then progress as JSON lines')
    .addHelpText('after', REMOVE_EXAMPLES)
  return withVolume(command).action(async (id: string, _options: RemoveOptions, self: Command) => {
    const options = self.optsWithGlobals<RemoveOptions>()
    await withCluster(surroundings, options, (cluster) => remove(surroundings, cluster, id, options))
  })
}

async function remove(
  surroundings: Surroundings,
  cluster: Cluster,
  text: string,
  options: RemoveOptions,
): Promise<void> {
  const view = await cluster.view()
  const { id } = findNode(view, text)
  if (options.lost !== true) checkRemovable(view, id)
  else if (options.force !== true) checkLost(view, id)
  const state = await changeState(cluster.redis, cluster.volume, id, 'gone', [...ANY, 'draining'])
  if (state !== 'gone') throw new RingfsError('USAGE', `node ${id} is ${state ?? 'unknown'}: it cannot be removed`)
  await new ReplicationQueue(cluster.redis, {
    volume: cluster.volume,
    log: logOf(surroundings, options, 'error'),
  }).drop(id)
  print(surroundings, options.json === true ? `${JSON.stringify({ id, state })}\n` : `node ${id} is gone\n`)
  // One that is drained leaves nothing to be done.
  if (options.lost !== true || options.wait === false) return
  const isAnybodyThere = (await cluster.view()).members.some((one) => HERE.includes(one.state))
  if (!isAnybodyThere) return say(surroundings, 'no other node is there: what it had is made up for when they are back')
  const isWhole = await watchHealing(surroundings, cluster, options)
  if (options.json === true) return
  print(surroundings, isWhole ? 'all that is left is on all its owners\n' : 'the others go on without this command\n')
}

/** What a running node has others may need. Errors: USAGE. */
function checkLost({ members, settings }: ClusterView, id: string): void {
  const member = members.find((one) => one.id === id)
  // With a heartbeat one that is suspect or down is up again: it has sent none since.
  if (member === undefined || !BEATS.includes(member.state)) return
  const { state, silentMs } = member
  if (settings !== undefined && silentMs > settings.suspectMs) return
  const instead = state === 'draining' ? `wait for ringfs node drain ${id}` : `drain it: ringfs node drain ${id}`
  throw new RingfsError(
    'USAGE',
    `node ${id} is ${state}, and was heard ${humanMs(silentMs)} ago: ${instead}; if it is lost, stop it, and say this again when it is suspect; or add --force`,
  )
}

/** Everything that it has is whole without it. Errors: USAGE. */
function checkRemovable(view: ClusterView, id: string): void {
  const state = view.members.find((one) => one.id === id)?.state
  if (state === 'gone') return
  if (state !== 'draining') {
    throw new RingfsError('USAGE', `node ${id} is ${state ?? 'unknown'}, not drained: drain it first, or say --lost`)
  }
  if (ringMembers(view).length === 0) {
    throw new RingfsError('USAGE', `no node is left that could have what node ${id} has: add one, or say --lost`)
  }
  const { unfinished, waiting, away } = healProgress(view)
  if (unfinished.length > 0) {
    throw new RingfsError('USAGE', `node ${id} still drains (${waiting} copies wait): wait for ringfs node drain ${id}`)
  }
  if (isHandedOver(view, id)) return
  if (away.includes(id)) {
    throw new RingfsError('USAGE', `node ${id} is silent, and may have what no other has: start it, or say --lost`)
  }
  const down = away.length === 0 ? 'a node was' : `${away.join(', ')} ${away.length === 1 ? 'is' : 'are'}`
  throw new RingfsError(
    'USAGE',
    `${down} down, and node ${id} may have what it lacks: wait for ringfs node drain ${id}, or say --lost`,
  )
}

/** A node is silent for a second between two heartbeats, and for longer where Redis or the network is slow. */
const SUSPECT_MIN_S = 2
const DAY_MS = 86_400_000
/** Faster is `ringfs scrub --now`. */
const SCRUB_MIN_DAYS = 0.5

const SETTINGS_EXAMPLES = `
Examples:
  $ ringfs node settings
  $ ringfs node settings --suspect 4 --down 15 --out 300
  $ ringfs node settings --limit 50
  $ ringfs node settings --scrub 30`

interface SettingsOptions extends ClusterOptions {
  readonly suspect?: number
  readonly down?: number
  readonly out?: number
  readonly limit?: number
  readonly surplus?: number
  readonly scrub?: number
}

export function settingsCommand(surroundings: Surroundings): Command {
  const command = new Command('settings')
    .summary('when a silent node counts as lost, and how fast it is made up for')
    .description('Shows or changes the times and limits of the cluster, for all nodes and clients, at once.')
    .option(
      '--suspect <seconds>',
      'silence after which a node is asked after the others; at least 2',
      atLeast(SUSPECT_MIN_S),
    )
    .option('--down <seconds>', 'silence after which it is asked last', positive)
    .option('--out <seconds>', 'silence after which its chunks are made anew elsewhere', positive)
    .option('--limit <MB/s>', 'what each node may fetch to be whole; 0: as fast as it goes', megabytes)
    .option('--surplus <seconds>', 'how long copies that belong elsewhere are kept, once all is whole', positive)
    .option(
      '--scrub <days>',
      `in how many days each node reads and hashes all its chunks again; at least ${SCRUB_MIN_DAYS}`,
      atLeast(SCRUB_MIN_DAYS),
    )
    .option('--json', 'as JSON')
    .addHelpText('after', SETTINGS_EXAMPLES)
  return withVolume(command).action(async (_options: SettingsOptions, self: Command) => {
    const options = self.optsWithGlobals<SettingsOptions>()
    await withCluster(surroundings, options, (cluster) => settings(surroundings, cluster, options))
  })
}

async function settings(surroundings: Surroundings, cluster: Cluster, options: SettingsOptions): Promise<void> {
  const { redis, volume } = cluster
  const old = (await cluster.view()).settings
  if (options.suspect !== undefined || options.down !== undefined || options.out !== undefined) {
    const ms = (seconds: number | undefined, before = 0): number => (seconds === undefined ? before : seconds * 1000)
    await setMembershipTimes(redis, volume, {
      suspectMs: ms(options.suspect, old?.suspectMs),
      downMs: ms(options.down, old?.downMs),
      outMs: ms(options.out, old?.outMs),
    })
  }
  if (options.limit !== undefined) await setHealLimit(redis, volume, options.limit)
  if (options.surplus !== undefined) await setSurplusTime(redis, volume, options.surplus * 1000)
  if (options.scrub !== undefined) await setScrubTime(redis, volume, options.scrub * DAY_MS)
  const now = (await cluster.view()).settings
  if (options.json === true || now === undefined) return print(surroundings, `${JSON.stringify(now)}\n`)
  const { suspectMs, downMs, outMs, healBytesPerS, surplusMs, scrubMs } = now
  const limit = healBytesPerS === 0 ? 'none' : `${healBytesPerS / 1_000_000} MB/s for each node`
  const times = `suspect after ${humanMs(suspectMs)}, down after ${humanMs(downMs)}, out after ${humanMs(outMs)}`
  const kept = `surplus copies are kept for ${humanMs(surplusMs)}`
  const scrub = `all chunks are read and hashed again every ${humanDays(scrubMs)}`
  print(surroundings, `${times}\n${kept}\nlimit of healing: ${limit}\n${scrub}\n`)
}
