/** One flush for many files: only where it promises what a flush of each does. */
import { closeSync, openSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { flushTogether, flushWith } from '../../../src/chunk/node/flush-together.js'
import { temporaryFolder } from '../../helpers/chunks.js'

const EXT4 = 0xef53
const NFS = 0x6969

t.test('files are flushed at once where that is known to work, and by themselves elsewhere', (t) => {
  const folder = temporaryFolder(t)
  const fds = ['a', 'b', 'c', 'd'].map((name) => {
    writeFileSync(join(folder, name), name)
    return openSync(join(folder, name), 'r')
  })
  t.teardown(() => fds.forEach((fd) => closeSync(fd)))
  let failed = 0
  const addon = {
    flushTogether: (_: Int32Array, _folder: number, results: Int32Array): number => {
      results[1] = 5
      return failed
    },
  }
  const system = { addon, linux: '6.1.0-13-amd64', dirtyBytes: () => 0, fileSystemOf: () => EXT4 }
  const told = [true, false, true, true]
  t.strictSame(flushWith(system, fds, folder), told)
  t.strictSame(flushWith({ ...system, linux: '5.17.0' }, fds, folder), told)
  const others = {
    'no addon': { ...system, addon: null },
    'one that does not tell that the journal could not be written': { ...system, linux: '5.15.0-91-generic' },
    'one of another major version': { ...system, linux: '4.19.0' },
    'much that is not written': { ...system, dirtyBytes: () => 2 ** 20 + 1 },
    'another file system': { ...system, fileSystemOf: () => NFS },
    'a service that does not see /proc/meminfo': {
      ...system,
      dirtyBytes: () => {
        throw new Error('ENOENT')
      },
    },
  }
  for (const [name, other] of Object.entries(others)) t.equal(flushWith(other, fds, folder), null, name)
  t.equal(flushWith(system, fds.slice(1), folder), null, 'few')
  t.equal(flushWith(system, fds, join(folder, 'none')), null, 'no such folder')
  const elsewhere = openSync('/proc/self/stat', 'r')
  t.teardown(() => closeSync(elsewhere))
  t.equal(flushWith(system, [...fds, elsewhere], folder), null, 'on another device')
  failed = 5
  t.equal(flushWith(system, fds, folder), 'failed', 'told, and not taken for nothing done')
  t.not(flushTogether(fds, folder), 'failed')
  t.end()
})
