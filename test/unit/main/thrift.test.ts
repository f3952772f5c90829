import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { LOOK_MS, THRIFTY_ABOVE, THRIFTY_UNTIL, watchMemory, type MemoryUse } from '../../../src/main/thrift.js'
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
    t.strictSame(said, [true, false, true, false, true, false])
    await clock.pass(10 * LOOK_MS)
    t.equal(said.length, 6)

    use = { residentBytes: 0, heapBytes: 0 }
    const idle = watchMemory(
      clock,
      () => use,
      () => said.push(true),
    )
    idle()
    t.equal(said.length, 6, 'nothing is taken back that was not said')
  },
)

const PROGRAM = `
import { saveMemory } from ${JSON.stringify(fileURLToPath(new URL('../../../src/main/thrift.js', import.meta.url)))}
saveMemory(true)
saveMemory(false)
saveMemory(true)
process.stdout.write('done')
`

t.test('V8 knows what it is told', (t) => {
  const { stdout, stderr, status } = spawnSync(process.execPath, ['--input-type=module', '--eval', PROGRAM], {
    encoding: 'utf8',
    timeout: 60_000,
  })
  t.strictSame({ stdout, stderr, status }, { stdout: 'done', stderr: '', status: 0 })
  t.end()
})
