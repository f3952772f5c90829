/**
 * The file of the cluster keys: a key a line, the newest first (src/rpc/key-ring.ts). Nobody but its owner may get at it.
 *
 * A running process looks now and then whether the file has changed, so that keys are changed without a restart. A file that
 * is damaged, missing or open to others meanwhile changes nothing: what was read last stays in force, and the log tells.
 *
 * Who changes it has FILE.lock, and only then reads FILE; so each change is of what the one before has left. It is made in a file beside
 * it that nobody chooses as a name (partialOf), which is renamed over FILE, and has succeeded when file and folder are on disk. When it fails,
 * that file goes; what one that was killed has left of it the next one removes. No other file is touched, FILE.new neither: a new key may be
 * prepared in it.
 */
import { randomBytes } from 'node:crypto'
import {
  closeSync,
  fchownSync,
  fstatSync,
  fsyncSync,
  openSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
  type Stats,
} from 'node:fs'
import { readFile, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { RingfsError, messageOf } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { whileLocked } from './key-lock.js'
import { CLUSTER_KEYS_MAX, KeyRing, clusterKey, parseKeys, secretsIn } from '../rpc/key-ring.js'

const POLL_MS = 2_000
const SECRET_BYTES = 32
const NOT_OWNER = 0o077

/**
 * Reads the file and goes on watching it, until the process ends.
 * Errors: RingfsError USAGE (it cannot be read, or others can), KEY_REQUIRED (what is in it is no key).
 */
export function watchKeyFile(path: string, log: Log, pollMs = POLL_MS): KeyRing {
  // A process in the background changes its folder.
  const file = resolve(path)
  const ring = new KeyRing(parseIn(file, readText(file)))
  // Not by inotify: a file that is replaced, or lies on a network file system, would be lost sight of.
  new Watch(file, ring, log).every(pollMs)
  return ring
}

class Watch {
  readonly #file: string
  readonly #ring: KeyRing
  readonly #log: Log
  #complaint = ''
  #isLooking = false

  constructor(file: string, ring: KeyRing, log: Log) {
    this.#file = file
    this.#ring = ring
    this.#log = log
  }

  every(pollMs: number): void {
    setInterval(() => void this.#look(), pollMs).unref()
  }

  /** Not synchronous: the file could lie on a mount of this very process. */
  async #look(): Promise<void> {
    if (this.#isLooking) return
    this.#isLooking = true
    try {
      checkMode(this.#file, await stat(this.#file))
      const keys = parseIn(this.#file, await readFile(this.#file, 'utf8'))
      this.#complaint = ''
      if (this.#ring.replace(keys))
        this.#log.info({ offers: keys[0]?.id, accepts: keys.map(({ id }) => id) }, 'cluster keys changed')
    } catch (error) {
      this.#complain(messageOf(error))
    } finally {
      this.#isLooking = false
    }
  }

  #complain(reason: string): void {
    if (reason === this.#complaint) return
    this.#complaint = reason
    this.#log.warn({ reason }, 'the cluster keys stay as they were')
  }
}

function readText(file: string): string {
  try {
    checkMode(file, statSync(file))
    return readFileSync(file, 'utf8')
  } catch (error) {
    if (error instanceof RingfsError) throw error
    throw new RingfsError('USAGE', `the cluster key cannot be read: ${messageOf(error)}`, { cause: error })
  }
}

function checkMode(file: string, info: Stats): void {
  if ((info.mode & NOT_OWNER) === 0) return
  // Nobody is to change the mode of a folder, or of /dev/null.
  const advice = info.isFile() ? `chmod 600 ${file}` : 'give the name of a file'
  throw new RingfsError('USAGE', `others can get at the cluster key in ${file}: ${advice}`)
}

function parseIn(file: string, text: string): ReturnType<typeof parseKeys> {
  try {
    return parseKeys(text)
  } catch (error) {
    throw error instanceof RingfsError ? new RingfsError(error.code, `${file}: ${error.message}`) : error
  }
}

/** Makes a file with one new key; answers the id. Errors: RingfsError USAGE, also when it exists. */
export function newKeyFile(file: string): string {
  const secret = newSecret()
  try {
    const fd = openSync(file, 'wx', 0o600)
    orRemoved(file, () => {
      writeAndClose(fd, [secret])
      syncFolder(dirname(file))
    })
  } catch (error) {
    throw new RingfsError('USAGE', `the key file cannot be made: ${messageOf(error)}`, { cause: error })
  }
  return idOf(secret)
}

/** Puts a new key before the others; answers its id. Errors: RingfsError USAGE, KEY_REQUIRED. */
export function addKey(file: string): string {
  const secret = newSecret()
  change(file, (secrets) => {
    if (secrets.length < CLUSTER_KEYS_MAX) return [secret, ...secrets]
    throw new RingfsError(
      'USAGE',
      `${file} has ${secrets.length} keys: remove old ones first, ringfs key remove FILE ID`,
    )
  })
  return idOf(secret)
}

/** Errors: RingfsError USAGE when it is not there, or is the last one. */
export function removeKey(file: string, id: string): void {
  change(file, (secrets) => {
    const left = secrets.filter((secret) => idOf(secret) !== id)
    if (left.length === secrets.length)
      throw new RingfsError('USAGE', `${file} has no key ${id}: see ringfs key list FILE`)
    if (left.length === 0) throw new RingfsError('USAGE', `${id} is the only key in ${file}: add a new one first`)
    return left
  })
}

/** Ids, newest first. Errors: RingfsError USAGE, KEY_REQUIRED. */
export function listKeys(file: string): readonly string[] {
  return parseIn(file, readText(file)).map(({ id }) => id)
}

function secretsOf(file: string): readonly string[] {
  const text = readText(file)
  parseIn(file, text)
  return secretsIn(text)
}

function newSecret(): string {
  return randomBytes(SECRET_BYTES).toString('base64url')
}

function idOf(secret: string): string {
  return clusterKey(Buffer.from(secret)).id
}

/** Renamed into place: whoever reads sees the old keys or the new ones. It stays whose it was, and where a symlink leads. */
function change(link: string, changed: (secrets: readonly string[]) => readonly string[]): void {
  // Says it in words if it is missing, or others can get at it.
  readText(link)
  try {
    const file = realpathSync(link)
    whileLocked(file, (isOurs) => {
      const partial = partialOf(file)
      rmSync(partial, { force: true })
      try {
        writeLike(file, partial, () => linesOf(changed(secretsOf(link))))
        if (!isOurs()) throw new RingfsError('USAGE', `${file}.lock was removed: nothing is changed, run it again`)
        renameSync(partial, file)
      } catch (error) {
        if (isOurs()) rmSync(partial, { force: true })
        throw error
      }
    })
    syncFolder(dirname(file))
  } catch (error) {
    if (error instanceof RingfsError) throw error
    throw new RingfsError('USAGE', `the keys cannot be written: ${messageOf(error)}`, { cause: error })
  }
}

function partialOf(file: string): string {
  return join(dirname(file), `.${basename(file)}.ringfs-key`)
}

/** A new file of the owner of `file`, on disk. */
function writeLike(file: string, partial: string, text: () => string): void {
  const fd = openSync(partial, 'wx', 0o600)
  try {
    writeFileSync(fd, text())
    const { uid, gid } = statSync(file)
    const made = fstatSync(fd)
    if (uid !== made.uid || gid !== made.gid) fchownSync(fd, uid, gid)
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

/** No secret is left behind in a file that was not completed. */
function orRemoved(file: string, work: () => void): void {
  try {
    work()
  } catch (error) {
    rmSync(file, { force: true })
    throw error
  }
}

function writeAndClose(fd: number, secrets: readonly string[]): void {
  try {
    writeFileSync(fd, linesOf(secrets))
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

function linesOf(secrets: readonly string[]): string {
  return secrets.map((secret) => `${secret}\n`).join('')
}

function syncFolder(folder: string): void {
  const fd = openSync(folder, 'r')
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}
