import { createHash, randomBytes } from 'node:crypto'
import { open, readFile, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { GIB, KIB, MIB } from '../../../src/base/limits.js'
import { readAt, sha256 } from '../../helpers/fs-ops.js'
import type { Suite } from './suite.js'

/** Longer than a window of extents. */
const BIG_FILE_BYTES = 80 * MIB

/** Written piece by piece, so that the test needs little memory. Answers the SHA-256. */
async function writeRandom(path: string, lengthBytes: number): Promise<string> {
  const hash = createHash('sha256')
  const file = await open(path, 'w')
  for (let at = 0; at < lengthBytes; at += MIB) {
    const piece = randomBytes(Math.min(MIB, lengthBytes - at))
    hash.update(piece)
    await file.write(piece)
  }
  await file.close()
  return hash.digest('hex')
}

export const data: readonly Suite[] = [
  {
    name: 'a file of 80 MiB, in two windows, reads back as it was written',
    async run(t, root) {
      const path = join(root, 'big')
      const written = await writeRandom(path, BIG_FILE_BYTES)
      t.equal((await stat(path)).size, BIG_FILE_BYTES)
      t.equal(await sha256(path), written)
    },
  },
  {
    name: 'a file may begin at 100 GiB: what lies before reads as zeros and takes no room',
    async run(t, root) {
      const file = await open(join(root, 'sparse'), 'w+')
      await file.write('end', 100 * GIB)
      const { size, blocks } = await file.stat()
      t.equal(size, 100 * GIB + 3)
      t.ok(blocks * 512 < 64 * MIB, 'few blocks')
      t.equal((await readAt(file, 100 * GIB - 2, 10)).toString(), '\0\0end')
      t.ok((await readAt(file, 50 * GIB, 64 * KIB)).equals(Buffer.alloc(64 * KIB)))
      await file.close()
    },
  },
  {
    name: 'random writes of any length land where they should',
    async run(t, root) {
      const expected = Buffer.alloc(3 * MIB)
      const file = await open(join(root, 'random'), 'w+')
      let end = 0
      for (let i = 0; i < 300; i++) {
        const piece = randomBytes(1 + ((i * 7919) % (i % 10 === 0 ? 200_000 : 9_000)))
        const at = randomBytes(4).readUInt32LE() % (expected.length - piece.length)
        await file.write(piece, 0, piece.length, at)
        piece.copy(expected, at)
        end = Math.max(end, at + piece.length)
        if (i % 50 === 0) t.ok((await readAt(file, at, piece.length)).equals(piece), `piece ${i} at ${at}`)
      }
      await file.close()
      t.ok((await readFile(join(root, 'random'))).equals(expected.subarray(0, end)))
    },
  },
  {
    name: 'truncate cuts off, and zeros are there when the file grows again',
    async run(t, root) {
      const path = join(root, 'cut')
      await writeFile(path, Buffer.alloc(200_000, 'x'))
      await truncate(path, 70_001)
      t.equal((await stat(path)).size, 70_001)
      await truncate(path, 200_000)
      const grown = Buffer.concat([Buffer.alloc(70_001, 'x'), Buffer.alloc(129_999)])
      t.ok((await readFile(path)).equals(grown))
      await truncate(path, 0)
      t.equal((await readFile(path)).length, 0)
    },
  },
  {
    name: 'ftruncate through one handle is seen through another',
    async run(t, root) {
      const path = join(root, 'shared')
      await writeFile(path, 'abcdefgh')
      const [one, other] = [await open(path, 'r+'), await open(path, 'r')]
      await one.truncate(3)
      t.equal((await other.stat()).size, 3)
      t.equal((await readAt(other, 0, 10)).toString(), 'abc')
      await one.close()
      await other.close()
    },
  },
  {
    name: 'O_TRUNC empties, O_APPEND writes at the end whatever the position, O_EXCL refuses what exists',
    async run(t, root) {
      const path = join(root, 'flags')
      const created = await open(path, 'ax')
      await created.write('one', 0)
      await created.write('two', 0)
      await created.close()
      t.equal(await readFile(path, 'utf8'), 'onetwo')
      await t.rejects(open(path, 'ax'), { code: 'EEXIST' })
      await (await open(path, 'w')).close()
      t.equal((await stat(path)).size, 0)
    },
  },
  {
    name: 'what was written is there after fsync and after a new open',
    async run(t, root) {
      const path = join(root, 'synced')
      const file = await open(path, 'w')
      await file.write('first')
      await file.sync()
      await file.datasync()
      t.equal(await readFile(path, 'utf8'), 'first')
      await file.write('second')
      await file.close()
      t.equal(await readFile(path, 'utf8'), 'firstsecond')
    },
  },
]
