/** A volume whose metadata are all lost is made anew out of its chunks, as `ringfs rebuild` does. */
import type { Test } from 'tap'
import { systemClock } from '../../src/base/clock.js'
import { makeAnew } from '../../src/check/rebuild/anew.js'
import { rebuild, type RebuildParts } from '../../src/check/rebuild/rebuild.js'
import type { MetaStore } from '../../src/meta/contract.js'
import { VOLUME, type TestCluster } from './chunks.js'

interface Lost extends Pick<RebuildParts, 'store' | 'settings'> {
  readonly cluster: TestCluster
}

/** `client`: one of the volume, begun when that is there again; it is answered. */
export async function rebuildAll<C extends { readonly meta: MetaStore }>(
  t: Pick<Test, 'ok'>,
  { store, settings, cluster }: Lost,
  client: () => Promise<C>,
): Promise<C> {
  const parts: Omit<RebuildParts, 'meta'> = {
    ...{ store, settings: { ...settings, uuid: VOLUME }, volume: VOLUME, deep: false, minAgeMs: 0 },
    view: () => cluster.placement().view,
    node: (id) => cluster.node(id).api,
    removals: () => Promise.resolve(new Set()),
    onProgress: () => undefined,
  }
  await makeAnew({ ...parts, settings: { ...parts.settings, createdMs: Date.now() } }, systemClock)
  const made = await client()
  const result = await rebuild({ ...parts, meta: made.meta })
  t.ok(result.isComplete)
  return made
}
