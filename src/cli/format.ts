import { Command, InvalidArgumentError, Option } from 'commander'
import { CHUNK_MAX_BYTES, SMALL_CHUNK_BYTES } from '../base/limits.js'
import { META_SYNCS, type MetaSync, type VolumeSettings } from '../cluster/contract.js'
import { connectRedis } from '../cluster/redis.js'
import { formatVolume, replicasThere, type FormatOptions } from '../meta/format.js'
import { byteSize, byteSizeOrNone, integer } from './arguments.js'
import { logOf, print, say, type CommonOptions, type Surroundings } from './surroundings.js'
import { urlOf } from './target.js'
import { counted, humanBytes } from './units.js'

interface Options extends CommonOptions {
  readonly replicas?: number
  readonly writeQuorum?: number
  readonly partitions?: number
  readonly chunkSize?: number
  readonly metaReplicas?: number
  readonly metaSync?: MetaSync
  readonly inlineBytes?: number
  readonly inlineBudget?: number
}

const EXAMPLES = `
Nothing can be formatted over: a name that exists is refused.

Examples:
  $ ringfs format redis://:secret@10.0.0.1:6379,10.0.0.2:6379/home --replicas 3
  $ RINGFS_META_PASSWORD=secret ringfs format redis://10.0.0.1:6379/home`

export function formatCommand(surroundings: Surroundings): Command {
  return new Command('format')
    .summary('make a new volume on a Redis Cluster')
    .description('Makes a new, empty volume. Its settings are fixed for ever.')
    .argument('<meta-url>', 'redis://[:password@]host:port[,host:port…]/VOLUME')
    .option('--replicas <n>', 'copies of each chunk, on different nodes (default: 1)', integer(1))
    .option('--write-quorum <n>', 'copies that must be there before a write counts (default: the majority)', integer(1))
    .option('--partitions <n>', 'shares of the metadata, to spread over Redis masters (default: 256)', integer(1))
    .option('--chunk-size <bytes>', `largest chunk, ${SMALL_CHUNK_BYTES / 1024}K to 4M (default: 4M)`, chunkSize)
    .option(
      '--meta-replicas <n>',
      'Redis replicas that must have the metadata (default: 1 where every master has one, else 0)',
      integer(0),
    )
    .addOption(
      new Option('--meta-sync <when>', 'what waits for them: every change, or only fsync (default: always)').choices(
        META_SYNCS,
      ),
    )
    .option(
      '--inline-bytes <bytes>',
      'files up to this length are kept in Redis; 0: none (default: 16K)',
      byteSizeOrNone,
    )
    .option('--inline-budget <bytes>', 'how much of them there may be, in all (default: 256M)', byteSize)
    .addHelpText('after', EXAMPLES)
    .action(async (url: string, _options: Options, command: Command) => {
      await format(surroundings, url, command.optsWithGlobals<Options>())
    })
}

function chunkSize(text: string): number {
  const bytes = byteSize(text)
  if (bytes >= SMALL_CHUNK_BYTES && bytes <= CHUNK_MAX_BYTES) return bytes
  throw new InvalidArgumentError('Give a size from 64K to 4M.')
}

async function format(surroundings: Surroundings, text: string, options: Options): Promise<void> {
  const url = urlOf(surroundings, text)
  const redis = await connectRedis(url, { log: logOf(surroundings, options, 'error') })
  try {
    const { metaReplicas: wanted } = options
    const there = wanted === 0 ? 0 : await replicasThere(redis, url.volume, { most: wanted ?? 1 })
    const made = await formatVolume(redis, url.volume, { ...settingsOf(options), metaReplicas: wanted ?? there })
    warnOfMissing(surroundings, made, there)
    const { name, replicas, writeQuorum, partitions, chunkBytes } = made
    const what = `${counted(replicas, 'replica')}, write quorum ${writeQuorum}, ${partitions} partitions, chunks of ${humanBytes(chunkBytes)}`
    print(surroundings, `volume ${name} is made: ${what}, ${syncText(made)}\n`)
  } finally {
    await redis.close()
  }
}

function warnOfMissing(surroundings: Surroundings, { metaReplicas }: VolumeSettings, there: number): void {
  if (there >= metaReplicas) return
  const now =
    there === 0 ? 'a Redis master has no replica now' : `a Redis master has only ${counted(there, 'replica')} now`
  say(surroundings, `warning: ${now}: until each has ${metaReplicas}, fsync is EIO`)
}

function syncText({ metaReplicas, metaSync }: VolumeSettings): string {
  if (metaReplicas === 0) return 'metadata on the Redis masters alone'
  const who = metaSync === 'always' ? 'each change' : 'fsync'
  return `${who} waits for ${metaReplicas} Redis ${metaReplicas === 1 ? 'replica' : 'replicas'}`
}

function settingsOf(options: Options): FormatOptions {
  const { replicas, writeQuorum, partitions, chunkSize, metaSync, inlineBytes, inlineBudget } = options
  return {
    ...(inlineBytes !== undefined && { inlineBytes }),
    ...(inlineBudget !== undefined && { inlineBudgetBytes: inlineBudget }),
    ...(replicas !== undefined && { replicas }),
    ...(writeQuorum !== undefined && { writeQuorum }),
    ...(partitions !== undefined && { partitions }),
    ...(chunkSize !== undefined && { chunkBytes: chunkSize }),
    ...(metaSync !== undefined && { metaSync }),
  }
}
