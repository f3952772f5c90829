/** What every command is given: the surroundings as src/main read them, and where to write. */
import { createLog, type Log } from '../base/log.js'
import type { Environment } from '../main/environment.js'
import { watchKeyFile } from '../main/key-file.js'
import type { ActiveMount } from '../main/mounting.js'
import { leaveWord } from '../main/runfiles.js'
import { END_LIMIT_MS, type Haste } from '../main/stop-signal.js'
import type { KeyRing } from '../rpc/key-ring.js'

export interface Surroundings {
  readonly environment: Environment
  readonly stdout: NodeJS.WriteStream
  readonly stderr: NodeJS.WriteStream
}

/** Options of `ringfs` itself, which every command takes too. */
export interface CommonOptions {
  readonly debug?: boolean
  readonly logLevel?: string
  /** File of the cluster key. */
  readonly keyFile?: string
}

/** Results of commands go to standard output, as they are. */
export function print(surroundings: Surroundings, text: string | Uint8Array): void {
  surroundings.stdout.write(text)
}

/** For people: what is going on, and what went wrong. */
export function say(surroundings: Surroundings, text: string): void {
  surroundings.stderr.write(`ringfs: ${text}\n`)
}

/** `level` is this command's own choice, when nobody asks for another. */
export function logOf(surroundings: Surroundings, options: CommonOptions, level: string): Log {
  const asked = options.logLevel ?? (options.debug === true ? 'debug' : surroundings.environment.logLevel)
  return createLog(asked ?? level)
}

/** --key-file, else RINGFS_KEY_FILE, else none. Errors: those of watchKeyFile. */
export function keyOf(surroundings: Surroundings, options: CommonOptions, log: Log): KeyRing | undefined {
  const file = options.keyFile ?? surroundings.environment.keyFile
  return file === undefined ? undefined : watchKeyFile(file, log)
}

/** The end of a process with a mount takes long. `isLimited`: a signal has asked for it, and another one ends it at once. */
export function saySlowEnd(surroundings: Surroundings, why: string, isLimited: boolean): void {
  const limit = `ended by another Ctrl-C, or after ${END_LIMIT_MS / 60_000} minutes: what is not written by then is lost`
  say(surroundings, `still unmounting: ${why}${isLimited ? ` (${limit})` : ''}`)
}

/** What a process with a mount does just before it ends without order: no dead mount is left. */
export function endAtOnce(surroundings: Surroundings, why: Haste, mount: ActiveMount | undefined): void {
  const text = why === 'late' ? 'not everything could be written in time: giving up' : 'stopping at once'
  if (mount !== undefined) {
    leaveWord(surroundings.environment.runFolder, text)
    mount.abandon()
  }
  say(surroundings, text)
}
