/** When idle processors are kept from going to sleep, and that they are let go. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { isSlowToWake, openCpuLatency } from '../../../src/base/cpu-latency.js'
import { StayAwake, startStayingAwake } from '../../../src/fuse/kernel/stay-awake.js'
import { ManualClock } from '../../helpers/manual-clock.js'
import { sh } from '../../helpers/ringfs.js'

class Stage {
  readonly #beside: number
  readonly clock = new ManualClock()
  readonly said: string[] = []
  readonly awake = new StayAwake(
    {
      hold: () => this.said.push('hold'),
      release: () => this.said.push('release'),
      close: () => this.said.push('close'),
    },
    this.clock,
  )

  /** So many requests are under way all the time. */
  constructor(beside = 0) {
    this.#beside = beside
    this.awake.underWay(beside)
  }

  /** Requests that are answered after `tookMs`, each `gapMs` behind the answer before it. */
  async calls(count: number, gapMs: number, tookMs = 0): Promise<void> {
    for (let i = 0; i < count; i++) {
      await this.clock.pass(gapMs)
      this.awake.asked()
      this.awake.underWay(this.#beside + 1)
      await this.clock.pass(tookMs)
      this.awake.underWay(this.#beside)
      this.awake.answered()
    }
  }
}

t.test(
  'held while calls follow each other closely, however long each takes; let go two milliseconds later',
  async (t) => {
    for (const tookMs of [0, 0.1, 5, 40]) {
      const stage = new Stage()
      await stage.calls(100, 0.2, tookMs)
      t.same(stage.said, ['hold'], `of ${tookMs} ms`)
      await stage.clock.pass(1.9)
      t.same(stage.said, ['hold'])
      await stage.clock.pass(2.2)
      t.same(stage.said, ['hold', 'release'])
      await stage.clock.pass(10_000)
      t.same(stage.said, ['hold', 'release'], 'nothing goes on')
      await stage.calls(10, 0.2, tookMs)
      t.same(stage.said, ['hold', 'release', 'hold'], 'and again')
    }
  },
)

t.test('who does something else between two calls keeps nobody awake, nor do a few calls', async (t) => {
  const stage = new Stage()
  await stage.calls(1_000, 0.6)
  await stage.calls(1_000, 0.6, 10)
  for (let i = 0; i < 100; i++) {
    await stage.clock.pass(1)
    await stage.calls(4, 0.1)
  }
  t.same(stage.said, [])
  t.equal(stage.awake.heldMs, 0)
})

t.test('many at once are close to each other, too', async (t) => {
  const stage = new Stage()
  for (let i = 0; i < 5; i++) stage.awake.asked()
  t.same(stage.said, ['hold'])
})

t.test('a request that is not answered ends it; what it took so far is told', async (t) => {
  const stage = new Stage()
  await stage.calls(10, 0.1)
  await stage.clock.pass(0.1)
  stage.awake.asked()
  stage.awake.underWay(1)
  await stage.clock.pass(49)
  t.same(stage.said, ['hold'], 'a disk may take as long')
  t.ok(stage.awake.heldMs > 49)
  await stage.clock.pass(3)
  t.same(stage.said, ['hold', 'release'])
  const { heldMs } = stage.awake
  t.ok(heldMs > 50 && heldMs < 54, `${heldMs} ms`)
  await stage.clock.pass(1_000)
  t.equal(stage.awake.heldMs, heldMs)
})

t.test('who waits for a file lock all the time does not keep anybody awake for others', async (t) => {
  const stage = new Stage(1)
  for (let i = 0; i < 100; i++) {
    await stage.calls(10, 0.1)
    await stage.clock.pass(30)
  }
  t.equal(stage.said.length, 200, 'let go each time')
  t.ok(stage.awake.heldMs < 100 * 6, `${stage.awake.heldMs} ms`)
  await stage.calls(10, 0.1, 20)
  t.equal(stage.said.length, 201, 'but a request of theirs is waited for')
})

t.test('the end of the mount lets go', async (t) => {
  const stage = new Stage()
  await stage.calls(10, 0.1)
  stage.awake.close()
  t.same(stage.said, ['hold', 'release', 'close'])
  await stage.clock.pass(1_000)
  t.same(stage.said, ['hold', 'release', 'close'])
  const idle = new Stage()
  idle.awake.close()
  t.same(idle.said, ['close'])
})

t.test('the kernel is asked for 0 us, and for what it thinks best', async (t) => {
  const device = join(t.testdir(), 'cpu_dma_latency')
  t.equal(openCpuLatency(device), null, 'where there is none, nobody asks')
  t.notOk(existsSync(device), 'nor makes one, as in the /dev of a container')
  writeFileSync(device, '')
  const latency = openCpuLatency(device)
  latency?.hold()
  latency?.release()
  latency?.close()
  const said = readFileSync(device)
  t.same([...new Int32Array(said.buffer, said.byteOffset, said.length / 4)], [0, 2_000_000_000])
})

t.test('by itself only on a small virtual machine whose processors sleep deeply', async (t) => {
  const driver = join(t.testdir(), 'current_driver')
  t.equal(isSlowToWake(64, driver), false, 'no idle driver')
  writeFileSync(driver, 'intel_idle\n')
  t.equal(isSlowToWake(64, driver), false)
  writeFileSync(driver, 'haltpoll\n')
  t.equal(isSlowToWake(cpus().length, driver), true)
  t.equal(isSlowToWake(cpus().length - 1, driver), false, 'all of a large one would be kept awake for one program')
  const options = { mountpoint: '/m', fsName: 'x', readOnly: false, allowOther: false, extra: [] }
  t.equal(startStayingAwake({ ...options, stayAwake: 'off' }), null)
})

const oneOnly = cpus().length > 1 && availableParallelism() > 1 ? false : 'a machine with one processor'
t.test(
  'a process that may use few processors of a large machine keeps none of them awake',
  { skip: oneOnly },
  async (t) => {
    const driver = join(t.testdir({ current_driver: 'haltpoll' }), 'current_driver')
    const module = new URL('../../../src/base/cpu-latency.js', import.meta.url).href
    const program = `
    import { availableParallelism } from 'node:os'
    import { isSlowToWake } from ${JSON.stringify(module)}
    console.log(availableParallelism(), isSlowToWake(1, ${JSON.stringify(driver)}))`
    const [allowed = ''] = /(?<=^Cpus_allowed_list:\s*)\d+/m.exec(readFileSync('/proc/self/status', 'utf8')) ?? []
    const words = ['--cpu-list', allowed, process.execPath, '--input-type=module', '-e', program]
    t.equal(await sh('taskset', ...words), '1 false\n')
  },
)
