/** Opens a volume in this process for commands that do not mount, whether or not another process has it mounted. */
import { Closer } from '../main/closer.js'
import { checkKey } from '../main/key-check.js'
import { openFiles, openVolume } from '../main/volume.js'
import type { OpenedVolume, VolumeSelector } from './context.js'
import { keyOf, logOf, type CommonOptions, type Surroundings } from './surroundings.js'
import { findTarget } from './target.js'

export async function openVfs(
  surroundings: Surroundings,
  options: CommonOptions,
  selector: VolumeSelector,
): Promise<OpenedVolume> {
  const closer = new Closer()
  return closer.orClose(async () => {
    const url = await findTarget(surroundings, selector)
    const log = logOf(surroundings, options, 'error')
    const key = keyOf(surroundings, options, log)
    const volume = await openVolume(url, { log, key })
    closer.add(() => volume.close())
    await checkKey(volume.watcher.current().view.members, key)
    // Housekeeping that writes data is for who stays.
    const files = await openFiles(volume, { limits: { packRestMs: Infinity, spillRestMs: Infinity } })
    // What cannot be written is told here: a command that answers success has written everything.
    closer.add(() => files.close())
    return { vfs: files.vfs, settings: volume.settings, close: () => closer.close() }
  })
}
