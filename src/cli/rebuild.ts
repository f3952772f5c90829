import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { Command } from 'commander'
import { RingfsError, hasCode } from '../base/errors.js'
import { longestInlineBytes } from '../base/limits.js'
import { LOST_AND_FOUND } from '../check/lost-and-found.js'
import { INCOMPLETE, linesOf, unknownOf } from '../check/rebuild/words.js'
import type { MetaUrl } from '../cluster/url.js'
import { findDataFolders, readUpRecord, type DataFolders } from '../main/data-folder.js'
import { runRebuild, startRedisOf, type Rebuilt } from '../main/rebuilding.js'
import { stopSignal } from '../main/stop-signal.js'
import { integer, positive } from './arguments.js'
import { Steps } from './steps.js'
import { keyOf, logOf, print, type CommonOptions, type Surroundings } from './surroundings.js'
import { findTarget, urlOf } from './target.js'
import { counted, humanBytes } from './units.js'

interface Options extends CommonOptions {
  readonly meta?: string
  readonly data: readonly string[]
  readonly ifDue?: boolean
  readonly dryRun?: boolean
  readonly deep?: boolean
  readonly minAge: number
  readonly force?: boolean
  readonly nodes?: number
  readonly wait: number
  readonly json?: boolean
}

const MINUTE_MS = 60_000
/**
 * Of a younger chunk the writer may still be about to commit it: an upload is tried for a minute, then waits for those before it, and its
 * commit for Redis. A file made of it here and the writer's own would share the chunk unawares, and who deletes one takes it from the other.
 */
const UPLOAD_MINUTES = 5

const EXAMPLES = `
Every chunk says for which file it was written, and where in it. Chunks that no file names become files in /lost+found, called by
their old numbers: the end of what a failover of Redis lost, or, on a Redis that has nothing left, all files. Nothing else changes
and nothing is deleted. It may be interrupted, and given again at any time: what is there is not made twice.

A Redis without the volume gets it anew, with the settings that the nodes remember: give --data, the folder of one of its nodes, or
of its ringfs up. Nodes that run come back by themselves; of those that do not, the folders given are read as they are. Unmount
clients from before first: what they had open is gone.

Exit codes: 0 everything that there is was looked at; 4 there may be more (a node or a disk is away, uploads are under way, damaged chunks).

Examples:
  $ ringfs rebuild --dry-run                                    what would be restored
  $ ringfs rebuild --if-due                                     what ringfs-rebuild.timer does (ringfs systemd node)
  $ ringfs rebuild --deep redis://10.0.0.1:6379/home            and is every chunk of it good?
  $ ringfs rebuild --data ./ringfs-data                         of a ringfs up whose Redis is empty
  $ ringfs rebuild --data /srv/chunks --nodes 5 redis://10.0.0.9:6379/home`

export function rebuildCommand(surroundings: Surroundings): Command {
  const collect = (text: string, before: readonly string[]): readonly string[] => [...before, text]
  return new Command('rebuild')
    .summary('restore files whose metadata were lost, from the chunks')
    .description('Restores files whose metadata were lost from the chunks on the nodes, into /lost+found.')
    .argument('[meta-url]')
    .option('--meta <url>', 'META_URL of the volume (or RINGFS_META)')
    .option('--data <dir>', 'data folder of a node or of a ringfs up; several times', collect, [])
    .option('--if-due', 'do nothing unless a failover or a restore asks for it (what a timer calls)')
    .option('--dry-run', 'change nothing')
    .option('--deep', 'read and hash what is restored')
    .option('--min-age <minutes>', 'how old a chunk must be while clients use the volume', positive, 15)
    .option('--force', `with --min-age below ${UPLOAD_MINUTES}: no client writes, and none that was cut off will go on`)
    .option('--nodes <n>', 'wait for so many nodes', integer(1))
    .option('--wait <seconds>', 'how long', positive, 60)
    .option('--json', 'as JSON')
    .addHelpText('after', EXAMPLES)
    .action(async (text: string | undefined, _: Options, self: Command) => {
      process.exitCode = await run(surroundings, text, self.optsWithGlobals<Options>())
    })
}

async function run(surroundings: Surroundings, text: string | undefined, options: Options): Promise<number> {
  checkAge(options)
  const ups = options.data.flatMap((folder) => findDataFolders(folder) ?? [])
  const log = logOf(surroundings, options, 'error')
  const nodeFolders = options.data.flatMap(nodeFoldersIn)
  const target = await targetOf(surroundings, text ?? options.meta, ups, options)
  const steps = new Steps(surroundings, options.json)
  const stopping = new AbortController()
  void stopSignal().stopped.then(() => stopping.abort())
  try {
    const result = await runRebuild({
      ...{ url: target.url, nodeFolders, log, key: keyOf(surroundings, options, log), signal: stopping.signal },
      ...{
        ifDue: options.ifDue === true,
        dryRun: options.dryRun === true,
        deep: options.deep === true,
        minAgeMs: options.minAge * MINUTE_MS,
      },
      ...nodesWanted(options, ups.length > 0 ? ups.flatMap(({ root }) => nodesBelow(root)).length : undefined),
      waitMs: options.wait * 1000,
      onProgress: (what, done, all) => steps.show(what, done, all),
    })
    steps.end()
    if (result === undefined) {
      print(surroundings, options.json === true ? '{ "isDue": false }\n' : 'no rebuild is due\n')
      return 0
    }
    print(surroundings, options.json === true ? asJson(result) : asText(result, options))
    return result.isComplete && !hasDamage(result) ? 0 : INCOMPLETE
  } finally {
    steps.end()
    await target.close()
  }
}

/** What only looks may look at uploads that are under way. */
function checkAge({ minAge, force, dryRun }: Options): void {
  if (minAge >= UPLOAD_MINUTES || force === true || dryRun === true) return
  throw new RingfsError(
    'USAGE',
    `--min-age ${minAge}: a client may still be about to commit a chunk that is younger than ${UPLOAD_MINUTES} minutes, and would lose it ` +
      'with the file in lost+found: unmount the clients, for then no age counts; --force if no client that lives, or comes back, writes',
  )
}

/** An `up` has no other nodes than those in its folder. */
function nodesWanted({ nodes }: Options, inFolder: number | undefined): { readonly nodes?: number } {
  const wanted = nodes ?? inFolder
  return wanted === undefined ? {} : { nodes: wanted }
}

/** Those of an `up` are below it, and below its further folders, as far as these are there. */
function nodeFoldersIn(folder: string): readonly string[] {
  const up = findDataFolders(folder)
  if (up === undefined) return [folder]
  return [up.root, ...(readUpRecord(up.root)?.more ?? [])].flatMap(nodesBelow)
}

function nodesBelow(folder: string): readonly string[] {
  const nodes = join(folder, 'nodes')
  if (!existsSync(nodes)) return []
  return readdirSync(nodes)
    .map((name) => join(nodes, name))
    .filter((one) => existsSync(join(one, 'ringfs-node.json')))
}

async function targetOf(
  surroundings: Surroundings,
  meta: string | undefined,
  [up]: readonly DataFolders[],
  options: Options,
): Promise<{ readonly url: MetaUrl; close(): Promise<void> }> {
  const open = { close: () => Promise.resolve() }
  if (meta !== undefined) return { ...open, url: urlOf(surroundings, meta) }
  if (up === undefined) return { ...open, url: await findTarget(surroundings, {}) }
  try {
    return { ...open, url: await findTarget(surroundings, { data: up.root }) }
  } catch (error) {
    const record = readUpRecord(up.root)
    if (!hasCode(error, 'NOT_RUNNING') || record === undefined) throw error
    return await startRedisOf(up, record.volume, logOf(surroundings, options, 'error'))
  }
}

function hasDamage({ files, headless }: Rebuilt): boolean {
  return headless.size > 0 || files.some(({ damaged, senseless }) => damaged.length + senseless.length > 0)
}

function asJson(result: Rebuilt): string {
  const { settings, isAnew, headless, away, ...rest } = result
  const whole = {
    ...{ volume: settings.name, uuid: settings.uuid, isAnew, folder: `/${LOST_AND_FOUND.toString()}`, ...rest },
    headless: [...headless].map(([chunk, nodes]) => ({ chunk, nodes })),
    away: [...away].map(([node, why]) => ({ node, why })),
    unknown: unknownOf(result, isAnew, longestInlineBytes(settings.inlineBytes)),
  }
  return `${JSON.stringify(whole, null, 2)}\n`
}

function asText(result: Rebuilt, { dryRun }: Options): string {
  const { files, settings, isAnew, nodes, chunks } = result
  const bytes = files.reduce((sum, file) => sum + file.bytes, 0)
  const would = dryRun === true ? 'would be restored' : 'restored'
  const unknown = unknownOf(result, isAnew, longestInlineBytes(settings.inlineBytes))
  return [
    ...files.flatMap((file) => linesOf(file, humanBytes)),
    `${counted(files.length, 'file')}, ${humanBytes(bytes)}, ${would} into /${LOST_AND_FOUND.toString()} of volume ${settings.name}` +
      ` (${counted(chunks, 'chunk')} on ${counted(nodes, 'node')} looked at)`,
    ...(isAnew && dryRun !== true ? [`volume ${settings.name} was made anew: nothing of its metadata was left`] : []),
    ...(unknown.length === 0 ? [] : ['What the chunks do not tell:', ...unknown.map((line) => `  - ${line}`)]),
    ...(result.isComplete ? [] : ['There may be more: run it again']),
    '',
  ].join('\n')
}
