/** A RedisStore as an object of its own, some of whose functions a test replaces. */
import type { RedisStore } from '../../src/cluster/contract.js'

export function bound(store: RedisStore): RedisStore {
  return {
    run: (...args) => store.run(...args),
    call: (...args) => store.call(...args),
    subscribe: (...args) => store.subscribe(...args),
    waitReplicas: (...args) => store.waitReplicas(...args),
    serverOf: (key) => store.serverOf(key),
    syncLocal: () => store.syncLocal(),
    prepare: (...args) => store.prepare(...args),
    masters: () => store.masters(),
    isLone: store.isLone,
    close: () => store.close(),
  }
}
