/** Cuts that take several steps, and what another client does to the file between two of them. */
import t from 'tap'
import { WINDOW_BYTES } from '../../src/base/limits.js'
import type { RedisStore } from '../../src/cluster/contract.js'
import { Reply } from '../../src/meta/reply.js'
import { SCRIPTS } from '../../src/meta/scripts.js'
import { ROOT, claim, newFile, touch, volumesOn, writeAt } from '../helpers/meta.js'
import { startRedis } from '../helpers/redis.js'

let cuts = 0
let behindFirst: (() => Promise<unknown>) | undefined

function hooked(store: RedisStore): RedisStore {
  const run = store.run.bind(store)
  store.run = async (script, ...rest) => {
    const reply = await run(script, ...rest)
    if (script.name === SCRIPTS.truncate.name && new Reply(reply).status === 0 && ++cuts === 1) await behindFirst?.()
    return reply
  }
  return store
}

const redis = await startRedis(t)

claim(
  t,
  volumesOn(t, redis, hooked),
  'a cut that has begun goes on, whosever the file is by then',
  async (t, volume) => {
    const [meta, other] = [await volume.client(), await volume.client()]
    const given = { uid: 7, gid: 8, mode: 0o4600 }
    const mtime = { sec: 1_600_000_000, nsec: 5 }
    for (const seen of [
      { uid: 1000, gid: 1000 },
      { uid: 1000, gid: 1000, mode: 0o4755 },
    ]) {
      const { ino } = await touch(meta, ROOT, `file-${Object.keys(seen).length}`, newFile({ mode: 0o4755 }))
      for (let i = 0; i < 80; i++) await writeAt(meta, ino, i * WINDOW_BYTES, 100)
      cuts = 0
      behindFirst = () => other.setattr(ino, given)
      const change = { sizeBytes: 50, mode: 0o755, mtime, dropPrivileges: true, seen }
      const after = { ...given, sizeBytes: 50, allocatedBytes: 50, mtime }
      t.match(await meta.setattr(ino, change), after, 'and what was given to it meanwhile stays')
      t.ok(cuts > 1, 'in several steps')
      t.match(await other.getattr(ino), after)
    }
  },
)
