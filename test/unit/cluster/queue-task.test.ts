import t from 'tap'
import { decodeTask, encodeTask } from '../../../src/cluster/queue-task.js'

t.test('tasks survive encoding, and what is none is refused', async (t) => {
  const copy = { kind: 'copy', chunk: 2 ** 53 - 1, root: Buffer.alloc(32, 7), sources: ['a'] } as const
  t.strictSame(decodeTask(encodeTask(copy)), copy)
  t.strictSame(decodeTask(encodeTask({ ...copy, root: null })), { ...copy, root: null })
  t.strictSame(decodeTask(encodeTask({ kind: 'remove', chunk: 0 })), { kind: 'remove', chunk: 0 })
  for (const text of ['', 'null', '[]', '{"k":"move","c":1}', '{"k":"copy","c":1.5}', '{"k":"copy","c":1,"r":"ff"}']) {
    t.equal(decodeTask(text), undefined, text)
  }
})
