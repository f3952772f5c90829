/** Nobody takes copies on one disk for copies that outlive it. */
import t from 'tap'
import { diskWarnings } from '../../../src/main/shared-disks.js'

const on = (...devices: number[]) => devices.map((device, index) => ({ folder: `/d${index}`, device }))

t.test('copies that may share a disk are warned of, and folders that are one disk', (t) => {
  t.strictSame(diskWarnings(on(1), 1), [])
  t.strictSame(diskWarnings(on(1, 2), 1), [])
  t.match(diskWarnings(on(1), 2), [/^all 2 copies of each chunk are on one disk: .* not that of a disk.*ringfs node/])
  t.match(diskWarnings(on(1, 2), 3), [/^all copies of a chunk may be on one disk \(3 copies, and 2 disks\)/])
  t.match(diskWarnings(on(1, 2), 2), [
    /^all copies .* may be on one disk \(each node chooses by itself among 2 folders\)/,
  ])
  t.match(diskWarnings(on(1, 2, 1), 1), [/^\/d0 and \/d2 are on one disk/])
  t.equal(diskWarnings(on(1, 1), 2).length, 2)
  t.end()
})
