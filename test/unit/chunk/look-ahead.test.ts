/** The files of the next chunks are looked for before somebody waits for it; and no more often than that. */
import t from 'tap'
import { setImmediate as turn } from 'node:timers/promises'
import { LookAhead } from '../../../src/chunk/node/look-ahead.js'
import { ChunkPaths } from '../../../src/chunk/node/paths.js'
import type { Job } from '../../../src/chunk/pool.js'

class Looks {
  readonly files: (readonly string[])[] = []
  fails = false

  async run<Input, Output>({ file, name }: Job<Input, Output>, input: Input): Promise<Output> {
    t.same([file, name], ['disk', 'exist'])
    const { files } = input as { files: readonly string[] }
    this.files.push(files)
    await turn()
    if (this.fails) throw new Error('closed')
    return [] as Output
  }
}

const paths = new ChunkPaths('/folder')

async function write(ahead: LookAhead, ids: Iterable<number>): Promise<void> {
  for (const id of ids) {
    ahead.wrote(id)
    await turn()
    await turn()
  }
}

function* row(from: number, count: number, step = 1): Generator<number> {
  for (let i = 0; i < count; i++) yield from + i * step
}

t.test('each file is looked for once, before its chunk is written', async (t) => {
  for (const step of [1, 3]) {
    const looks = new Looks()
    const ahead = new LookAhead(looks, paths)
    await write(ahead, row(100, 300, step))
    const looked = looks.files.flat()
    t.equal(new Set(looked).size, looked.length)
    for (const id of row(100 + 2 * step, 298, step)) t.ok(looked.includes(paths.fileOf(id)))
    t.ok(looks.files.length <= (300 * step) / 16 + 2, `${looks.files.length} jobs`)
  }
})

t.test('nothing is looked for behind a single chunk, or one that does not follow', async (t) => {
  const looks = new Looks()
  await write(new LookAhead(looks, paths), [7, 1000, 5, 2000, 3, 3])
  t.same(looks.files, [])
})

t.test('ids that go on elsewhere are looked for there; a failure changes nothing', async (t) => {
  const looks = new Looks()
  looks.fails = true
  const ahead = new LookAhead(looks, paths)
  for (const first of [5000, 100, 9000]) {
    await write(ahead, row(first, 3))
    t.ok(looks.files.at(-1)?.includes(paths.fileOf(first + 3)))
  }
})
