/** What commands get from src/main, which alone reads the environment and the arguments. */
import type { Caller, VfsContract } from '../vfs/contract.js'
import type { VolumeSettings } from '../cluster/contract.js'

export interface VolumeSelector {
  /** META_URL. */
  readonly meta?: string
  /** Data folder of an `up`. */
  readonly data?: string
}

export interface OpenedVolume {
  readonly vfs: VfsContract
  readonly settings: VolumeSettings
  close(): Promise<void>
}

export interface CliContext {
  /** Opens the volume that the selector, or the environment, or what runs here, names; without mounting it. */
  openVfs(selector: VolumeSelector): Promise<OpenedVolume>
  readonly stdout: NodeJS.WritableStream
  readonly stderr: NodeJS.WritableStream
  /** stderr is a terminal: progress may be drawn there. */
  readonly isTerminal: boolean
  /** Who runs the command. */
  readonly caller: Caller
  /** Tells this machine from others, and is the same after a restart of it. */
  readonly machine: string
}
