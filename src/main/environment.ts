/** What a process is told by its surroundings: read here, once, and handed on. */
import { readFileSync } from 'node:fs'
import { homedir, hostname, tmpdir } from 'node:os'
import { join } from 'node:path'

export interface Environment {
  /** Where running mounts leave their run files. */
  readonly runFolder: string
  /** Where mounts in the background write their logs. */
  readonly logFolder: string
  /** RINGFS_META: the META_URL of commands that are given none. */
  readonly metaUrl: string | undefined
  /** RINGFS_META_PASSWORD: for a META_URL without a password, which any user could read in the list of processes. */
  readonly metaPassword: string | undefined
  /** RINGFS_KEY_FILE: the file of the cluster key. */
  readonly keyFile: string | undefined
  /** RINGFS_LOG: level of the log on stderr. */
  readonly logLevel: string | undefined
  /** Tells this machine from others, and is the same after a restart of it. */
  readonly machine: string
  /** What a process of ours is started with, beside its arguments. */
  readonly inherited: NodeJS.ProcessEnv
}

export function readEnvironment(env: NodeJS.ProcessEnv = process.env): Environment {
  return {
    runFolder: runFolder(env['XDG_RUNTIME_DIR']),
    logFolder: logFolder(env['XDG_STATE_HOME']),
    metaUrl: given(env['RINGFS_META']),
    metaPassword: given(env['RINGFS_META_PASSWORD']),
    keyFile: given(env['RINGFS_KEY_FILE']),
    logLevel: given(env['RINGFS_LOG']),
    machine: `${hostname()} ${machineId()}`,
    inherited: env,
  }
}

/** For processes of ours: what they need of these comes to them by a pipe. */
export function withoutSecrets(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return { ...env, RINGFS_META: undefined, RINGFS_META_PASSWORD: undefined }
}

/** A variable that is set to nothing counts as not set. */
function given(value: string | undefined): string | undefined {
  return value === '' ? undefined : value
}

/** machine-id(5); empty where there is none. Copies of a machine, and containers, may share one. */
function machineId(): string {
  try {
    return readFileSync('/etc/machine-id', 'utf8').trim()
  } catch {
    return ''
  }
}

/** $XDG_RUNTIME_DIR/ringfs, for root /run/ringfs, and for others without one a folder of their own below the temporary one. */
function runFolder(xdg: string | undefined): string {
  const uid = process.getuid?.() ?? 0
  if (xdg !== undefined && xdg !== '') return join(xdg, 'ringfs')
  return uid === 0 && process.platform === 'linux' ? '/run/ringfs' : join(tmpdir(), `ringfs-${uid}`)
}

/** $XDG_STATE_HOME/ringfs, for root /var/log/ringfs, for others ~/.local/state/ringfs (XDG base directory specification). */
function logFolder(xdg: string | undefined): string {
  if (xdg !== undefined && xdg !== '') return join(xdg, 'ringfs')
  if (process.getuid?.() === 0 && process.platform === 'linux') return '/var/log/ringfs'
  return join(homedir(), '.local', 'state', 'ringfs')
}
