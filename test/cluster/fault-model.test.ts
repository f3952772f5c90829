/**
 * The lines of the fault model (docs/reliability.md), each by its name: five nodes and two mounts on hosts of their own, a Redis Cluster of
 * three masters and three replicas, a workload on one mount that knows what fsync acknowledged, and a check through the other one.
 *
 * Where no more is done than the cluster bears, no call may fail. Else one may end with an errno, and then it happened or it did not. A call
 * that takes longer than its deadline is a fault always.
 */
import { existsSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { CHUNK_BUCKETS, type ListReply } from '../../src/chunk/contract.js'
import { ClusterKeys } from '../../src/cluster/keys.js'
import { healProgress } from '../../src/cluster/progress.js'
import { keySlot } from '../../src/cluster/slot.js'
import { inflict } from '../chaos/faults.js'
import { ownerOf, redisIsWhole, replicaOf } from '../chaos/redis-faults.js'
import type { Fault } from '../chaos/schedule.js'
import { Stage } from '../chaos/stage.js'
import { isRoot } from '../helpers/disks.js'
import { LoadProcess } from '../helpers/load-process.js'
import { NODE_TIMEOUT_MS } from '../helpers/redis.js'
import { eventually, runIn, sh, type Ran } from '../helpers/ringfs.js'
import { Random } from '../torture/random.js'
import { Cleanup } from '../torture/stack.js'

const SHAPE = { seed: 7, nodes: 5, mounts: 2 }
const LANES = 3
/** More than the metadata keep of a file. */
const CONTENT_BYTES = 24_000
const SOME = 15
const LIST = 500
const HOUR_S = 3_600
const WAIT_MS = 120_000
const AWAY_MS = 3_000
/** A node's queue is tried for 10 s at a time. Folders are spread over the masters: files of two thirds of them are written meanwhile. */
const LONGER_THAN_A_TRY_MS = 13_000
const FILES_OPEN = 12
const KILLS = 5
/** An operation of the metadata gives up after 30 s, a chunk's later; a call may need several. */
const CALL_ENDS_MS = 240_000
const CLOCKS_AGREE_S = 60

/** With which a call may end when more is done to the cluster than it bears. */
const OVERDONE = ['EIO', 'ETIMEDOUT', 'ENOSPC', 'ESTALE']
/** Of calls on a mount whose process is gone, and on the folder below it. */
const KILLED = [...OVERDONE, 'ENOTCONN', 'ECONNABORTED', 'ENOENT', 'ENODEV']

t.setTimeout(900_000)

function nth<T>(values: readonly T[], index: number): T {
  const value = values[index]
  if (value === undefined) throw new Error(`there is no ${index}`)
  return value
}

class Ground {
  readonly stage: Stage
  readonly #load: LoadProcess
  readonly #random = new Random(SHAPE.seed)

  constructor(t: Test, stage: Stage) {
    this.stage = stage
    this.#load = new LoadProcess(t, nth(stage.mounts, 0).mountpoint, LANES, CONTENT_BYTES)
  }

  /** Names that the workload has made just now and nobody has read, each of a file of its own. */
  async freshNames(t: Test, count: number): Promise<readonly string[]> {
    const root = nth(this.stage.mounts, 0).mountpoint
    const mark = join(root, 'mark')
    await this.#load.ask('excuse', '')
    await shell(`touch ${mark}`)
    await this.#load.ask('start')
    const fresh = await eventually(
      'there are some',
      () => shell(`cd ${root} && find folder-* -type f -links 1 -newer ${mark} | sort`),
      (text) => text.split('\n').length > count + SOME,
      WAIT_MS,
    )
    await this.goesOn(t)
    await this.#load.ask('stop')
    t.strictSame((await this.#load.ask('look')).faults, [])
    // What was under way then may have another name by now.
    const there = new Set((await shell(`cd ${root} && find folder-* -type f -links 1`)).split('\n'))
    return fresh
      .split('\n')
      .filter((name) => there.has(name))
      .slice(0, count)
  }

  /** What the workload finds wrong through the other mount. */
  async wrong(): Promise<readonly string[]> {
    return (await this.#load.ask('check', nth(this.stage.mounts, 1).mountpoint)).faults
  }

  /** One line: the workload goes on before, during and after; then everything that was acknowledged is there. */
  async line(t: Test, excused: readonly string[], faults: () => Promise<void>): Promise<void> {
    await this.#load.ask('excuse', excused.join(','))
    await this.#load.ask('start')
    await this.goesOn(t)
    await faults()
    await this.goesOn(t)
    await this.#load.ask('stop')
    t.strictSame(await this.wrong(), [], 'nothing that was acknowledged is lost or doubled, and no byte is wrong')
    t.strictSame((await this.#load.ask('look')).faults, [], 'no call failed that may not, and none hung')
  }

  async goesOn(t: Test): Promise<void> {
    const { steps: first } = await this.#load.ask('look')
    const faults: string[] = []
    await eventually(
      'the workload goes on',
      async () => {
        const seen = await this.#load.ask('look')
        faults.push(...seen.faults)
        return faults.length > 0 || seen.steps >= first + SOME
      },
      (isSo) => isSo,
      WAIT_MS,
    )
    t.strictSame(faults, [], 'calls')
  }

  inflict(fault: Fault): Promise<() => Promise<void>> {
    return inflict(this.stage, fault, this.#random)
  }

  upTo(most: number): number {
    return this.#random.below(most)
  }

  async allUp(): Promise<void> {
    await eventually(
      'all nodes are up',
      async () => (await this.stage.volume.watcher.refresh()).members.filter(({ state }) => state === 'up').length,
      (count) => count >= SHAPE.nodes,
      WAIT_MS,
    )
  }

  async whole(): Promise<void> {
    await eventually(
      'all chunks are on their owners',
      async () => healProgress(await this.stage.volume.watcher.refresh()),
      ({ isDone }) => isDone,
      WAIT_MS,
    )
  }
}

async function oneLost(t: Test, ground: Ground): Promise<void> {
  await ground.line(t, [], async () => {
    const replace = await ground.inflict({ kind: 'lose', node: 2 })
    await ground.goesOn(t)
    await replace()
  })
  await ground.whole()
}

/**
 * A machine with a chunk node and the master of Redis that has the queues: what that node lacks cannot be queued until the master is back or
 * replaced, here later than one attempt takes. Nobody notices but by waiting. The other masters go on serving: they do not call it failed.
 */
async function machineLost(t: Test, ground: Ground): Promise<void> {
  const { redis, volume, mounts, folder } = ground.stage
  const master = await ownerOf(redis, keySlot(new ClusterKeys(volume.settings.name).queue('any')))
  const servers = [master, await replicaOf(redis, master)]
  const flag = join(folder, 'machine-lost')
  const opened = (index: number): string => join(folder, `opened-${index}`)
  const writeThen = (index: number): Promise<Ran> => {
    const parent = join(nth(mounts, 0).mountpoint, `open-before-${index}`)
    const open = `mkdir ${parent} && exec 3> ${parent}/file && : > ${opened(index)} && until [ -e ${flag} ]; do sleep 0.1; done`
    const write = `head -c ${CONTENT_BYTES * 10} /dev/urandom | dd bs=1M iflag=fullblock conv=fsync status=none >&3`
    return runIn('/', 'sh', ['-c', `${open}; ${write}`])
  }
  const patience = (ms: number): Promise<unknown> =>
    Promise.all(
      [...redis.ports.keys()].map((one) => redis.command(one, 'CONFIG', 'SET', 'cluster-node-timeout', `${ms}`)),
    )
  await ground.line(t, [], async () => {
    await patience(60_000)
    const writers = Array.from({ length: FILES_OPEN }, (_, index) => writeThen(index))
    await eventually(
      'they are open',
      () => writers.every((_, index) => existsSync(opened(index))),
      (are) => are,
      WAIT_MS,
    )
    const revive = await ground.inflict({ kind: 'kill', node: 3 })
    await Promise.all(servers.map((server) => redis.kill(server)))
    await writeFile(flag, '')
    await sleep(LONGER_THAN_A_TRY_MS)
    await Promise.all(servers.map((server) => redis.restart(server)))
    for (const { code, stderr } of await Promise.all(writers)) t.equal(code, 0, stderr)
    await ground.goesOn(t)
    await revive()
    await patience(NODE_TIMEOUT_MS)
    await redisIsWhole(redis)
  })
  await ground.allUp()
  await ground.whole()
}

async function allAway(t: Test, ground: Ground): Promise<void> {
  await ground.line(t, OVERDONE, async () => {
    const kinds = ['kill', 'stop', 'cut', 'mute', 'deafen'] as const
    const lifts = await Promise.all(kinds.map((kind, node) => ground.inflict({ kind, node })))
    await sleep(AWAY_MS)
    await Promise.all(lifts.map((lift) => lift()))
    await ground.allUp()
    const { nodes } = ground.stage
    for (const { host } of nodes) await host.impair({ delayMs: 100, jitterMs: 100 })
    await ground.goesOn(t)
    for (const { host } of nodes) await host.impair({})
  })
  await ground.allUp()
}

async function redisLost(t: Test, ground: Ground): Promise<void> {
  await ground.line(t, OVERDONE, async () => {
    await ground.inflict({ kind: 'move-slots', from: 0, to: 1 })
    const restart = await ground.inflict({ kind: 'kill-redis', shard: 0 })
    await ground.goesOn(t)
    await restart()
    await redisIsWhole(ground.stage.redis)
  })
}

async function clientKilled(t: Test, ground: Ground): Promise<void> {
  const mount = nth(ground.stage.mounts, 0)
  await ground.line(t, KILLED, async () => {
    for (let kills = 0; kills < KILLS; kills++) {
      await sleep(ground.upTo(1_000))
      await mount.kill()
      await mount.start('kernel')
      await ground.goesOn(t)
    }
  })
}

/** One that returns EIO: test/cluster/disks. */
async function badDisks(t: Test, ground: Ground): Promise<void> {
  await ground.line(t, [], async () => {
    const clear = await ground.inflict({ kind: 'fill', node: 0 })
    await ground.goesOn(t)
    await clear()
    await ground.inflict({ kind: 'rot', node: 1, copies: 1_000 })
    await ground.goesOn(t)
  })
  await ground.whole()
  const scrub = await ground.stage.ringfs('scrub', '--now', '--limit', '1G')
  t.equal(scrub.code, 0, scrub.stdout)
}

async function clocksOff(t: Test, ground: Ground): Promise<void> {
  const { nodes, mounts } = ground.stage
  const places = [...nodes, ...mounts]
  await ground.line(t, [], async () => {
    for (const [index, { clock }] of places.entries()) await clock.set((index - 3) * 11 * HOUR_S + HOUR_S)
    await ground.goesOn(t)
    for (const { mountpoint } of mounts) {
      const file = join(mountpoint, 'of-now')
      const { stdout } = await runIn('/', 'sh', ['-c', `echo > ${file} && stat -c %Y ${file}`])
      const aheadS = Number(stdout) - Date.now() / 1000
      t.ok(Math.abs(aheadS) < CLOCKS_AGREE_S, `file times are right: ${aheadS} s`)
    }
    // A node measures with one heartbeat and says it with the next.
    await eventually(
      'the clocks are named',
      async () => (await ground.stage.ringfs('status')).stdout,
      (text) => /the clock of node \S+ is \d+ h (ahead of|behind) that of Redis/.test(text),
      WAIT_MS,
    )
    for (const { clock } of places) await clock.set(0)
  })
}

async function badMessages(t: Test, ground: Ground): Promise<void> {
  const hosts = [...ground.stage.nodes, ...ground.stage.mounts].map(({ host }) => host)
  await ground.line(t, [], async () => {
    for (const host of hosts) await host.impair({ loss: 0.01, delayMs: 5, jitterMs: 20, doubled: 0.2 })
    await ground.goesOn(t)
    for (const host of hosts) await host.impair({})
  })
}

/** All nodes and all of Redis are away: nothing can be done, and everybody is told so. */
async function nobodyThere(t: Test, ground: Ground): Promise<void> {
  const { stage } = ground
  const root = nth(stage.mounts, 1).mountpoint
  const call = async (text: string): Promise<Ran> => {
    const startMs = performance.now()
    const ran = await runIn('/', 'sh', ['-c', `cd ${root} && ${text}`], process.env, CALL_ENDS_MS)
    t.comment(`${text}: exit code ${ran.code} after ${Math.round(performance.now() - startMs)} ms`)
    return ran
  }
  const before = await call('mkdir there && head -c 100000 /dev/urandom > there/file && sync there/file')
  t.equal(before.code, 0, before.stderr)
  for (const { host } of stage.nodes) await host.cutOff()
  const servers = Array.from({ length: 6 }, (_, index) => index)
  for (const server of servers) stage.redis.pause(server)
  const changes = [
    'mkdir other',
    'mv there/file there/moved',
    'rm there/file',
    'head -c 100000 /dev/zero > new && sync new',
  ]
  const looks = ['cat there/file', 'ls -l there', 'stat new']
  const [changed] = await Promise.all([Promise.all(changes.map(call)), Promise.all(looks.map(call))])
  for (const [index, { code, stderr }] of changed.entries()) {
    t.ok(code !== 0 && /Input\/output error|timed out|Stale/.test(stderr), `${changes[index]}: ${code}: ${stderr}`)
  }
  for (const server of servers) stage.redis.resume(server)
  for (const { host } of stage.nodes) await host.plugIn()
  await redisIsWhole(stage.redis)
  await ground.allUp()
  await eventually(
    'it works again',
    () => call('mkdir -p afterwards && head -c 100000 /dev/zero > afterwards/file && sync afterwards/file'),
    ({ code }) => code === 0,
    WAIT_MS,
  )
  await ground.line(t, [], () => Promise.resolve())
}

/** Every copy of every chunk of the file is destroyed. */
async function destroyChunks({ volume }: Stage, ino: number): Promise<number> {
  const chunks = {
    volume: volume.settings.uuid,
    fromBucket: 0,
    toBucket: CHUNK_BUCKETS,
    fromId: 0,
    limit: LIST,
    headers: true,
  }
  const call = { deadlineMs: WAIT_MS }
  let copies = 0
  for (const { id } of (await volume.watcher.refresh()).members.filter(({ state }) => state === 'up')) {
    const node = volume.peers.get(id)
    for (let page: ListReply['next'] = { bucket: 0, id: 0 }; page !== null;) {
      const { bucket, id: fromId } = page
      const reply = await node.list({ ...chunks, fromBucket: bucket, fromId }, call)
      const ids = reply.chunks.filter(({ header }) => header?.origin.ino === ino).map((one) => one.id)
      await node.remove(volume.settings.uuid, ids, call)
      copies += ids.length
      page = reply.next
    }
  }
  return copies
}

/** More than the model bears is found out, and nothing else is said: so what is said of the other lines means something. */
async function beyondTheModel(t: Test, ground: Ground): Promise<void> {
  const { stage } = ground
  const root = nth(stage.mounts, 0).mountpoint
  const [destroyed = '', removed = '', cut = ''] = await ground.freshNames(t, 3)
  t.ok(cut !== '')
  const ino = Number(await shell(`stat -c %i ${join(root, destroyed)}`))
  // Nothing is on its way any more that would come after.
  await ground.whole()
  const copies = await destroyChunks(stage, ino)
  t.ok(copies >= 2, `${copies} copies`)
  await eventually(
    'none is left',
    () => destroyChunks(stage, ino),
    (left) => left === 0,
    WAIT_MS,
  )
  await shell(`rm ${join(root, removed)} && truncate -s 0 ${join(root, cut)} && sync ${join(root, cut)}`)
  const expected = [`${destroyed} cannot be read: EIO`, `${removed} is lost`, `${cut} has other bytes`]
  t.strictSame([...(await ground.wrong())].sort(), expected.sort())
}

async function shell(command: string): Promise<string> {
  return (await sh('sh', '-c', command)).trim()
}

if (!isRoot) t.pass('needs root for hosts of its own')
else {
  t.test('the fault model, line by line', async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'ringfs-model-'))
    t.teardown(() => rm(folder, { recursive: true, force: true, maxRetries: 50, retryDelay: 100 }))
    const cleanup = new Cleanup()
    t.teardown(() => cleanup.run())
    const ground = new Ground(t, await Stage.set({ folder, ...SHAPE }, cleanup))
    const lines: readonly (readonly [string, (t: Test, ground: Ground) => Promise<void>])[] = [
      ['any single chunk node, or any W-1 owners of a chunk, lost for ever', oneLost],
      ['a machine lost: a chunk node, and a Redis master that comes back', machineLost],
      ['any number of nodes killed, paused, cut off (one way too), slowed, and brought back', allAway],
      ['any Redis master lost, with its replica promoted; a Redis slot moved while in use', redisLost],
      ['a client killed at any instruction', clientKilled],
      ['a disk full, or flipping bits', badDisks],
      ['clocks off by hours', clocksOff],
      ['messages lost, late, doubled', badMessages],
      ['never a hang without end: every wait has a deadline, and then an errno', nobodyThere],
      ['what is done beyond the model is named, and nothing else', beyondTheModel],
    ]
    for (const [name, line] of lines) await t.test(name, (t) => line(t, ground))
  })
}
