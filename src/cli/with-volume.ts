/** What the commands that look at all of a volume have in common: opening it, telling how far they are, closing it. */
import { Closer } from '../main/closer.js'
import { checkKey } from '../main/key-check.js'
import { openVolume, type Volume } from '../main/volume.js'
import type { VolumeSelector } from './context.js'
import { Steps } from './steps.js'
import { keyOf, logOf, type CommonOptions, type Surroundings } from './surroundings.js'
import { findTargetOr } from './target.js'

interface Options extends CommonOptions, VolumeSelector {
  readonly json?: boolean
}

/** `text`: a META_URL given as an argument. Errors: those of openVolume; KEY_REQUIRED. What the work adds to the closer is closed before the volume. */
export async function withOpenVolume<T>(
  surroundings: Surroundings,
  text: string | undefined,
  options: Options,
  work: (volume: Volume, steps: Steps, closer: Closer) => Promise<T>,
): Promise<T> {
  const url = await findTargetOr(surroundings, text, options)
  const steps = new Steps(surroundings, options.json)
  const closer = new Closer()
  const result = await closer.orClose(async () => {
    const log = logOf(surroundings, options, 'error')
    const key = keyOf(surroundings, options, log)
    const volume = await openVolume(url, { log, key })
    closer.add(() => volume.close())
    // Refused by all nodes it would find every chunk missing.
    await checkKey(volume.watcher.current().view.members, key)
    try {
      return await work(volume, steps, closer)
    } finally {
      steps.end()
    }
  })
  await closer.close()
  return result
}
