/**
 * The work of one thread. Everything is a plain blocking call, as in the programs that it stands for; it runs in threads of
 * `ringfs bench` only, and never in a process that serves the mount it works on.
 *
 * Each function does its work in steps and asks after each whether to go on: it ends when all is done, when its time is over,
 * or when somebody wants to stop. What was made is remembered in `Made`, so that what comes after works on just that.
 */
import {
  closeSync,
  constants,
  fsyncSync,
  ftruncateSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  rmdirSync,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs'
import { randomFillSync } from 'node:crypto'
import { join } from 'node:path'
import { KIB, MIB } from '../../base/limits.js'
import type { Timer } from '../../base/metrics.js'
import type { Work } from './plan.js'

const BLOCK_BYTES = 4 * KIB
/** Entries of one directory. */
const PER_DIRECTORY = 100
const { O_CREAT, O_EXCL, O_RDONLY, O_WRONLY } = constants

/** How much of it, for one thread. */
export interface Amount {
  readonly largeBytes: number
  readonly files: number
  readonly directories: number
  /** Random reads and writes. */
  readonly randomOperations: number
  /** Those that wait for the disk each. */
  readonly syncedOperations: number
}

/** One thread's place, and what is there by now. */
export interface Made {
  readonly folder: string
  largeBytes: number
  /** Paths of small files, as they are called now. */
  files: string[]
  fileFolders: string[]
  directories: string[]
  /** Empty files in `directories`. */
  emptyFiles: string[]
}

export interface Go {
  readonly amount: Amount
  readonly timer: Timer
  /** One operation is done, so many bytes. false: no more. */
  readonly on: (bytes: number) => boolean
  /** Whole number from 0 to below `limit`. */
  readonly random: (limit: number) => number
}

export const LOADS: Readonly<Record<Work, (made: Made, go: Go) => void>> = {
  writeLarge: (made, go) => {
    made.largeBytes = 0
    writeThrough(join(made.folder, 'large'), MIB, go.amount.largeBytes, go, (bytes) => (made.largeBytes = bytes))
  },
  readLarge: (made, go) => {
    const block = Buffer.allocUnsafe(MIB)
    withFile(join(made.folder, 'large'), O_RDONLY, (fd) => {
      for (let at = 0; at < made.largeBytes; at += MIB) {
        const got = timed(go, () => readSync(fd, block, 0, MIB, at))
        if (got !== Math.min(MIB, made.largeBytes - at)) throw new Error(`${got} bytes read at ${at}`)
        if (!go.on(got)) return
      }
    })
  },
  /** An eighth as much: it takes longer. */
  writeSequential: (made, go) => {
    const bytes = Math.max(MIB, Math.floor(go.amount.largeBytes / 8 / MIB) * MIB)
    writeThrough(join(made.folder, 'blocks'), BLOCK_BYTES, bytes, go, () => undefined)
  },
  readRandom: (made, go) => {
    const block = Buffer.allocUnsafe(BLOCK_BYTES)
    withFile(join(made.folder, 'large'), O_RDONLY, (fd) => {
      for (let i = 0; i < go.amount.randomOperations; i++) {
        const at = go.random(made.largeBytes / BLOCK_BYTES) * BLOCK_BYTES
        if (timed(go, () => readSync(fd, block, 0, BLOCK_BYTES, at)) !== BLOCK_BYTES) throw new Error('a short read')
        if (!go.on(BLOCK_BYTES)) return
      }
    })
  },
  writeRandom: (made, go) => writeAnywhere(made, go, go.amount.randomOperations, false),
  writeRandomSync: (made, go) => writeAnywhere(made, go, go.amount.syncedOperations, true),
  createSmall: (made, go) => {
    const body = noise(BLOCK_BYTES)
    for (let i = 0; i < go.amount.files; i++) {
      const path = join(folderFor(made, i), `f${i}`)
      timed(go, () => withFile(path, O_CREAT | O_EXCL | O_WRONLY, (fd) => writeSync(fd, body)))
      made.files.push(path)
      if (!go.on(BLOCK_BYTES)) return
    }
  },
  statSmall: (made, go) => each(made.files, go, (path) => statSync(path)),
  readSmall: (made, go) => {
    const room = Buffer.allocUnsafe(2 * BLOCK_BYTES)
    each(made.files, go, (path) => {
      const got = withFile(path, O_RDONLY, (fd) => readSync(fd, room, 0, room.length, null))
      if (got !== BLOCK_BYTES) throw new Error(`${path} has ${got} bytes`)
    })
  },
  listSmall: (made, go) => {
    for (const folder of made.fileFolders) {
      for (const name of timed(go, () => readdirSync(folder))) {
        lstatSync(join(folder, name))
        if (!go.on(0)) return
      }
    }
  },
  renameSmall: (made, go) => {
    const before = made.files
    each(before, go, (path, i) => {
      renameSync(path, `${path}.r`)
      before[i] = `${path}.r`
    })
  },
  unlinkSmall: (made, go) => {
    const gone = each(made.files, go, (path) => unlinkSync(path))
    made.files = made.files.slice(gone)
  },
  makeDirectories: (made, go) => {
    for (let i = 0; i < go.amount.directories; i++) {
      const path = join(made.folder, `d${i}`)
      timed(go, () => mkdirSync(path))
      made.directories.push(path)
      if (!go.on(0)) return
    }
  },
  createEmpty: (made, go) => {
    for (let i = 0; i < go.amount.files; i++) {
      const path = join(made.directories[i % made.directories.length] ?? made.folder, `e${i}`)
      timed(go, () => withFile(path, O_CREAT | O_EXCL | O_WRONLY, () => undefined))
      made.emptyFiles.push(path)
      if (!go.on(0)) return
    }
  },
  removeDirectories: (made, go) => {
    for (const path of made.emptyFiles.splice(0)) unlinkSync(path)
    made.directories = made.directories.slice(each(made.directories, go, (path) => rmdirSync(path)))
  },
}

function timed<T>({ timer }: Go, work: () => T): T {
  const startMs = performance.now()
  const result = work()
  timer.record(performance.now() - startMs)
  return result
}

/** Answers how many were done. */
function each(paths: readonly string[], go: Go, work: (path: string, index: number) => void): number {
  for (const [index, path] of paths.entries()) {
    timed(go, () => {
      work(path, index)
    })
    if (!go.on(0)) return index + 1
  }
  return paths.length
}

function withFile<T>(path: string, flags: number, work: (fd: number) => T): T {
  const fd = openSync(path, flags, 0o644)
  try {
    return work(fd)
  } finally {
    closeSync(fd)
  }
}

/** The fsync counts: what is not on disk is not written. */
function writeThrough(
  path: string,
  blockBytes: number,
  lengthBytes: number,
  go: Go,
  on: (bytes: number) => void,
): void {
  const block = noise(blockBytes)
  withFile(path, O_CREAT | O_WRONLY, (fd) => {
    ftruncateSync(fd, 0)
    for (let at = 0; at < lengthBytes; at += blockBytes) {
      timed(go, () => writeSync(fd, block, 0, blockBytes, at))
      on(at + blockBytes)
      if (!go.on(blockBytes)) break
    }
    fsyncSync(fd)
  })
}

function writeAnywhere(made: Made, go: Go, operations: number, syncsEach: boolean): void {
  const block = noise(BLOCK_BYTES)
  withFile(join(made.folder, 'large'), O_WRONLY, (fd) => {
    for (let i = 0; i < operations; i++) {
      const at = go.random(made.largeBytes / BLOCK_BYTES) * BLOCK_BYTES
      timed(go, () => {
        writeSync(fd, block, 0, BLOCK_BYTES, at)
        if (syncsEach) fsyncSync(fd)
      })
      if (!go.on(BLOCK_BYTES)) break
    }
    if (!syncsEach) fsyncSync(fd)
  })
}

function folderFor(made: Made, index: number): string {
  const folder = join(made.folder, `s${Math.floor(index / PER_DIRECTORY)}`)
  if (made.fileFolders.at(-1) !== folder) {
    mkdirSync(folder)
    made.fileFolders.push(folder)
  }
  return folder
}

/** Nothing that a store could make smaller. */
function noise(lengthBytes: number): Buffer {
  return randomFillSync(Buffer.allocUnsafe(lengthBytes))
}
