/**
 * A volume whose metadata are all gone becomes one again, empty.
 *
 * Invariant: the settings come last, when the counters are beyond all numbers on the nodes: until then nobody can make files whose
 * numbers lost ones had. What is interrupted is begun anew. Not beside a restore: the settings are not written while its mark is
 * there, and counters that were raised until then do it no harm.
 */
import type { Clock } from '../../base/clock.js'
import { VolumeKeys } from '../../meta/keys.js'
import { refuseWhileRestored, writeSettings } from '../../meta/format.js'
import { raiseAll } from '../../meta/numbers.js'
import { countNumbers } from './survey.js'
import type { RebuildParts } from './rebuild.js'

/** Errors: VOLUME_EXISTS. */
export async function makeAnew(parts: Omit<RebuildParts, 'meta'>, clock: Clock): Promise<void> {
  const { store, settings } = parts
  await refuseWhileRestored(store, settings.name)
  const keys = new VolumeKeys(settings.name, settings.partitions)
  await raiseAll(store, keys, await countNumbers({ ...parts, keys }), settings.createdMs)
  await writeSettings(store, settings, clock)
}
