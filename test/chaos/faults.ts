/** Each fault of a schedule, done to the stage; what is done can be undone. */
import { readdir, stat } from 'node:fs/promises'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import type { Random } from '../torture/random.js'
import { masterOf, moveSlots, replicaOf } from './redis-faults.js'
import type { Fault } from './schedule.js'
import type { Stage } from './stage.js'

const SHARDS = 3
const SLOTS_AT_ONCE = 3
const CUT = { loss: 1 }
const CLEAR = {}

/** Ends the fault. */
export type Lift = () => Promise<void>

const nothing: Lift = () => Promise.resolve()

/** Begins the fault. `random`: for what the schedule leaves open. */
export async function inflict(stage: Stage, fault: Fault, random: Random): Promise<Lift> {
  if ('mount' in fault) return onMount(stage, fault)
  if ('shard' in fault) return onRedis(stage, fault)
  if (fault.kind === 'move-slots') return move(stage, fault)
  if (fault.kind === 'clock') return shift(stage, fault)
  if (fault.kind === 'impair') {
    const { host } = placeOf(stage, fault.host)
    await host.impair(fault.rule)
    return () => host.impair(CLEAR)
  }
  return onNode(stage, fault, random)
}

async function onNode(stage: Stage, fault: Fault & { node: number }, random: Random): Promise<Lift> {
  const node = at(stage.nodes, fault.node)
  switch (fault.kind) {
    case 'kill':
      await node.kill()
      return () => node.start()
    case 'stop':
      node.signal('SIGSTOP')
      return async () => Promise.resolve(node.signal('SIGCONT'))
    case 'cut':
      await node.host.cutOff()
      return () => node.host.plugIn()
    case 'mute':
      await node.host.impairSent(CUT)
      return () => node.host.impairSent(CLEAR)
    case 'deafen':
      await node.host.impairReceived(CUT)
      return () => node.host.impairReceived(CLEAR)
    case 'sever': {
      const to = at(stage.nodes, fault.to)
      await node.host.loseTo(to.host)
      return () => node.host.reachAgain(to.host)
    }
    case 'fill':
      await node.fill(true)
      return () => node.fill(false)
    case 'lose':
      return lose(stage, fault.node)
    case 'rot':
      await rot(join(node.data, 'chunks'), fault.copies, random)
      return nothing
    default:
      throw new Error(`no fault of a node: ${fault.kind}`)
  }
}

/** It is forgotten when the new one is there. */
async function lose(stage: Stage, index: number): Promise<Lift> {
  const node = at(stage.nodes, index)
  const lost = node.id
  await node.lose()
  return async () => {
    await node.start()
    const { code, stderr } = await stage.ringfs('node', 'remove', lost, '--lost', '--force', '--no-wait')
    if (code !== 0) throw new Error(`ringfs node remove ${lost} --lost: ${stderr}`)
  }
}

/** A bit of a byte somewhere in each. What is being written or removed meanwhile is left alone. */
async function rot(folder: string, copies: number, random: Random): Promise<void> {
  const names = await readdir(folder, { recursive: true }).catch(() => [])
  const files = names.map((name) => join(folder, name)).sort()
  for (let left = copies; left > 0 && files.length > 0; left--) {
    const [file = ''] = files.splice(random.below(files.length), 1)
    await flipBit(file, random).catch(() => undefined)
  }
}

async function flipBit(file: string, random: Random): Promise<void> {
  const { size } = await stat(file)
  const handle = await open(file, 'r+')
  try {
    const position = random.below(size)
    const byte = Buffer.alloc(1)
    await handle.read(byte, 0, 1, position)
    byte[0] = (byte[0] ?? 0) ^ (1 << random.below(8))
    await handle.write(byte, 0, 1, position)
  } finally {
    await handle.close()
  }
}

async function onMount({ mounts }: Stage, fault: Fault & { mount: number }): Promise<Lift> {
  const mount = at(mounts, fault.mount)
  switch (fault.kind) {
    case 'kill-mount':
      await mount.kill()
      return () => mount.start('kernel')
    case 'stop-mount':
      mount.signal('SIGSTOP')
      return async () => Promise.resolve(mount.signal('SIGCONT'))
    default:
      await mount.host.cutOff()
      return () => mount.host.plugIn()
  }
}

async function onRedis({ redis }: Stage, fault: Fault & { shard: number }): Promise<Lift> {
  const master = await masterOf(redis, fault.shard, SHARDS)
  switch (fault.kind) {
    case 'kill-redis':
      await redis.kill(master)
      return () => redis.restart(master)
    case 'stop-redis':
      redis.pause(master)
      return async () => Promise.resolve(redis.resume(master))
    default:
      // The replica has everything when it takes over: CLUSTER FAILOVER stops the master's clients for that.
      await redis.command(await replicaOf(redis, master), 'CLUSTER', 'FAILOVER')
      return nothing
  }
}

async function move({ redis, volume }: Stage, { from, to }: Fault & { from: number; to: number }): Promise<Lift> {
  const [source, target] = [await masterOf(redis, from, SHARDS), await masterOf(redis, to, SHARDS)]
  if (source !== target) await moveSlots(redis, volume.settings, source, target, SLOTS_AT_ONCE)
  return nothing
}

async function shift(stage: Stage, { host, seconds }: Fault & { host: number; seconds: number }): Promise<Lift> {
  const { clock } = placeOf(stage, host)
  await clock.set(seconds)
  return () => clock.set(0)
}

/** Hosts are counted as in the schedule: those of the nodes, then those of the mounts. */
function placeOf({ nodes, mounts }: Stage, host: number): Pick<Stage['nodes'][number], 'host' | 'clock'> {
  return at([...nodes, ...mounts], host)
}

function at<T>(all: readonly T[], index: number): T {
  const one = all[index]
  if (one === undefined) throw new Error(`there is no ${index}`)
  return one
}
