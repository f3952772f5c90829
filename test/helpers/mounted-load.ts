/**
 * A workload on a mount that knows what was acknowledged with fsync: files made, written, moved and linked, each step made durable
 * (fsync of the file, or of the folder) before the next; and a counter that processes raise under a lock.
 *
 * Every call must succeed, however long Redis takes: what fails, or takes longer than its deadline, is a fault. Unless its errno is excused:
 * then it happened or it did not, which for a rename means one of the two names, and the next round begins.
 */
import { mkdir, open, readFile, readdir, rename, link, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { messageOf } from '../../src/base/errors.js'
import { within } from './deadline.js'

/** An operation of the metadata gives up after 30 s; an fsync is several. */
const CALL_MS = 75_000
const CONTENT_BYTES = 900
const EXCUSED_PAUSE_MS = 100
/** Of each lane, after each round: else there is the more to check and to heal the longer the tests wait for something. */
const ROUND_PAUSE_MS = 40

export class MountedLoad {
  readonly faults: string[] = []
  /** The longest that a call took, in milliseconds, since it was last asked for. */
  #slowestMs = 0
  /** Path from the mount point -> content: durable names. */
  readonly #durable = new Map<string, string>()
  /** Names that were removed for good. */
  readonly #gone = new Set<string>()
  /** Renames of which it is not known whether they happened, by the old path. */
  readonly #either = new Map<string, { readonly moved: string; readonly content: string }>()
  readonly #root: string
  readonly #lanes: number
  readonly #contentBytes: number
  /** Rounds that each lane has begun. */
  readonly #rounds: number[] = []
  /** Errnos with which a call may fail. */
  excused: readonly string[] = []
  #steps = 0
  #isOver = false
  #running: Promise<unknown> = Promise.resolve()

  constructor(root: string, lanes: number, contentBytes = CONTENT_BYTES) {
    this.#root = root
    this.#lanes = lanes
    this.#contentBytes = contentBytes
  }

  get steps(): number {
    return this.#steps
  }

  takeSlowestMs(): number {
    const slowest = Math.round(this.#slowestMs)
    this.#slowestMs = 0
    return slowest
  }

  async start(): Promise<void> {
    for (let lane = 0; lane < this.#lanes; lane++) await mkdir(join(this.#root, folderOf(lane)), { recursive: true })
    this.#isOver = false
    this.#running = Promise.all(Array.from({ length: this.#lanes }, (_, lane) => this.#lane(lane)))
  }

  async stop(): Promise<void> {
    this.#isOver = true
    await this.#running
  }

  async #lane(lane: number): Promise<void> {
    const [here, there] = [folderOf(lane), folderOf((lane + 1) % this.#lanes)]
    while (!this.#isOver) {
      const i = this.#rounds[lane] ?? 0
      this.#rounds[lane] = i + 1
      try {
        await this.#round(here, there, `${lane}-${i}`, i)
        await sleep(ROUND_PAUSE_MS)
      } catch (error) {
        if (this.#isExcused(error)) {
          await sleep(EXCUSED_PAUSE_MS)
          continue
        }
        this.faults.push(`lane ${lane}, round ${i}: ${messageOf(error)}`)
        return
      }
    }
  }

  #isExcused(error: unknown): boolean {
    return error instanceof Error && 'code' in error && this.excused.some((errno) => errno === error.code)
  }

  async #round(here: string, there: string, name: string, i: number): Promise<void> {
    const content = `${name} `.repeat(this.#contentBytes / (name.length + 1))
    const [path, moved, linked] = [join(here, name), join(there, `${name}-moved`), join(here, `${name}-linked`)]
    await this.#timed(() => this.#write(path, content))
    await this.#sync(here)
    this.#durable.set(path, content)
    if (i % 2 === 0) {
      // While it is under way the name is neither surely here nor surely there.
      this.#durable.delete(path)
      this.#either.set(path, { moved, content })
      await this.#timed(() => rename(this.#at(path), this.#at(moved)))
      await this.#sync(here, there)
      this.#either.delete(path)
      this.#durable.set(moved, content)
      this.#gone.add(path)
    }
    if (i % 3 === 0) {
      await this.#timed(() => link(this.#at(i % 2 === 0 ? moved : path), this.#at(linked)))
      await this.#sync(here)
      this.#durable.set(linked, content)
    }
    if (i % 6 !== 3) return
    this.#durable.delete(linked)
    await this.#timed(() => unlink(this.#at(linked)))
    await this.#sync(here)
    this.#gone.add(linked)
  }

  /** 'wx': a second time it would fail. */
  async #write(path: string, content: string): Promise<void> {
    const file = await open(this.#at(path), 'wx')
    try {
      await file.writeFile(content)
      await file.sync()
    } finally {
      await file.close()
    }
  }

  async #sync(...folders: readonly string[]): Promise<void> {
    await Promise.all(
      folders.map((folder) =>
        this.#timed(async () => {
          const handle = await open(this.#at(folder), 'r')
          try {
            await handle.sync()
          } finally {
            await handle.close()
          }
        }),
      ),
    )
  }

  #at(path: string): string {
    return join(this.#root, path)
  }

  async #timed(call: () => Promise<void>): Promise<void> {
    const startedMs = performance.now()
    await within(CALL_MS, call(), 'a call on the mount')
    this.#slowestMs = Math.max(this.#slowestMs, performance.now() - startedMs)
    this.#steps++
  }

  /** What is wrong, looked at through another mount of the volume: lost, doubled, unreadable, or with other bytes. */
  async check(root: string): Promise<readonly string[]> {
    const wrong: string[] = []
    const found = new Set<string>()
    for (let lane = 0; lane < this.#lanes; lane++) {
      const names = await readdir(join(root, folderOf(lane)))
      if (new Set(names).size !== names.length) wrong.push(`${folderOf(lane)} lists a name twice`)
      for (const name of names) found.add(join(folderOf(lane), name))
    }
    const expected = [...this.#durable]
    for (const [path, { moved, content }] of this.#either) {
      if (found.has(path) && found.has(moved)) wrong.push(`${path} is there under two names`)
      expected.push([found.has(moved) ? moved : path, content])
    }
    for (const [path, content] of expected) {
      if (!found.has(path)) wrong.push(`${path} is lost`)
      else wrong.push(...(await faultsOf(join(root, path), path, content)))
    }
    for (const path of this.#gone) if (found.has(path)) wrong.push(`${path} is back`)
    return wrong
  }
}

async function faultsOf(file: string, path: string, content: string): Promise<readonly string[]> {
  try {
    return (await readFile(file, 'utf8')) === content ? [] : [`${path} has other bytes`]
  } catch (error) {
    return [
      `${path} cannot be read: ${error instanceof Error && 'code' in error ? String(error.code) : messageOf(error)}`,
    ]
  }
}

function folderOf(lane: number): string {
  return `folder-${lane}`
}

/** The number that lockers raise: test/helpers/c/locker.c. */
export async function startCounter(root: string): Promise<string> {
  const path = join(root, 'counter')
  await writeFile(path, '0')
  return path
}
