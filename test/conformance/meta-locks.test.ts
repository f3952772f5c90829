/** File locks of MetaStore on real Redis: one master, and three, between which a circle of waits may lie. */
import t from 'tap'
import { claim, volumesOn } from '../helpers/meta.js'
import { startRedis } from '../helpers/redis.js'
import { lockClaims } from './meta-suite-locks.js'

/** Of a client that is to be found dead soon. */
const SESSION_TTL_MS = 1_000

const open = volumesOn(t, await startRedis(t))
lockClaims((name, body) => {
  claim(t, open, name, (t, volume) =>
    body(t, { client: () => volume.client({ sessionTtlMs: SESSION_TTL_MS }), kill: (client) => volume.cut(client) }),
  )
})
