import { Command } from 'commander'
import { systemClock } from '../base/clock.js'
import { RingfsError, messageOf } from '../base/errors.js'
import { holdersOf } from '../check/nodes.js'
import type { ScrubRequest, ScrubState } from '../chunk/contract.js'
import type { Volume } from '../main/volume.js'
import { byteSize } from './arguments.js'
import type { VolumeSelector } from './context.js'
import { withVolume } from './files/session.js'
import type { Steps } from './steps.js'
import { print, type CommonOptions, type Surroundings } from './surroundings.js'
import { counted, humanBytes, table } from './units.js'
import { withOpenVolume } from './with-volume.js'

interface Options extends CommonOptions, VolumeSelector {
  readonly now?: boolean
  readonly stop?: boolean
  readonly limit?: number
  readonly json?: boolean
}

interface NodeScrub {
  readonly node: string
  readonly state?: ScrubState
  readonly error?: string
}

const POLL_MS = 300
const CALL_DEADLINE_MS = 15_000
const WRONG = 4

const EXAMPLES = `
Every node does this by itself once a week (ringfs node settings --scrub), slowly, and goes on where it was after a restart. A copy
that has rotted is replaced by a good one from another node and set aside (quarantine/ in the node's data folder); without a good
one it stays.

Exit codes: 0; 4 when a copy could not be replaced or not be read, a folder not be listed, or a node does not answer.

Examples:
  $ ringfs scrub                       how far each node is, and what it found
  $ ringfs scrub --now --limit 200M    read and hash everything now; Ctrl-C leaves the nodes at it
  $ ringfs scrub --stop                at their leisure again`

export function scrubCommand(surroundings: Surroundings): Command {
  const command = new Command('scrub')
    .summary('read and hash all chunks on the nodes')
    .description('Shows how far the nodes are with reading and hashing all their chunks, or has them do it now.')
    .argument('[meta-url]')
    .option('--now', 'a whole round at once; waits for its end')
    .option('--limit <bytes>', 'with --now: per second and node (default: 64M)', byteSize)
    .option('--stop', 'ends what --now began')
    .option('--json', 'as JSON')
    .addHelpText('after', EXAMPLES)
  return withVolume(command).action(async (url: string | undefined, _: Options, self: Command) => {
    process.exitCode = await run(surroundings, url, self.optsWithGlobals<Options>())
  })
}

async function run(surroundings: Surroundings, text: string | undefined, options: Options): Promise<number> {
  checkWords(options)
  const nodes = await withOpenVolume(surroundings, text, options, async (volume, steps) => {
    const action = options.now === true ? 'start' : options.stop === true ? 'stop' : 'status'
    const first = await ask(volume, action, options.limit ?? 0)
    return options.now === true ? await untilDone(volume, first, steps) : first
  })
  print(surroundings, options.json === true ? `${JSON.stringify(nodes, null, 2)}\n` : asText(nodes))
  return nodes.every(({ state }) => state !== undefined && isWell(state)) ? 0 : WRONG
}

function isWell({ bad, replaced, unread, unlisted }: ScrubState): boolean {
  return bad <= replaced && unread + unlisted === 0
}

/** Errors: USAGE. */
function checkWords({ now, stop, limit }: Options): void {
  if (now === true && stop === true) throw new RingfsError('USAGE', '--now begins what --stop ends: give one of them')
  if (limit !== undefined && now !== true) throw new RingfsError('USAGE', '--limit is for --now: give both')
}

async function ask(
  { settings, watcher, peers }: Volume,
  action: ScrubRequest['action'],
  bytesPerSecond: number,
): Promise<NodeScrub[]> {
  const request = { volume: settings.uuid, action, bytesPerSecond }
  return await Promise.all(
    holdersOf(watcher.current().view).map(async (node): Promise<NodeScrub> => {
      try {
        return { node, state: await peers.get(node).scrub(request, { deadlineMs: CALL_DEADLINE_MS }) }
      } catch (error) {
        return { node, error: messageOf(error) }
      }
    }),
  )
}

async function untilDone(volume: Volume, first: readonly NodeScrub[], steps: Steps): Promise<NodeScrub[]> {
  for (let nodes = [...first]; ; nodes = await ask(volume, 'status', 0)) {
    const busy = nodes.flatMap(({ state }) => (state?.isHasty === true ? [state] : []))
    const done = busy.reduce((sum, { bucket }) => sum + bucket, 0)
    const all = busy.reduce((sum, { buckets }) => sum + buckets, 0)
    if (busy.length === 0) return nodes
    steps.show(`${busy.length} nodes, folders`, done, all)
    await systemClock.sleep(POLL_MS)
  }
}

function asText(nodes: readonly NodeScrub[]): string {
  const rows = nodes.map(({ node, state, error }) => {
    if (state === undefined) return [node, error ?? '', '', '', '', '']
    const { bucket, buckets, checked, checkedBytes, bad, replaced, finishedMs } = state
    const place = `${((100 * bucket) / buckets).toFixed(1)} %`
    const last = finishedMs === 0 ? 'never' : new Date(finishedMs).toISOString()
    return [node, place, `${checked} (${humanBytes(checkedBytes)})`, String(bad), String(replaced), last]
  })
  return [table(['NODE', 'ROUND', 'CHECKED', 'BAD', 'REPLACED', 'LAST ROUND'], rows), ...nodes.flatMap(leftOut)].join(
    '',
  )
}

function leftOut({ node, state }: NodeScrub): string[] {
  if (state === undefined || state.unread + state.unlisted === 0) return []
  const { unread, unlisted } = state
  const what = `${counted(unread, 'chunk')} that could not be read, and ${counted(unlisted, 'folder')} that could not be listed`
  return [`! node ${node} has left out ${what}: ringfs status and its log say more\n`]
}
