/**
 * One process of several that work in the same folder through mounts of their own. All calls are synchronous: this process
 * serves none of the mounts. Says `done` when it has done its part, or what it should not have seen.
 *
 *     node crowd.js append FOLDER NAME COUNT     COUNT lines of its own at the end of one file, each in one write
 *     node crowd.js rename FOLDER SEED COUNT     COUNT moves of directories and files into each other, whatever they find
 */
import { closeSync, existsSync, openSync, readdirSync, renameSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { messageOf } from '../../src/base/errors.js'
import { randomFrom } from '../helpers/lossy-redis.js'

/** Who moves what others move meanwhile may meet these, and nothing else. */
const EXPECTED = new Set(['ENOENT', 'ENOTEMPTY', 'EEXIST', 'EINVAL', 'ENOTDIR', 'EISDIR'])
/** libuv has no name for it. */
const ESTALE = -116
const LINE_BYTES_MAX = 6_000

/** Line `index` of `name`: its length is in it, so that a torn one is seen. */
export function lineOf(name: string, index: number): string {
  const filler = 'x'.repeat((index * 977) % LINE_BYTES_MAX)
  return `${name} ${index} ${filler.length} ${filler}|\n`
}

function append(folder: string, name: string, count: number): void {
  const file = openSync(join(folder, 'log'), 'a')
  for (let index = 0; index < count; index++) {
    const line = Buffer.from(lineOf(name, index))
    if (writeSync(file, line) !== line.length) throw new Error('a line was written in part')
  }
  closeSync(file)
}

/** All paths below, as they are seen just now: others move them. */
function look(folder: string, below: string, into: string[]): void {
  try {
    for (const one of readdirSync(join(folder, below), { withFileTypes: true })) {
      const path = join(below, one.name)
      into.push(path)
      if (one.isDirectory()) look(folder, path, into)
    }
  } catch (error) {
    if (!isExpected(error)) throw error
  }
}

function isExpected(error: unknown): boolean {
  if (!(error instanceof Error) || !('code' in error) || !('errno' in error)) return false
  return error.errno === ESTALE || EXPECTED.has(String(error.code))
}

/** Names are unique in the tree, so nothing is ever replaced: what is missing in the end was lost. */
function rename(folder: string, seed: number, count: number): void {
  const random = randomFrom(seed)
  for (let done = 0; done < count; done++) {
    const paths: string[] = ['.']
    look(folder, '.', paths)
    const pick = (): string => paths[Math.floor(random() * paths.length)] ?? '.'
    const [from, to] = [pick(), pick()]
    const name = from.split('/').at(-1) ?? ''
    if (from === '.' || existsSync(join(folder, to, name))) continue
    try {
      renameSync(join(folder, from), join(folder, to, name))
    } catch (error) {
      if (!isExpected(error)) throw error
    }
  }
}

function main([what = '', folder = '', name = '', count = '']: readonly string[]): void {
  if (what === 'append') append(folder, name, Number(count))
  else rename(folder, Number(name), Number(count))
}

if (process.argv[1]?.endsWith('crowd.js') === true) {
  try {
    main(process.argv.slice(2))
    process.stdout.write('done\n')
  } catch (error) {
    process.stdout.write(`${messageOf(error)}\n`)
  }
}
