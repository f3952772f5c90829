/** The double of file locks in memory. */
import t from 'tap'
import { MemoryVolume } from '../helpers/memory-meta.js'
import { lockClaims } from './meta-suite-locks.js'

lockClaims((name, body) => {
  void t.test(name, { timeout: 300_000 }, async (t) => {
    const volume = new MemoryVolume()
    await body(t, {
      client: () => Promise.resolve(volume.open()),
      kill: (client) => volume.dropLocks(client.sessionId),
    })
  })
})
