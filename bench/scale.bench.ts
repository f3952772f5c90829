/**
 * Whether figures grow with the work, over a real mount of `ringfs up` (three nodes, three replicas): names in one directory, a
 * sparse file of 100 GiB, a file after many small overwrites, memory while a lot is copied. This process serves no mount.
 *
 *   npm run bench -- scale                                        10,000 names, 1,000 overwrites, 512 MiB
 *   node dist/bench/scale.bench.js --names 100000 --overwrites 20000 --copy 2048
 *
 * CPU is that of the mount process for one operation: on a machine with other work only that can be compared. What Redis needs
 * for a file: `npm run bench -- meta`.
 */
import { randomBytes } from 'node:crypto'
import {
  closeSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  readdirSync,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { GIB, KIB, MIB } from '../src/base/limits.js'
import { Ringfs } from '../test/helpers/ringfs.js'

const SAMPLE = 500
const BLOCK_BYTES = 4 * KIB
const SPARSE_GIB = 100
const CPU_TICKS = 100

const { values } = parseArgs({
  options: {
    names: { type: 'string', default: '10000' },
    overwrites: { type: 'string', default: '1000' },
    copy: { type: 'string', default: '512' },
  },
})

/** User and system seconds: proc_pid_stat(5), fields 14 and 15. */
function cpuSeconds(pid: number): number {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) / CPU_TICKS
}

/** `VmRSS` now, or `VmHWM`, the most it ever was. */
function memoryMiB(pid: number, field: 'VmRSS' | 'VmHWM'): number {
  const found = new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))
  return Math.round(Number(found?.[1]) / KIB)
}

class Scale {
  readonly #mountpoint: string
  readonly #pid: number

  constructor(mountpoint: string, pid: number) {
    this.#mountpoint = mountpoint
    this.#pid = pid
  }

  #timed(what: string, count: number, work: () => void): void {
    const cpu = cpuSeconds(this.#pid)
    const startMs = performance.now()
    work()
    const seconds = (performance.now() - startMs) / 1000
    const usEach = ((cpuSeconds(this.#pid) - cpu) / count) * 1e6
    const rate = Math.round(count / seconds)
    const memory = memoryMiB(this.#pid, 'VmRSS')
    console.log(
      `${what.padEnd(44)}${String(rate).padStart(9)}/s${usEach.toFixed(0).padStart(8)} us CPU${String(memory).padStart(6)} MiB`,
    )
  }

  /** The first names warm the program up and are not shown. */
  names(most: number): void {
    const folder = join(this.#mountpoint, 'names')
    mkdirSync(folder)
    const path = (i: number): string => join(folder, `file-${i}`)
    let made = 0
    const make = (count: number): void => {
      for (const end = made + count; made < end; made++) closeSync(openSync(path(made), 'wx'))
    }
    make(1000)
    for (const size of [made, most]) {
      make(Math.max(0, size - made))
      const first = made
      this.#timed(`create, beside ${first} names`, SAMPLE, () => make(SAMPLE))
      this.#timed(`stat, beside ${first} names`, SAMPLE, () => each(first, (i) => statSync(path(i))))
      this.#timed(`list, a name of ${made}`, made, () => readdirSync(folder, { withFileTypes: true }))
      this.#timed(`unlink, beside ${first} names`, SAMPLE, () => each(first, (i) => unlinkSync(path(i))))
      made = first
    }
  }

  sparse(): void {
    const fd = openSync(join(this.#mountpoint, 'sparse'), 'wx+')
    ftruncateSync(fd, SPARSE_GIB * GIB)
    const data = randomBytes(BLOCK_BYTES)
    const at = (i: number): number => i * GIB + 12_345
    this.#timed(`write 4 KiB, ${SPARSE_GIB} GiB sparse`, SPARSE_GIB, () => {
      for (let i = 0; i < SPARSE_GIB; i++) writeSync(fd, data, 0, BLOCK_BYTES, at(i))
      fsyncSync(fd)
    })
    const room = Buffer.alloc(BLOCK_BYTES)
    this.#timed('read it', SPARSE_GIB, () => {
      for (let i = 0; i < SPARSE_GIB; i++) {
        readSync(fd, room, 0, BLOCK_BYTES, at(i))
        if (!room.equals(data)) throw new Error('other bytes than were written')
      }
    })
    const { size, blocks } = fstatSync(fd)
    closeSync(fd)
    console.log(`sparse file: ${size / GIB} GiB long, ${(blocks * 512) / KIB} KiB allocated`)
  }

  /** Each overwrite is committed: what a day of them leaves behind. */
  overwrites(count: number): void {
    const path = join(this.#mountpoint, 'overwritten')
    const blocks = (16 * MIB) / BLOCK_BYTES
    const model = randomBytes(16 * MIB)
    let fd = openSync(path, 'wx+')
    writeSync(fd, model, 0, model.length, 0)
    fsyncSync(fd)
    closeSync(fd)
    this.#readAll(path, model, 'read 16 MiB, as written at once')
    fd = openSync(path, 'r+')
    this.#timed('overwrite 4 KiB and fsync', count, () => {
      for (let i = 0; i < count; i++) {
        const offset = ((i * 7919) % blocks) * BLOCK_BYTES
        randomBytes(BLOCK_BYTES).copy(model, offset)
        writeSync(fd, model, offset, BLOCK_BYTES, offset)
        fsyncSync(fd)
      }
    })
    closeSync(fd)
    this.#readAll(path, model, `read 16 MiB, after ${count} overwrites`)
  }

  /** A MiB each; the kernel's pages are of no use, for the file is opened with O_DIRECT. */
  #readAll(path: string, model: Buffer, what: string): void {
    const O_DIRECT = 0o40000
    const fd = openSync(path, O_DIRECT)
    const room = Buffer.alloc(MIB)
    this.#timed(what, model.length / MIB, () => {
      for (let at = 0; at < model.length; at += MIB) {
        readSync(fd, room, 0, MIB, at)
        if (!room.equals(model.subarray(at, at + MIB))) throw new Error(`other bytes at ${at} than were written`)
      }
    })
    closeSync(fd)
  }

  copying(mib: number, others: readonly number[]): void {
    const data = randomBytes(MIB)
    this.#timed('copy a MiB into it', mib, () => {
      const fd = openSync(join(this.#mountpoint, 'copied'), 'wx')
      for (let i = 0; i < mib; i++) writeSync(fd, data)
      fsyncSync(fd)
      closeSync(fd)
    })
    const most = others.map((pid) => memoryMiB(pid, 'VmHWM')).join(', ')
    console.log(`most memory until now: mount ${memoryMiB(this.#pid, 'VmHWM')} MiB, nodes ${most} MiB`)
  }
}

function each(first: number, work: (i: number) => void): void {
  for (let i = first; i < first + SAMPLE; i++) work(i)
}

const works: (() => unknown)[] = []
try {
  const ringfs = await Ringfs.in({ teardown: (work: () => unknown) => works.push(work) })
  await ringfs.ok('up', '--detach', '--nodes', '3', '--replicas', '3')
  const pid = ringfs.runFile()?.pid ?? 0
  const nodes = ringfs.processes().filter((one) => {
    return readFileSync(`/proc/${one}/cmdline`, 'latin1').includes('--supervised')
  })
  const scale = new Scale(ringfs.mountpoint, pid)
  scale.names(Number(values.names))
  scale.sparse()
  scale.overwrites(Number(values.overwrites))
  scale.copying(Number(values.copy), nodes)
  await ringfs.ok('down')
} finally {
  for (const work of works.reverse()) await work()
}
