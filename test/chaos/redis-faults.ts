/** Faults of a Redis Cluster of three masters and three replicas: who is what now is asked, as failovers change it. */
import { keySlot } from '../../src/cluster/slot.js'
import type { TestRedis } from '../helpers/redis.js'
import { eventually } from '../helpers/ringfs.js'

const SLOTS = 16_384
const WHOLE_MS = 120_000

/** A line of CLUSTER NODES. */
interface Server {
  /** Of TestRedis. */
  readonly index: number
  readonly id: string
  readonly isMaster: boolean
  readonly isFailing: boolean
  readonly masterId: string
  readonly slots: readonly (readonly [number, number])[]
}

async function servers(redis: TestRedis): Promise<readonly Server[]> {
  for (const index of redis.ports.keys()) {
    const text = await redis.command(index, 'CLUSTER', 'NODES').catch(() => undefined)
    if (typeof text === 'string') return parse(text, redis.ports)
  }
  throw new Error('no Redis answers')
}

function parse(text: string, ports: readonly number[]): readonly Server[] {
  return text
    .trim()
    .split('\n')
    .map((line) => {
      const [id = '', address = '', flags = '', masterId = '', , , , , ...slots] = line.split(' ')
      const port = Number(/:(\d+)@/.exec(address)?.[1])
      const ranges = slots.filter((slot) => /^\d/.test(slot)).map((slot) => slot.split('-').map(Number))
      return {
        ...{ index: ports.indexOf(port), id, masterId },
        isMaster: flags.includes('master'),
        isFailing: flags.includes('fail'),
        slots: ranges.map(([first = 0, last = first]): [number, number] => [first, last]),
      }
    })
}

function owns({ isMaster, slots }: Server, slot: number): boolean {
  return isMaster && slots.some(([first, last]) => first <= slot && slot <= last)
}

/** The master that has the middle of what was the shard's share at first. */
export async function masterOf(redis: TestRedis, shard: number, shards: number): Promise<number> {
  return ownerOf(redis, Math.floor(((shard + 0.5) * SLOTS) / shards))
}

/** The master that serves the slot. */
export async function ownerOf(redis: TestRedis, slot: number): Promise<number> {
  const master = (await servers(redis)).find((server) => owns(server, slot))
  if (master === undefined) throw new Error(`nobody has slot ${slot}`)
  return master.index
}

export async function replicaOf(redis: TestRedis, master: number): Promise<number> {
  const all = await servers(redis)
  const id = all.find(({ index }) => index === master)?.id
  const replica = all.find(({ masterId }) => masterId === id)
  if (replica === undefined) throw new Error(`master ${master} has no replica`)
  return replica.index
}

/** Every server is there, all slots are served, every replica is in step: so that the next one may fail. */
export async function redisIsWhole(redis: TestRedis): Promise<void> {
  await eventually(
    'Redis is whole',
    () => wrongWith(redis),
    (wrong) => wrong === '',
    WHOLE_MS,
  )
}

async function wrongWith(redis: TestRedis): Promise<string> {
  for (const index of redis.ports.keys()) {
    const look = async (name: string, ...words: string[]): Promise<string> =>
      String(await redis.command(index, name, ...words).catch(() => 'no answer'))
    const [info, nodes] = [await look('CLUSTER', 'INFO'), await look('CLUSTER', 'NODES')]
    if (!info.includes('cluster_state:ok') || nodes.includes('fail')) return `server ${index}: ${info.slice(0, 40)}`
    const replication = await look('INFO', 'replication')
    const isInStep = replication.includes('role:master')
      ? replication.includes('connected_slaves:1')
      : replication.includes('master_link_status:up')
    if (!isInStep) return `server ${index} is not in step`
  }
  return ''
}

/** Up to `count` of the volume's slots that one master has go to another one. Answers how many did. */
export async function moveSlots(
  redis: TestRedis,
  volume: { readonly name: string; readonly partitions: number },
  from: number,
  to: number,
  count: number,
): Promise<number> {
  const source = (await servers(redis)).find(({ index }) => index === from)
  const all = Array.from({ length: volume.partitions }, (_, partition) => keySlot(`{${volume.name}.${partition}}`))
  const slots = all.filter((slot) => source !== undefined && owns(source, slot)).slice(0, count)
  for (const slot of slots) await redis.moveSlot(slot, from, to)
  return slots.length
}
