/** How far a long command is: a line that is drawn again on a terminal, lines now and then elsewhere. */
import t from 'tap'
import { Steps } from '../../../src/cli/steps.js'

class Screen {
  readonly stderr: { readonly isTTY: boolean; readonly columns: number; write(text: string): void }
  readonly written: string[] = []

  constructor(isTTY: boolean, columns = 80) {
    this.stderr = { isTTY, columns, write: (text) => void this.written.push(text) }
  }
}

t.test('where the output is no terminal there is a whole line every five seconds, and none before', async (t) => {
  const screen = new Screen(false)
  let nowMs = 1_000
  const steps = new Steps(screen, false, () => nowMs)
  for (let i = 0; i <= 120; i++) {
    steps.show('2 nodes, folders', i, 120)
    nowMs += 100
  }
  steps.end()
  t.same(screen.written, [
    'ringfs: 2 nodes, folders: 50 of 120 (41 %)\n',
    'ringfs: 2 nodes, folders: 100 of 120 (83 %)\n',
  ])
})

t.test('what is soon done says nothing there', async (t) => {
  const screen = new Screen(false)
  const steps = new Steps(screen, false, () => 0)
  for (let i = 0; i <= 10; i++) steps.show('partitions', i, 10)
  steps.end()
  t.same(screen.written, [])
})

t.test('a terminal that does not say how wide it is has 80 columns', async (t) => {
  const terminal = new Screen(true, 0)
  const steps = new Steps(terminal, false, () => 0)
  steps.show('x'.repeat(100), 1, 0)
  t.same(terminal.written, [`\r${'x'.repeat(79)}`])
})

t.test('on a terminal one line is drawn again, and goes in the end; who asked for JSON sees nothing', async (t) => {
  const terminal = new Screen(true)
  let nowMs = 0
  const steps = new Steps(terminal, false, () => nowMs)
  steps.show('chunks', 1, 0)
  steps.show('chunks', 2, 0)
  nowMs = 150
  steps.show('chunks', 30, 0)
  steps.end()
  t.same(terminal.written, ['\rchunks: 1', '\rchunks: 30', `\r${' '.repeat(10)}\r`])
  for (const isTTY of [true, false]) {
    const quiet = new Screen(isTTY)
    let laterMs = 0
    const silent = new Steps(quiet, true, () => (laterMs += 10_000))
    silent.show('chunks', 1, 2)
    silent.end()
    t.same(quiet.written, [])
  }
})

t.test('no line is longer than the terminal is wide', async (t) => {
  const terminal = new Screen(true, 20)
  const steps = new Steps(terminal, false, () => 0)
  steps.line('a text that is longer than twenty columns')
  steps.end()
  t.same(terminal.written, ['\ra text that is long', `\r${' '.repeat(19)}\r`])
})
