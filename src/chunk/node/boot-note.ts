/**
 * Under which start of the machine a node has used a disk: to know of a loss of power, after which files that were not flushed may have their
 * names and not their bytes.
 *
 *     boot     `<boot id>` or `<boot id> <ms since 1970>`: files that were changed since then are still to be looked at (restart-look.ts)
 */
import { join } from 'node:path'
import { readSmallFile } from '../../base/small-file.js'
import { replaceFile } from './files.js'

const NAME = 'boot'

export interface BootNote {
  /** boot_id of the kernel: proc_sys_kernel(5). */
  readonly boot: string
  /** null: all was looked at. */
  readonly fromMs: number | null
}

/** null: none that makes sense. */
export function readBootNote(folder: string): BootNote | null {
  try {
    const [boot = '', from] = readSmallFile(join(folder, NAME)).trim().split(' ')
    const fromMs = from === undefined ? null : Number(from)
    return boot === '' || Number.isNaN(fromMs) ? null : { boot, fromMs }
  } catch {
    return null
  }
}

export interface BootNoteTask extends BootNote {
  readonly folder: string
}

/** On disk when it returns. Synchronous: it runs in a worker. Errors: what the disk says. */
export function writeBootNote({ folder, boot, fromMs }: BootNoteTask): void {
  replaceFile(join(folder, NAME), fromMs === null ? `${boot}\n` : `${boot} ${fromMs}\n`)
}
