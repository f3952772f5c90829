/**
 * Two mounts of one volume, caches on. Each round changes something on A and looks at it on B, at once:
 *
 * - what is opened on B after the change returned on A is what A left, always;
 * - what B looks at without opening (stat, a listing, a name that is there or not, a read through an open file) may lag behind:
 *   it is asked again until it is right, and the time is measured. Beyond LAG_MAX_MS it is stale.
 *
 * What B looked at before is random, so that there is something to be stale. All calls are synchronous: this process serves
 * neither of the mounts.
 */
import {
  appendFileSync,
  chmodSync,
  closeSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  rmdirSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { messageOf } from '../../src/base/errors.js'

/** A lag that no busy machine explains. */
const LAG_MAX_MS = 20_000
const FILES = 8
const REST_SHARE = 0.1
const STALE_MAX = 20

export interface Report {
  readonly rounds: number
  readonly opens: number
  /** What B saw and should not have, in words. */
  readonly stale: readonly string[]
  /** By what was looked at: milliseconds until B saw it, 0 when it did at once. */
  readonly lags: ReadonlyMap<string, readonly number[]>
}

/** A number in [0, 1). */
export type Random = () => number

export class Rounds {
  readonly #a: string
  readonly #b: string
  readonly #random: Random
  readonly #restMs: number
  readonly #lags = new Map<string, number[]>()
  readonly #stale: string[] = []
  #round = 0
  #opens = 0

  /** Both folders are the same one, seen through two mounts. `restMs`: nobody does anything for so long now and then. */
  constructor(a: string, b: string, random: Random, restMs = 0) {
    this.#a = a
    this.#b = b
    this.#random = random
    this.#restMs = restMs
  }

  get report(): Report {
    return { rounds: this.#round, opens: this.#opens, stale: this.#stale, lags: this.#lags }
  }

  /** false: enough went wrong. */
  play(): boolean {
    if (this.#round === 0) this.#begin()
    this.#round++
    const name = `f${this.#below(FILES)}`
    const kinds = [...KINDS.values()]
    const kind = kinds[this.#below(kinds.length)]
    try {
      this.#warm(name)
      if (this.#restMs > 0 && this.#random() < REST_SHARE) rest(this.#restMs)
      kind?.(this, name)
    } catch (error) {
      this.#wrong(`${kind?.name ?? ''} ${name}: ${messageOf(error)}`)
    }
    return this.#stale.length < STALE_MAX
  }

  a(name: string): string {
    return join(this.#a, name)
  }

  b(name: string): string {
    return join(this.#b, name)
  }

  /** Contents that no round had before. */
  text(): string {
    return `${this.#round} ${this.#random()} `.repeat(1 + this.#below(200))
  }

  below(limit: number): number {
    return this.#below(limit)
  }

  /** A write and close on A, whatever was there. */
  write(name: string, text: string): void {
    writeFileSync(this.a(name), text)
  }

  /** B opens and reads: never anything else than this. */
  opened(what: string, name: string, text: string): void {
    // By a delegation, if there is one by then.
    for (let times = 1 + this.#below(4); times > 0; times--) {
      this.#opens++
      const seen = attempt(() => readFileSync(this.b(name), 'latin1'))
      if (seen === text) continue
      this.#wrong(`${what} ${name}: opened ${short(seen)}, should be ${short(text)}`)
      return
    }
  }

  /** B sees this soon. */
  soon(what: string, look: () => boolean): void {
    const began = performance.now()
    let times = 0
    for (; attempt(look) !== true; times++) {
      if (performance.now() - began > LAG_MAX_MS) {
        this.#wrong(`${what}: still not seen after ${LAG_MAX_MS} ms`)
        return
      }
    }
    const lags = this.#lags.get(what)
    const lagMs = times === 0 ? 0 : performance.now() - began
    if (lags === undefined) this.#lags.set(what, [lagMs])
    else lags.push(lagMs)
  }

  #below(limit: number): number {
    return Math.floor(this.#random() * limit)
  }

  #wrong(text: string): void {
    this.#stale.push(`round ${this.#round}: ${text}`)
  }

  /** The names are there, and B knows: of one that was absent a moment ago it asks nobody. */
  #begin(): void {
    for (let i = 0; i < FILES; i++) {
      writeFileSync(this.a(`f${i}`), '')
      this.soon('there', () => existsSync(this.b(`f${i}`)))
    }
  }

  #warm(name: string): void {
    const look = this.#below(6)
    if (look < 2) attempt(() => statSync(this.b(name)))
    if (look === 2) attempt(() => readFileSync(this.b(name)))
    if (look === 3) readdirSync(this.#b, { withFileTypes: true })
  }
}

function rest(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)
}

function short(text: string | Error): string {
  return text instanceof Error ? text.message : `${text.length} bytes «${text.slice(0, 20)}»`
}

function attempt<T>(call: () => T): T | Error {
  try {
    return call()
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error))
  }
}

type Kind = (rounds: Rounds, name: string) => void

/** What a round may do. */
const KINDS: ReadonlyMap<string, Kind> = new Map<string, Kind>(
  Object.entries({
    write(rounds, name) {
      const text = rounds.text()
      rounds.write(name, text)
      rounds.opened('write', name, text)
      rounds.soon('size', () => statSync(rounds.b(name)).size === text.length)
    },

    create(rounds, name) {
      if (existsSync(rounds.a(name))) unlinkSync(rounds.a(name))
      rounds.soon('gone', () => !existsSync(rounds.b(name)))
      const text = rounds.text()
      rounds.write(name, text)
      rounds.soon('there', () => existsSync(rounds.b(name)))
      rounds.opened('create', name, text)
    },

    recreate(rounds, name) {
      rounds.write(name, 'before')
      rounds.opened('write', name, 'before')
      unlinkSync(rounds.a(name))
      const text = rounds.text()
      rounds.write(name, text)
      rounds.soon('another inode', () => statSync(rounds.b(name)).ino === statSync(rounds.a(name)).ino)
      rounds.opened('recreate', name, text)
    },

    renameOver(rounds, name) {
      rounds.write(name, 'before')
      rounds.opened('write', name, 'before')
      const text = rounds.text()
      rounds.write('new', text)
      renameSync(rounds.a('new'), rounds.a(name))
      rounds.opened('rename over', name, text)
      rounds.soon('renamed', () => statSync(rounds.b(name)).ino === statSync(rounds.a(name)).ino)
    },

    renameAway(rounds, name) {
      rounds.write(name, 'before')
      rounds.opened('write', name, 'before')
      renameSync(rounds.a(name), rounds.a('aside'))
      const text = rounds.text()
      rounds.write(name, text)
      rounds.opened('rename away', name, text)
      // B may believe a little longer that there is no such name: then it asks nobody.
      rounds.soon('renamed', () => readFileSync(rounds.b('aside'), 'latin1') === 'before')
      unlinkSync(rounds.a('aside'))
      rounds.soon('gone', () => !existsSync(rounds.b('aside')))
    },

    chmod(rounds, name) {
      rounds.write(name, 'x')
      rounds.soon('there', () => existsSync(rounds.b(name)))
      const mode = 0o600 + rounds.below(0o100)
      chmodSync(rounds.a(name), mode)
      rounds.soon('mode', () => (statSync(rounds.b(name)).mode & 0o777) === mode)
    },

    truncate(rounds, name) {
      const text = rounds.text()
      rounds.write(name, text)
      rounds.opened('write', name, text)
      const size = rounds.below(text.length)
      truncateSync(rounds.a(name), size)
      rounds.opened('truncate', name, text.slice(0, size))
      rounds.soon('size', () => statSync(rounds.b(name)).size === size)
    },

    append(rounds, name) {
      const text = rounds.text()
      rounds.write(name, text)
      rounds.opened('write', name, text)
      appendFileSync(rounds.a(name), 'more')
      rounds.opened('append', name, `${text}more`)
      appendFileSync(rounds.b(name), 'yet more')
      rounds.opened('append on both', name, `${text}moreyet more`)
    },

    replaceDirectory(rounds) {
      if (!existsSync(rounds.a('d'))) mkdirSync(rounds.a('d'))
      rounds.write('d/file', 'before')
      rounds.soon('below a directory', () => readFileSync(rounds.b('d/file'), 'latin1') === 'before')
      renameSync(rounds.a('d'), rounds.a('old'))
      mkdirSync(rounds.a('d'))
      const text = rounds.text()
      rounds.write('d/file', text)
      rounds.opened('replaced directory', 'd/file', text)
      rmSync(rounds.a('old'), { recursive: true })
      rounds.soon('gone directory', () => !existsSync(rounds.b('old')))
    },

    emptyDirectory(rounds) {
      rmSync(rounds.a('d'), { recursive: true, force: true })
      mkdirSync(rounds.a('d'))
      rounds.soon('listing', () => readdirSync(rounds.b('d')).length === 0)
      rounds.write('d/one', '1')
      rounds.soon('listing', () => readdirSync(rounds.b('d')).join() === 'one')
      rounds.soon('links', () => statSync(rounds.b('.')).nlink === statSync(rounds.a('.')).nlink)
      unlinkSync(rounds.a('d/one'))
      rmdirSync(rounds.a('d'))
      rounds.soon('gone directory', () => !existsSync(rounds.b('d')))
    },

    list(rounds) {
      const names = readdirSync(rounds.a('.')).sort().join()
      rounds.soon('listing', () => readdirSync(rounds.b('.')).sort().join() === names)
    },

    hardLink(rounds, name) {
      rounds.write(name, 'x')
      rmSync(rounds.a('link'), { force: true })
      rounds.soon('link count', () => statSync(rounds.b(name)).nlink === 1)
      linkSync(rounds.a(name), rounds.a('link'))
      rounds.soon('link count', () => statSync(rounds.b(name)).nlink === 2)
      const text = rounds.text()
      writeFileSync(rounds.a('link'), text)
      rounds.opened('by its other name', name, text)
      unlinkSync(rounds.a('link'))
      rounds.soon('link count', () => statSync(rounds.b(name)).nlink === 1)
    },

    symlink(rounds) {
      rmSync(rounds.a('s'), { force: true })
      symlinkSync('one', rounds.a('s'))
      rounds.soon('symlink', () => readlinkSync(rounds.b('s')) === 'one')
      unlinkSync(rounds.a('s'))
      symlinkSync('another', rounds.a('s'))
      rounds.soon('symlink', () => readlinkSync(rounds.b('s')) === 'another')
      rounds.soon('symlink', () => lstatSync(rounds.b('s')).ino === lstatSync(rounds.a('s')).ino)
    },

    openRead(rounds, name) {
      const text = rounds.text()
      rounds.write(name, 'x'.repeat(text.length))
      rounds.opened('write', name, 'x'.repeat(text.length))
      const fd = openSync(rounds.b(name), 'r')
      try {
        const seen = Buffer.alloc(text.length)
        readSync(fd, seen, 0, seen.length, 0)
        rounds.write(name, text)
        rounds.soon('read of an open file', () => {
          readSync(fd, seen, 0, seen.length, 0)
          return seen.toString('latin1') === text
        })
      } finally {
        closeSync(fd)
      }
    },
  } satisfies Record<string, Kind>),
)
