import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { memoryAddon } from '../../../src/base/addon.js'
import {
  LOOK_MS,
  THRIFTY_ABOVE,
  THRIFTY_UNTIL,
  TRIM_ABOVE_BYTES,
  TRIM_EACH_CPU_MS,
  watchMemory,
  type MemoryUse,
} from '../../../src/main/thrift.js'
import { ManualClock } from '../../helpers/manual-clock.js'

t.setTimeout(120_000)

t.test(
  'V8 saves memory while the process has too much, not at each swing, and no longer than it is watched',
  async (t) => {
    const clock = new ManualClock()
    let use: MemoryUse = { residentBytes: 0, heapBytes: 0 }
    const said: boolean[] = []
    const look = async (residentBytes: number, heapBytes: number): Promise<boolean | undefined> => {
      use = { residentBytes, heapBytes }
      const before = said.length
      await clock.pass(LOOK_MS)
      return said[before]
    }
    const end = watchMemory(
      clock,
      () => use,
      (isThrifty) => said.push(isThrifty),
    )
    t.strictSame(said, [false])
    const [above, until] = [THRIFTY_ABOVE, THRIFTY_UNTIL]
    t.equal(await look(above.residentBytes, above.heapBytes), undefined)
    t.equal(await look(above.residentBytes * 2, above.heapBytes), undefined, 'what it has is not of the heap')
    t.equal(await look(above.residentBytes, above.heapBytes * 2), undefined)
    t.equal(await look(above.residentBytes + 1, above.heapBytes + 1), true)
    t.equal(await look(above.residentBytes + 2, above.heapBytes + 2), undefined, 'said once')
    t.equal(await look(until.residentBytes + 1, until.heapBytes + 1), undefined)
    t.equal(await look(until.residentBytes, above.heapBytes * 2), false)
    t.equal(await look(above.residentBytes + 1, above.heapBytes + 1), true)
    t.equal(await look(above.residentBytes + 1, until.heapBytes), false)
    t.equal(await look(above.residentBytes + 1, above.heapBytes + 1), true)
    end()
    t.strictSame(said, [false, true, false, true, false, true, false])
    await clock.pass(10 * LOOK_MS)
    t.equal(said.length, 7)

    use = { residentBytes: 0, heapBytes: 0 }
    const idle = watchMemory(
      clock,
      () => use,
      () => said.push(true),
    )
    idle()
    t.equal(said.length, 8, 'nothing is taken back that was not said')
  },
)

t.test('what malloc keeps free is given back while the process has much and does something', async (t) => {
  const clock = new ManualClock()
  let trims = 0
  let cpuMs = 0
  let residentBytes = TRIM_ABOVE_BYTES
  const end = watchMemory(
    clock,
    () => ({ residentBytes, heapBytes: 0 }),
    () => undefined,
    () => trims++,
    () => cpuMs,
  )
  await clock.pass(3 * LOOK_MS)
  t.equal(trims, 0)
  residentBytes++
  await clock.pass(3 * LOOK_MS)
  t.equal(trims, 1, 'not again and again while it is idle')
  for (let look = 0; look < 2; look++) {
    cpuMs += TRIM_EACH_CPU_MS
    await clock.pass(3 * LOOK_MS)
  }
  t.equal(trims, 3)
  cpuMs += TRIM_EACH_CPU_MS
  end()
  await clock.pass(3 * LOOK_MS)
  t.equal(trims, 3)
})

const module = JSON.stringify(fileURLToPath(new URL('../../../src/main/thrift.js', import.meta.url)))

function run(program: string): { stdout: string; stderr: string; status: number | null } {
  const words = ['--expose-gc', '--input-type=module', '--eval', program]
  const { stdout, stderr, status } = spawnSync(process.execPath, words, { encoding: 'utf8', timeout: 60_000 })
  return { stdout, stderr, status }
}

const FREES = `
import { readFileSync } from 'node:fs'
import { trimHeap } from ${module}
const residentKib = () => Number(/^RssAnon:\\s+(\\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))[1])
// Too short to be mapped by themselves: 125 MiB, of which every fiftieth stays.
let all = Array.from({ length: 4_000 }, () => Buffer.allocUnsafeSlow(32 * 1024).fill(1))
const kept = all.filter((_, at) => at % 50 === 49)
all = undefined
gc()
await new Promise((resolve) => setTimeout(resolve, 100))
gc()
const before = residentKib()
trimHeap()
const givenBackMib = (before - residentKib()) / 1024
process.stdout.write(givenBackMib > 60 && kept.every((buffer) => buffer.at(-1) === 1) ? 'done' : givenBackMib + ' MiB')
`
const { header } = process.report.getReport() as { header?: { glibcVersionRuntime?: string } }
const isGlibc = memoryAddon() !== null && header?.glibcVersionRuntime !== undefined

t.test('the machine has back what was freed between what is in use', { skip: !isGlibc }, (t) => {
  t.strictSame(run(FREES), { stdout: 'done', stderr: '', status: 0 })
  t.end()
})

const PROGRAM = `
import { saveMemory } from ${module}
saveMemory(true)
saveMemory(false)
saveMemory(true)
process.stdout.write('done')
`

t.test('V8 knows what it is told', (t) => {
  t.strictSame(run(PROGRAM), { stdout: 'done', stderr: '', status: 0 })
  t.end()
})
