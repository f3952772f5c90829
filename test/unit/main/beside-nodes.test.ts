import t from 'tap'
import { systemClock } from '../../../src/base/clock.js'
import { silentLog } from '../../../src/base/log.js'
import type { ChunkNodeApi } from '../../../src/chunk/contract.js'
import { writeIdentity } from '../../../src/chunk/node/identity.js'
import { leftBehind } from '../../../src/chunk/node/journal-file.js'
import { NearbyJournal } from '../../../src/chunk/node/nearby-journal.js'
import { SharedBuffers } from '../../../src/chunk/shared-buffer.js'
import { startBeside } from '../../../src/main/beside-nodes.js'
import { VOLUME, poolOf, putRequest, randomChunk, startCluster, temporaryFolder } from '../../helpers/chunks.js'

t.setTimeout(300_000)

const ONE = '11111111-0d4e-4f5a-8b6c-7d8e9f0a1b2c'
const TWO = '22222222-0d4e-4f5a-8b6c-7d8e9f0a1b2c'
const [A, B, C] = ['a', 'b', 'c'].map((digit) => `${digit.repeat(8)}-0d4e-4f5a-8b6c-7d8e9f0a1b2c`)

t.test('nothing is read or written beside a node of several disks; what was left there gets files', async (t) => {
  const pool = poolOf(t)
  const cluster = await startCluster(t, { nodes: 1, replicas: 1, writeQuorum: 1 })
  const synced: number[] = []
  const api: ChunkNodeApi = {
    ...cluster.node('node-0').api,
    sync: (_volume, ids) => Promise.resolve((synced.push(...ids), { missing: [] })),
  }
  const [single, first, second] = [A, B, C].map((disk = '') => {
    const folder = temporaryFolder(t)
    writeIdentity(folder, { node: disk === A ? ONE : TWO, volume: VOLUME, disk })
    return folder
  })
  if (single === undefined || first === undefined || second === undefined) throw new Error('three folders')
  const parts = { pool, clock: systemClock, log: silentLog }
  const earlier = new NearbyJournal({ ...parts, folder: first, disk: B ?? '', volume: VOLUME, node: () => api })
  await earlier.start()
  const chunk = randomChunk(7, 100)
  // The logs are made when they are first wanted.
  while (!(await earlier.put(putRequest(chunk, { sync: true }), chunk.data))) await systemClock.sleep(10)
  earlier.close()
  const nearby: string[] = []
  const beside = await startBeside(
    {
      ...parts,
      buffers: new SharedBuffers(),
      settings: { uuid: VOLUME },
      peers: { get: () => api, setNearby: ({ id }) => void nearby.push(id), together: undefined },
    },
    [[single], [first, second]],
  )
  t.strictSame(nearby, [ONE])
  t.strictSame(synced, [7])
  t.strictSame(leftBehind({ folder: first, volume: VOLUME, place: 'near' }).logs, [])
  await beside.close()
})
