/**
 * Folders that `get -r` makes. One whose owner may not write into it (0555, say) is made so that he may, and gets its own mode when all is in it: an
 * interrupted get goes on where it was. One that is complete is opened for another get, if it is ours, and closed again.
 */
import { chmod, stat } from 'node:fs/promises'
import { makeFolders } from '../../base/make-folders.js'

const OWNER_BITS = 0o700
const OTHERS_BITS = 0o077

export class LocalFolders {
  /** Those above come first. */
  readonly #open: { readonly path: string; readonly mode: number }[] = []

  /** `mode`: what it is to have in the end, but for what the umask takes. One that is there with another mode keeps that. */
  async make(path: string, mode: number): Promise<void> {
    makeFolders(path, (mode & 0o777) | OWNER_BITS)
    const more = OWNER_BITS & ~mode
    if (more === 0) return
    const found = (await stat(path)).mode & 0o777
    if ((found & OTHERS_BITS & ~mode) !== 0) return
    const isComplete = (found & OWNER_BITS) === (mode & OWNER_BITS)
    if (!isComplete && (found & OWNER_BITS) !== OWNER_BITS) return
    if (isComplete && !(await tryChmod(path, found | OWNER_BITS))) return
    this.#open.push({ path, mode: (found | OWNER_BITS) & ~more })
  }

  /** All is in them. */
  async complete(): Promise<void> {
    for (const { path, mode } of this.#open.reverse()) await chmod(path, mode)
  }
}

/** Only its owner can; others may have the right to write into it all the same. */
async function tryChmod(path: string, mode: number): Promise<boolean> {
  return await chmod(path, mode).then(
    () => true,
    () => false,
  )
}
