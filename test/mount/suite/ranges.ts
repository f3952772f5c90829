/** Parts of files: holes, allocation, copies without bytes, O_DIRECT, mappings, O_SYNC. Only the kernel driver has them. */
import { randomBytes } from 'node:crypto'
import { open, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Test } from 'tap'
import { GIB, KIB, MIB } from '../../../src/base/limits.js'
import { FALLOC, FLAGS, FileCalls, MAP, PROT, SEEK } from '../../helpers/file-calls.js'
import { readAt } from '../../helpers/fs-ops.js'
import { sh } from '../../helpers/mount.js'
import type { Suite } from './suite.js'

const RDWR = FLAGS.rdwr | FLAGS.creat

async function opened(t: Test, path: string, flags: number = RDWR): Promise<FileCalls> {
  const calls = await FileCalls.start(t)
  await calls.ok('open', 0, path, flags, 0o644)
  return calls
}

const holes: readonly Suite[] = [
  {
    name: 'a punched hole reads as zeros, takes no room, and leaves the size',
    async run(t, root) {
      const path = join(root, 'file')
      const before = randomBytes(5 * MIB)
      await writeFile(path, before)
      const calls = await opened(t, path)
      const { mtimeMs, blocks } = await stat(path)
      await calls.ok('fallocate', 0, FALLOC.punch, MIB + 5, 2 * MIB)
      const after = await stat(path)
      t.equal(after.size, before.length)
      t.ok(after.blocks < blocks, `${after.blocks} blocks, before ${blocks}`)
      t.ok(after.mtimeMs > mtimeMs)
      before.fill(0, MIB + 5, 3 * MIB + 5)
      t.ok((await readFile(path)).equals(before))
      await calls.ok('fallocate', 0, FALLOC.punch, 0, 10 * MIB)
      t.equal((await stat(path)).blocks, 0)
      t.ok((await readFile(path)).equals(Buffer.alloc(5 * MIB)))
    },
  },
  {
    name: 'what was written a moment ago is punched, too, and what is written afterwards stays',
    async run(t, root) {
      const path = join(root, 'file')
      const calls = await opened(t, path)
      await calls.ok('pwrite', 0, 0, 300_000, 1)
      await calls.ok('fallocate', 0, FALLOC.punch, 100_000, 100_000)
      await calls.ok('pwrite', 0, 150_000, 10, 2)
      const expected = Buffer.alloc(300_000, 1).fill(0, 100_000, 200_000).fill(2, 150_000, 150_010)
      t.ok((await readFile(path)).equals(expected))
      await calls.ok('close', 0)
      t.ok((await readFile(path)).equals(expected))
    },
  },
  {
    name: 'a zeroed range may grow the file, or keep its size; an allocated one likewise',
    async run(t, root) {
      const path = join(root, 'file')
      await writeFile(path, Buffer.alloc(1000, 1))
      const calls = await opened(t, path)
      for (const [mode, offset, length, size] of [
        [FALLOC.zeroKeep, 500, 1000, 1000],
        [FALLOC.zero, 900, 600, 1500],
        [FALLOC.keepSize, 0, 5000, 1500],
        [0, 0, 5000, 5000],
        [0, 100, 10, 5000],
      ] as const) {
        await calls.ok('fallocate', 0, mode, offset, length)
        t.equal((await stat(path)).size, size, `mode ${mode}`)
      }
      t.ok((await readFile(path)).equals(Buffer.alloc(5000).fill(1, 0, 500)))
    },
  },
  {
    name: 'a hole of 100 GiB over scattered data is made, and the data at its ends stays',
    async run(t, root) {
      const path = join(root, 'file')
      const calls = await opened(t, path)
      for (let at = 0; at <= 110; at += 5) await calls.ok('pwrite', 0, at * GIB, 100_000, 3)
      await calls.ok('fallocate', 0, FALLOC.punch, 5 * GIB + 50_000, 100 * GIB)
      for (let at = 0; at <= 110; at += 5) {
        const [head, tail] = [
          await calls.bytes('pread', 0, at * GIB, 1),
          await calls.bytes('pread', 0, at * GIB + 99_999, 1),
        ]
        t.same([head[0], tail[0]], [at <= 5 || at === 110 ? 3 : 0, at === 0 || at >= 105 ? 3 : 0], `${at} GiB`)
      }
      t.ok((await stat(path)).blocks * 512 < 2 * MIB)
      await calls.ok('fallocate', 0, FALLOC.zero, 0, 200 * GIB)
      t.match(await stat(path), { size: 200 * GIB, blocks: 0 })
    },
  },
  {
    name: 'fallocate refuses what fallocate(2) says',
    async run(t, root) {
      const path = join(root, 'file')
      const calls = await opened(t, path)
      for (const mode of [FALLOC.collapse, FALLOC.insert, FALLOC.unshare, 2, 18]) {
        t.equal(await calls.call('fallocate', 0, mode, 0, 4096), 'EOPNOTSUPP', `mode ${mode}`)
      }
      t.equal(await calls.call('fallocate', 0, 0, -1, 10), 'EINVAL')
      t.equal(await calls.call('fallocate', 0, 0, 0, 0), 'EINVAL')
      t.equal(await calls.call('fallocate', 0, 0, Number.MAX_SAFE_INTEGER - 1, 2), 'EFBIG')
      await calls.ok('open', 1, path, FLAGS.rdonly)
      t.equal(await calls.call('fallocate', 1, 0, 0, 10), 'EBADF')
      await sh('mkfifo', join(root, 'fifo'))
      await calls.ok('open', 2, join(root, 'fifo'), FLAGS.rdwr)
      t.equal(await calls.call('fallocate', 2, 0, 0, 10), 'ESPIPE')
    },
  },
]

const seeking: readonly Suite[] = [
  {
    name: 'SEEK_DATA and SEEK_HOLE find data and holes, also of what is not committed yet',
    async run(t, root) {
      const path = join(root, 'file')
      const calls = await opened(t, path)
      for (const state of ['unwritten', 'written']) {
        if (state === 'unwritten') {
          await calls.ok('pwrite', 0, MIB, MIB, 1)
          await calls.ok('pwrite', 0, 100 * GIB, MIB, 1)
          await calls.ok('ftruncate', 0, 150 * GIB)
          await calls.ok('pwrite', 0, 120 * GIB, MIB, 1)
        } else await calls.ok('fsync', 0)
        for (const [whence, from, found] of [
          [SEEK.data, 0, MIB],
          [SEEK.data, MIB + 7, MIB + 7],
          [SEEK.data, 2 * MIB, 100 * GIB],
          [SEEK.data, 101 * GIB, 120 * GIB],
          [SEEK.data, 121 * GIB, 'ENXIO'],
          [SEEK.data, 150 * GIB, 'ENXIO'],
          [SEEK.hole, 0, 0],
          [SEEK.hole, MIB, 2 * MIB],
          [SEEK.hole, 2 * MIB + 9, 2 * MIB + 9],
          [SEEK.hole, 100 * GIB + 5, 100 * GIB + MIB],
          [SEEK.hole, 150 * GIB - 1, 150 * GIB - 1],
          [SEEK.hole, 150 * GIB, 'ENXIO'],
        ] as const) {
          t.equal(await calls.call('lseek', 0, from, whence), found, `${state}: ${whence} from ${from}`)
        }
      }
    },
  },
  {
    name: 'a file without holes has one at its end, an empty one has neither',
    async run(t, root) {
      const path = join(root, 'file')
      const calls = await opened(t, path)
      t.equal(await calls.call('lseek', 0, 0, SEEK.data), 'ENXIO')
      t.equal(await calls.call('lseek', 0, 0, SEEK.hole), 'ENXIO')
      await calls.ok('pwrite', 0, 0, 70 * MIB, 1)
      t.equal(await calls.call('lseek', 0, 5, SEEK.hole), 70 * MIB)
      await calls.ok('fsync', 0)
      t.equal(await calls.call('lseek', 0, 5, SEEK.hole), 70 * MIB)
      t.equal(await calls.call('lseek', 0, 5, SEEK.data), 5)
    },
  },
]

const copies: readonly Suite[] = [
  {
    name: 'cp copies a large file, and changes of one leave the other',
    async run(t, root) {
      const [from, to] = [join(root, 'from'), join(root, 'to')]
      const bytes = randomBytes(70 * MIB + 12_345)
      await writeFile(from, bytes)
      await sh('cp', from, to)
      t.ok((await readFile(to)).equals(bytes))
      const file = await open(from, 'r+')
      await file.write(Buffer.alloc(MIB, 9), 0, MIB, 65 * MIB)
      await file.truncate(66 * MIB)
      await file.close()
      t.ok((await readFile(to)).equals(bytes))
      await sh('rm', from)
      t.ok((await readFile(to)).equals(bytes))
    },
  },
  {
    name: 'copy_file_range copies any range to any place, holes as holes, fewer bytes at the end',
    async run(t, root) {
      const calls = await opened(t, join(root, 'from'))
      await calls.ok('open', 1, join(root, 'to'), RDWR, 0o644)
      const expected = Buffer.alloc(4 * MIB)
      await calls.ok('pwrite', 0, 0, MIB, 1)
      await calls.ok('pwrite', 0, 2 * MIB, MIB, 2)
      await calls.ok('pwrite', 1, 0, 4 * MIB, 7)
      expected
        .fill(7)
        .fill(1, 11, 11 + MIB - 5)
        .fill(0, 11 + MIB - 5, 11 + 2 * MIB - 5)
        .fill(2, 11 + 2 * MIB - 5, 11 + 3 * MIB - 5)
      t.equal(await calls.call('copy', 0, 5, 1, 11, 10 * MIB), 3 * MIB - 5)
      t.ok((await readFile(join(root, 'to'))).equals(expected))
      t.equal(await calls.call('copy', 0, 3 * MIB, 1, 0, MIB), 0, 'behind the end')
      t.equal(await calls.call('copy', 0, 0, 0, 10, MIB), 'EINVAL', 'overlapping')
      t.equal(await calls.call('copy', 0, MIB, 0, 5 * MIB, MIB), MIB)
      t.equal((await stat(join(root, 'from'))).size, 6 * MIB)
      t.equal(await calls.call('copy', 0, 0, 1, 2 * MIB, 10), 10, 'a few bytes')
      await calls.ok('open', 2, join(root, 'to'), FLAGS.rdonly)
      t.equal(await calls.call('copy', 0, 0, 2, 0, MIB), 'EBADF')
      t.equal(await calls.call('copy', 0, 0, 1, Number.MAX_SAFE_INTEGER - 10, MIB), 10, 'up to the largest size')
      t.equal(await calls.call('copy', 0, 0, 1, Number.MAX_SAFE_INTEGER, MIB), 'EFBIG')
    },
  },
  {
    name: 'what is written to a file while it is copied is in the copy or not, never torn',
    async run(t, root) {
      const calls = await opened(t, join(root, 'from'))
      const other = await FileCalls.start(t)
      await other.ok('open', 0, join(root, 'from'), RDWR)
      await calls.ok('open', 1, join(root, 'to'), RDWR, 0o644)
      await calls.ok('pwrite', 0, 0, 512 * KIB, 1)
      for (let round = 2; round < 30; round++) {
        const writing = other.ok('pwrite', 0, 0, 512 * KIB, round)
        await calls.ok('copy', 0, 0, 1, 0, 512 * KIB)
        await writing
        const bytes = await readFile(join(root, 'to'))
        const seen = [...new Set(bytes)]
        t.ok(
          seen.every((byte) => byte === round || byte === round - 1),
          `round ${round}: ${seen.join()}`,
        )
      }
    },
  },
]

const direct: readonly Suite[] = [
  {
    name: 'O_DIRECT reads and writes any length at any place, and sees and is seen by other handles at once',
    async run(t, root) {
      const path = join(root, 'file')
      const calls = await opened(t, path, RDWR | FLAGS.direct)
      await calls.ok('open', 1, path, RDWR)
      const expected = Buffer.alloc(3 * MIB)
      for (const [handle, offset, length, fill, alignment] of [
        [0, 0, 2 * MIB, 1, 4096],
        [1, 4096, 8192, 2, 0],
        [0, 8192, 4096, 3, 4096],
        [0, 12_345, 678, 4, -512],
        [1, 12_400, 10, 5, 0],
        [0, 3 * MIB - 7, 7, 6, -512],
      ] as const) {
        await calls.ok('pwrite', handle, offset, length, fill, alignment)
        expected.fill(fill, offset, offset + length)
        for (const reader of [0, 1]) {
          const read = await calls.bytes('pread', reader, Math.max(0, offset - 20), 100, -512)
          const end = Math.min(Math.max(0, offset - 20) + 100, fill === 6 ? expected.length : 2 * MIB)
          t.ok(read.equals(expected.subarray(Math.max(0, offset - 20), end)), `${fill} read by ${reader}`)
        }
      }
      t.ok((await readFile(path)).equals(expected))
      t.equal(await calls.call('pread', 0, 3 * MIB, 100, 512), 0, 'at the end')
      await calls.ok('open', 2, path, FLAGS.wronly | FLAGS.append | FLAGS.direct)
      await calls.ok('pwrite', 2, 0, 100, 7)
      t.equal((await stat(path)).size, 3 * MIB + 100)
    },
  },
]

const mappings: readonly Suite[] = [
  {
    name: 'a shared mapping is written back by msync, by munmap and by close; a private one is not',
    async run(t, root) {
      const path = join(root, 'file')
      const calls = await opened(t, path)
      await calls.ok('pwrite', 0, 0, 20_000, 1)
      await calls.ok('mmap', 0, 0, 0, 20_000, PROT.read | PROT.write, MAP.shared)
      await calls.ok('mmap', 1, 0, 0, 20_000, PROT.read | PROT.write, MAP.private)
      t.same([...(await calls.bytes('peek', 0, 19_999, 1))], [1])
      await calls.ok('poke', 0, 4_000, 10_000, 2)
      await calls.ok('poke', 1, 0, 20_000, 9)
      await calls.ok('msync', 0)
      const expected = Buffer.alloc(20_000, 1).fill(2, 4_000, 14_000)
      t.ok((await readFile(path)).equals(expected))
      await calls.ok('poke', 0, 19_000, 1_000, 3)
      await calls.ok('close', 0)
      await calls.ok('munmap', 0)
      await calls.ok('munmap', 1)
      t.ok((await readFile(path)).equals(expected.fill(3, 19_000)))
      t.equal((await stat(path)).size, 20_000, 'not a whole page more')
    },
  },
  {
    name: 'a mapping of a file that is open for appending is written where it lies',
    async run(t, root) {
      const path = join(root, 'file')
      const calls = await opened(t, path, RDWR | FLAGS.append)
      await calls.ok('pwrite', 0, 0, 10_000, 1)
      await calls.ok('mmap', 0, 0, 0, 10_000, PROT.read | PROT.write, MAP.shared)
      await calls.ok('poke', 0, 5_000, 100, 2)
      await calls.ok('msync', 0)
      await calls.ok('pwrite', 0, 0, 10, 3)
      const expected = Buffer.alloc(10_010, 1).fill(2, 5_000, 5_100).fill(3, 10_000)
      t.ok((await readFile(path)).equals(expected))
    },
  },
  {
    name: 'writes and mappings of one file see each other, and a cut mapping reads as zeros behind the end',
    async run(t, root) {
      const path = join(root, 'file')
      const calls = await opened(t, path)
      await calls.ok('open', 1, path, FLAGS.rdwr)
      await calls.ok('open', 2, path, FLAGS.rdwr | FLAGS.direct)
      await calls.ok('pwrite', 0, 0, 12_000, 1)
      await calls.ok('mmap', 0, 0, 0, 12_000, PROT.read | PROT.write, MAP.shared)
      t.same([...(await calls.bytes('peek', 0, 5_000, 1))], [1])
      await calls.ok('pwrite', 1, 5_000, 10, 2)
      t.same([...(await calls.bytes('peek', 0, 5_000, 1))], [2])
      await calls.ok('pwrite', 2, 5_000, 10, 3, 512)
      t.same([...(await calls.bytes('peek', 0, 5_000, 1))], [3], 'past the page cache')
      await calls.ok('poke', 0, 6_000, 10, 4)
      t.same([...(await calls.bytes('pread', 2, 6_000, 1))], [4])
      await calls.ok('ftruncate', 1, 6_000)
      t.same([...(await calls.bytes('peek', 0, 5_999, 3))], [1, 0, 0])
      t.match(await calls.raw('peek', 0, 9_000, 1), /ended SIGBUS/, 'a page that is gone')
      t.equal((await stat(path)).size, 6_000)
    },
  },
  {
    name: 'a hole punched below a mapping is seen in it',
    async run(t, root) {
      const calls = await opened(t, join(root, 'file'))
      await calls.ok('pwrite', 0, 0, 20_000, 1)
      await calls.ok('mmap', 0, 0, 0, 20_000, PROT.read | PROT.write, MAP.shared)
      await calls.ok('poke', 0, 10_000, 10, 2)
      await calls.ok('fallocate', 0, FALLOC.punch, 4_000, 10_000)
      t.same([...(await calls.bytes('peek', 0, 3_999, 2))], [1, 0])
      t.same([...(await calls.bytes('peek', 0, 10_000, 1))], [0])
      t.same([...(await calls.bytes('peek', 0, 13_999, 2))], [0, 1])
    },
  },
]

const others: readonly Suite[] = [
  {
    name: 'O_SYNC and O_DSYNC write, allocate and copy as others do',
    async run(t, root) {
      for (const [at, flag] of [FLAGS.sync, FLAGS.dsync].entries()) {
        const path = join(root, `file${at}`)
        const calls = await opened(t, path, RDWR | flag)
        await calls.ok('pwrite', 0, 0, 200_000, 1)
        await calls.ok('pwrite', 0, 50_000, 1000, 2)
        await calls.ok('fallocate', 0, FALLOC.punch, 60_000, 1000)
        t.equal(await calls.ok('copy', 0, 0, 0, 200_000, 100_000), 100_000)
        const expected = Buffer.alloc(300_000, 1).fill(2, 50_000, 51_000).fill(0, 60_000, 61_000)
        expected.copy(expected, 200_000, 0, 100_000)
        t.ok((await readFile(path)).equals(expected))
      }
    },
  },
  {
    name: 'O_APPEND may be set and taken away while the file is open',
    async run(t, root) {
      const path = join(root, 'file')
      const calls = await opened(t, path)
      await calls.ok('pwrite', 0, 0, 3, 97)
      await calls.ok('setfl', 0, FLAGS.append)
      await writeFile(path, 'bb', { flag: 'a' })
      await calls.ok('pwrite', 0, 0, 5_000, 99)
      t.equal(await readFile(path, 'utf8'), 'aaabb' + 'c'.repeat(5_000))
      await calls.ok('setfl', 0, 0)
      await calls.ok('pwrite', 0, 1, 1, 100)
      await calls.ok('open', 1, path, FLAGS.rdwr | FLAGS.append)
      await calls.ok('setfl', 1, 0)
      await calls.ok('pwrite', 1, 3, 1, 101)
      t.equal(await readFile(path, 'utf8'), 'adaeb' + 'c'.repeat(5_000))
    },
  },
  {
    name: 'a file ends at 2^53 - 1 bytes: what fits is written, then EFBIG',
    async run(t, root) {
      const path = join(root, 'file')
      const calls = await opened(t, path)
      const last = Number.MAX_SAFE_INTEGER
      t.equal(await calls.call('pwrite', 0, last - 5, 10, 1), 5)
      t.equal(await calls.call('pwrite', 0, last, 10, 1), 'EFBIG')
      t.equal(await calls.call('ftruncate', 0, '9007199254740992'), 'EFBIG')
      t.equal(await calls.call('pwrite', 0, '0x7ffffffffffffff0', 10, 1), 'EFBIG')
      await calls.ok('setfl', 0, FLAGS.append)
      t.equal(await calls.call('pwrite', 0, 0, 10, 1), 'EFBIG')
      await calls.ok('fsync', 0)
      const file = await open(path)
      t.equal((await file.stat()).size, last)
      t.same([...(await readAt(file, last - 6, 10))], [0, 1, 1, 1, 1, 1])
      await file.close()
    },
  },
]

export const ranges: readonly Suite[] = [...holes, ...seeking, ...copies, ...direct, ...mappings, ...others].map(
  (suite) => ({ ...suite, kernelOnly: true }),
)
