/** When small chunks get files of their own without being asked to. */
import t from 'tap'
import { existsSync } from 'node:fs'
import { JOURNAL_LOGS, logFile } from '../../../src/chunk/node/journal-file.js'
import { chunkFile, openStore, poolOf, randomChunk, temporaryFolder } from '../../helpers/chunks.js'
import { until } from '../../helpers/deadline.js'
import { ManualClock } from '../../helpers/manual-clock.js'

t.setTimeout(300_000)

t.test('small chunks get files five seconds after the first of them came, and the next ones again', async (t) => {
  const folder = temporaryFolder(t)
  const clock = new ManualClock()
  const store = await openStore(folder, poolOf(t), { clock })
  t.teardown(() => store.abandon())
  const first = randomChunk(999_999, 10)
  await store.put(first, first.data, true)
  await until('the logs are made', () => existsSync(logFile(folder, JOURNAL_LOGS - 1)))
  await store.verify(first.id)
  for (const round of [10, 20]) {
    for (const id of [round, round + 1]) {
      const chunk = randomChunk(id, 3000)
      await store.put(chunk, chunk.data, true)
      await clock.pass(2_000)
    }
    await clock.pass(900)
    await store.verify(round)
    t.notOk(existsSync(chunkFile(folder, round)))
    await clock.pass(100)
    await until('both have files', () => [0, 1].every((next) => existsSync(chunkFile(folder, round + next))))
  }
})
