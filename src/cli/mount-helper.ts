/**
 * `mount.ringfs SOURCE DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]`, as mount(8) calls it (section EXTERNAL HELPERS).
 * It returns when the mount can be used, and its exit codes are those of mount(8).
 *
 * SOURCE is a META_URL without its password, or the data folder of a `ringfs up`, which is started if it does not run.
 */
import { spawnSync } from 'node:child_process'
import { parseArgs } from 'node:util'
import * as z from 'zod'
import { RingfsError, hasCode, messageOf } from '../base/errors.js'
import { parseMetaUrl } from '../cluster/url.js'
import { parseMountOptions, type MountOptionSet } from '../fuse/mount-options.js'
import { resolveMounted, resolveMountpoint } from '../fuse/mountpoint.js'
import { remount } from '../fuse/remount.js'
import { findDataFolders } from '../main/data-folder.js'
import { PROGRAM, detach } from '../main/detach.js'
import { readRunFiles } from '../main/runfiles.js'
import { checkWords } from '../main/words.js'
import { mountWords } from './arguments.js'
import { failureText } from './failures.js'
import { detachMount, isUrl, sourceUrl } from './mount.js'
import { print, say, type Surroundings } from './surroundings.js'

/** mount(8), EXIT STATUS. */
const EXIT = { ok: 0, usage: 1, failed: 32 } as const

const USAGE = 'usage: mount.ringfs SOURCE DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]'
const TYPES: ReadonlySet<string> = new Set(['ringfs', 'fuse.ringfs', 'fuse'])

interface Request {
  readonly source: string
  readonly dir: string
  readonly options: MountOptionSet
  /** -f: everything but the mount. */
  readonly fake: boolean
  readonly verbose: boolean
  /** -N: path of a mount namespace. */
  readonly namespace: string | undefined
}

/** Answers the exit code. What goes wrong is one line on standard error. */
export async function runMountHelper(surroundings: Surroundings, words: readonly string[]): Promise<number> {
  let options: MountOptionSet | undefined
  try {
    checkWords(words)
    const request = parseRequest(words)
    options = request.options
    if (request.namespace !== undefined) return inNamespace(request.namespace, words)
    const done = await carryOut(surroundings, request)
    if (request.verbose) print(surroundings, `mount.ringfs: ${done}\n`)
    return EXIT.ok
  } catch (error) {
    surroundings.stderr.write(`mount.ringfs: ${failureText(error)}\n`)
    if (options?.noFail === true && isAbsent(error)) return EXIT.ok
    return hasCode(error, 'USAGE') ? EXIT.usage : EXIT.failed
  }
}

/** What nofail is about: what would be mounted is not there. Everything else would fail later, too. */
function isAbsent(error: unknown): boolean {
  return hasCode(error, 'REDIS_UNREACHABLE') || hasCode(error, 'NOT_RUNNING')
}

function parseRequest(words: readonly string[]): Request {
  const { values, positionals } = parseWords(words)
  const [source, dir] = positionals
  if (source === undefined || dir === undefined || positionals.length > 2) throw new RingfsError('USAGE', USAGE)
  if (values.type !== undefined && !TYPES.has(values.type)) {
    throw new RingfsError('USAGE', `type ${values.type}: this mounts ringfs`)
  }
  const options = parseMountOptions(values.options ?? [], values.sloppy)
  const { fake = false, verbose = false, namespace } = values
  return { source, dir, options, fake, verbose, namespace }
}

function parseWords(words: readonly string[]): ReturnType<typeof parseArgs<typeof WORDS>> {
  try {
    return parseArgs({ ...WORDS, args: [...words] })
  } catch (error) {
    throw new RingfsError('USAGE', `${messageOf(error)}; ${USAGE}`)
  }
}

const WORDS = {
  allowPositionals: true,
  options: {
    sloppy: { type: 'boolean', short: 's' },
    fake: { type: 'boolean', short: 'f' },
    // No /etc/mtab: nothing writes one any more.
    'no-mtab': { type: 'boolean', short: 'n' },
    verbose: { type: 'boolean', short: 'v' },
    namespace: { type: 'string', short: 'N' },
    options: { type: 'string', short: 'o', multiple: true },
    type: { type: 'string', short: 't' },
  },
} as const

/** Answers what was done, in a line. */
async function carryOut(surroundings: Surroundings, request: Request): Promise<string> {
  if (request.options.remount) return changeMount(surroundings, request)
  if (isUrl(request.source)) return mountVolume(surroundings, request)
  return mountDataFolder(surroundings, request)
}

async function mountVolume(surroundings: Surroundings, { source, dir, options, fake }: Request): Promise<string> {
  if (parseMetaUrl(source).password !== undefined) {
    throw new RingfsError(
      'USAGE',
      'every user can read a password in SOURCE: put it into a file, -o password-file=FILE',
    )
  }
  const url = await sourceUrl(surroundings, source, options)
  const mountpoint = await resolveMountpoint(dir)
  if (fake) return `${source} would be mounted at ${mountpoint}`
  const told = await detachMount(surroundings, url, mountpoint, withSource(options, source))
  for (const text of told.warnings) say(surroundings, `warning: ${text}`)
  return `volume ${told.volume} is mounted at ${told.mountpoint}; process ${told.pid}, log in ${told.logFile ?? ''}`
}

/** Shown as it was given: `mount -a` sees by it that the line of /etc/fstab is mounted already. */
function withSource(options: MountOptionSet, source: string): MountOptionSet {
  return options.fsName === undefined ? parseMountOptions([...options.texts, `fsname="${source}"`]) : options
}

const upSchema = z.object({ volume: z.string(), mountpoint: z.string() })

async function mountDataFolder(surroundings: Surroundings, request: Request): Promise<string> {
  const { source, dir, fake } = request
  const folders = findDataFolders(source)
  if (folders === undefined) {
    throw new RingfsError('NOT_RUNNING', `${source} is no META_URL and no data folder: make one with ringfs up --data`)
  }
  const options = withSource(request.options, source)
  const mountpoint = await resolveMountpoint(dir)
  if (fake) return `${source} would be mounted at ${mountpoint}`
  const { inherited, runFolder } = surroundings.environment
  if (readRunFiles(runFolder).some((run) => run.dataDir === folders.root)) {
    const url = await sourceUrl(surroundings, source, options)
    const told = await detachMount(surroundings, url, mountpoint, options)
    return `volume ${told.volume} is mounted again at ${told.mountpoint}; process ${told.pid}, log in ${told.logFile ?? ''}`
  }
  const words = ['up', mountpoint, '--data', folders.root, '--ready-pipe', ...mountWords(options)]
  const ready = await detach({ words, env: inherited, logFile: folders.log, schema: upSchema })
  return `volume ${ready.volume} is mounted at ${ready.mountpoint}; process ${ready.pid}, log in ${folders.log}`
}

async function changeMount(surroundings: Surroundings, { dir, options, fake }: Request): Promise<string> {
  const mountpoint = await resolveMounted(dir)
  const run = readRunFiles(surroundings.environment.runFolder).findLast((one) => one.mountpoint === mountpoint)
  if (run?.readOnly === true && !options.readOnly) {
    throw new RingfsError('MOUNT_FAILED', `${dir} was mounted read-only: unmount it and mount it anew`)
  }
  if (!fake) await remount(mountpoint, options)
  return `${mountpoint} is ${options.readOnly ? 'read-only' : 'writable'} now`
}

/** The whole of it runs in that namespace: Node, ringfs and the folder must be there, too. */
function inNamespace(namespace: string, words: readonly string[]): number {
  const rest = withoutNamespace(words)
  const helper = PROGRAM.replace(/ringfs\.js$/, 'mount-helper.js')
  const command = [`--mount=${namespace}`, '--', process.execPath, helper, ...rest]
  const { status, error } = spawnSync('nsenter', command, { stdio: 'inherit' })
  if (error !== undefined) throw new RingfsError('MOUNT_FAILED', `nsenter cannot be run: ${error.message}`)
  return status ?? EXIT.failed
}

/** `-N NS` and `-NNS`; mount(8) gives it as a word of its own. */
function withoutNamespace(words: readonly string[]): readonly string[] {
  const at = words.findIndex((word) => word.startsWith('-N'))
  if (at < 0) return words
  return words.filter((_, index) => index !== at && !(words[at] === '-N' && index === at + 1))
}
