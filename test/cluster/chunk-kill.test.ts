/** Three real processes with three replicas and a write quorum of two: what SIGKILL and SIGSTOP may and may not do. */
import t from 'tap'
import { randomBytes } from 'node:crypto'
import type { ChunkClient, ChunkRef } from '../../src/chunk/contract.js'
import { chunkClientSuite } from '../conformance/chunk-client.js'
import { startProcesses, type NodeProcess } from '../helpers/chunk-processes.js'
import { CALL, VOLUME, originOf } from '../helpers/chunks.js'
import { until, within } from '../helpers/deadline.js'

t.setTimeout(600_000)

interface Written {
  readonly ref: ChunkRef
  readonly bytes: Buffer
}

async function writeOne(client: ChunkClient, id: number): Promise<Written> {
  const bytes = randomBytes(1 + ((id * 104_729) % 600_000))
  const options = { durability: 'quorum', sync: id % 2 === 0 } as const
  return { ref: await client.write(id, [bytes], originOf(bytes.length), options), bytes }
}

/** Four at a time, as a copy would; `at` is called when so many are acknowledged. */
async function writeMany(
  client: ChunkClient,
  first: number,
  count: number,
  at: Map<number, () => void>,
): Promise<Written[]> {
  const written: Written[] = []
  let next = first
  const worker = async (): Promise<void> => {
    while (next < first + count) {
      written.push(await writeOne(client, next++))
      at.get(written.length)?.()
    }
  }
  await Promise.all([worker(), worker(), worker(), worker()])
  return written
}

/** What cannot be done at once stays in the queue, and is tried again. */
async function drained(node: NodeProcess): Promise<void> {
  await until('its queue is done', async () => (await node.drain()) === 0)
}

async function checkAll(client: ChunkClient, written: readonly Written[]): Promise<boolean> {
  for (const { ref, bytes } of written) if (!(await client.read(ref, 0, bytes.length)).equals(bytes)) return false
  return true
}

t.test('ChunkClientImpl over real processes is a chunk client', async (t) => {
  chunkClientSuite(t, async (t) => (await startProcesses(t, 3)).client())
})

t.test(
  'SIGKILL in the middle of a copy: it goes on, nothing acknowledged is lost, the dead node catches up',
  async (t) => {
    const processes = await startProcesses(t, 3)
    const victim = processes.node(1)
    const kill = new Map([[30, () => void victim.kill()]])
    const written = await within(120_000, writeMany(processes.client(), 0, 100, kill), 'the copy')
    t.equal(written.length, 100)
    t.ok(await within(90_000, checkAll(processes.client(), written), 'reading with a dead node'))
    t.ok(victim.queue.length > 0, 'what it missed waits in its queue')

    await victim.start()
    await drained(victim)
    const ids = written.map(({ ref }) => ref.id)
    t.strictSame(await victim.api.sync(VOLUME, ids, CALL), { missing: [] }, 'it has every chunk')

    await processes.node(0).kill()
    await processes.node(2).kill()
    t.ok(await within(90_000, checkAll(processes.client(), written), 'reading from the one that was dead'))
  },
)

t.test('SIGKILL at any moment leaves no partial chunk: whatever the node then has is whole', async (t) => {
  const processes = await startProcesses(t, 3)
  for (let round = 0; round < 4; round++) {
    const victim = processes.node(round % 3)
    const copying = writeMany(
      processes.client(),
      1000 * round,
      30,
      new Map([[3 + round * 5, () => void victim.kill()]]),
    )
    const written = await within(120_000, copying, 'the copy')
    await victim.start()
    await drained(victim)
    for (const { ref, bytes } of written) {
      const got = await victim.api.get({ volume: VOLUME, id: ref.id, offset: 0, lengthBytes: bytes.length }, CALL)
      t.ok(got.data.equals(bytes))
    }
  }
})

t.test('a stopped process holds nobody up for long, and what it missed is queued', async (t) => {
  const processes = await startProcesses(t, 3)
  const client = processes.client()
  const victim = processes.node(2)
  victim.signal('SIGSTOP')
  const written = await within(120_000, writeMany(client, 0, 20, new Map()), 'writing')
  t.ok(await within(120_000, checkAll(client, written), 'reading'))
  victim.signal('SIGCONT')
  await drained(victim)
  const ids = written.map(({ ref }) => ref.id)
  t.strictSame(await victim.api.sync(VOLUME, ids, CALL), { missing: [] })
})
