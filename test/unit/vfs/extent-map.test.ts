/** What a file's map keeps of its bytes. */
import t from 'tap'
import { ExtentMap } from '../../../src/vfs/extent-map.js'

t.test('a short body does not keep the memory that it came in', async (t) => {
  const reply = Buffer.alloc(8192, 7)
  const map = new ExtentMap([], [{ fileOffset: 0, lengthBytes: 600, bytes: reply.subarray(100, 700) }])
  const [piece] = map.slice(0, 600)
  t.ok(piece?.bytes?.equals(Buffer.alloc(600, 7)))
  t.equal(piece?.bytes?.buffer.byteLength, 600)
  t.ok(map.bodyBytes > 600, 'what it takes beside its bytes counts')
})
