import { Command, InvalidArgumentError } from 'commander'
import { RingfsError } from '../base/errors.js'
import type { Member } from '../cluster/contract.js'
import { askForWalk, setHealLimit } from '../cluster/membership.js'
import { watchHealing, withCluster, type ClusterOptions } from './cluster.js'
import { withVolume } from './files/session.js'
import { print, type Surroundings } from './surroundings.js'

const EXAMPLES = `
Nodes do this by themselves whenever one comes or goes; this asks them to look again, and shows how far they are. Ctrl-C ends only the
watching. The limit stays until it is changed.

Examples:
  $ ringfs rebalance
  $ ringfs rebalance --limit 20`

interface Options extends ClusterOptions {
  readonly limit?: number
}

/** Megabytes a second, as bytes. */
export function megabytes(text: string): number {
  const value = Number(text)
  if (text.trim() === '' || !(value >= 0)) throw new InvalidArgumentError('megabytes a second, 0 for no limit')
  return Math.round(value * 1_000_000)
}

function isMember({ state }: Member): boolean {
  return state !== 'gone'
}

export function rebalanceCommand(surroundings: Surroundings): Command {
  const command = new Command('rebalance')
    .summary('move chunks to where they belong')
    .description(
      'Every node looks through its chunks, and what an owner lacks is copied to it. Waits until that is done.',
    )
    .option('--limit <MB/s>', 'what each node may fetch; 0: as fast as it goes', megabytes)
    .option('--no-wait', 'do not wait')
    .option('--json', 'progress as JSON lines')
    .addHelpText('after', EXAMPLES)
  return withVolume(command).action(async (_options: Options, self: Command) => {
    const options = self.optsWithGlobals<Options>()
    await withCluster(surroundings, options, async (cluster) => {
      if (!(await cluster.view()).members.some(isMember)) throw new RingfsError('USAGE', 'the volume has no nodes')
      if (options.limit !== undefined) await setHealLimit(cluster.redis, cluster.volume, options.limit)
      await askForWalk(cluster.redis, cluster.volume)
      if (options.wait === false) return
      const isWhole = await watchHealing(surroundings, cluster, options)
      if (options.json === true) return
      print(surroundings, isWhole ? 'every chunk is on all its owners\n' : 'it goes on without this command\n')
    })
  })
}
