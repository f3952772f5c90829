/**
 * Opens the store in a folder, and ends when all that was in its logs has files. Says what is bad in them (JSON). Argument: the folder.
 */
import { systemClock } from '../../src/base/clock.js'
import { silentLog } from '../../src/base/log.js'
import { ChunkStore } from '../../src/chunk/node/store.js'
import { WorkerPool } from '../../src/chunk/pool.js'
import { SharedBuffers } from '../../src/chunk/shared-buffer.js'
import { VOLUME } from './chunks.js'

const [, , folder = ''] = process.argv
const pool = new WorkerPool({ threads: 1 })
const parts = { volume: VOLUME, pool, buffers: new SharedBuffers(), clock: systemClock, log: silentLog }
const store = await ChunkStore.open({ ...parts, folder })
await store.settle()
process.stdout.write(JSON.stringify(store.damage))
await pool.close()
