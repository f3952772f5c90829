/** A tree of files, the same for the same seed: as a tar, and as a list for sha256sum. */
import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { spawnSync } from 'node:child_process'

export interface Tree {
  readonly tar: Buffer
  readonly sums: string
  readonly files: number
}

/** Empty, of Redis (up to 16 KiB), of one chunk, of several. */
const SIZES_BYTES = [0, 1, 700, 9_000, 16_384, 16_385, 70_000, 300_000]
const LARGE_BYTES = 9 * 1024 * 1024 + 7
const FOLDERS = 6

/** Bytes that do not repeat: a hash of a counter, and so on. */
export function bytesOf(seed: string, length: number): Buffer {
  const key = createHash('sha256').update(seed).digest()
  return createHash('shake256', { outputLength: Math.max(1, length) })
    .update(key)
    .digest()
    .subarray(0, length)
}

export function contents(seed: string): ReadonlyMap<string, Buffer> {
  const files = new Map([['large', bytesOf(`${seed}/large`, LARGE_BYTES)]])
  for (let folder = 0; folder < FOLDERS; folder++) {
    for (const size of SIZES_BYTES) {
      const name = `d${folder}/e/f ${size}`
      files.set(name, bytesOf(`${seed}/${name}`, size))
    }
  }
  return files
}

export async function makeTree(seed: string): Promise<Tree> {
  const files = contents(seed)
  const folder = await mkdtemp(join(tmpdir(), 'ringfs-tree-'))
  try {
    for (const [name, bytes] of files) {
      await mkdir(dirname(join(folder, name)), { recursive: true })
      await writeFile(join(folder, name), bytes)
    }
    const { status, stdout } = spawnSync('tar', ['-C', folder, '-cf', '-', '.'], { maxBuffer: 1 << 28 })
    if (status !== 0) throw new Error('tar failed')
    const sums = [...files].map(([name, bytes]) => `${createHash('sha256').update(bytes).digest('hex')}  ${name}\n`)
    return { tar: stdout, sums: sums.join(''), files: files.size }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
