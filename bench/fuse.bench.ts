/**
 * FUSE requests alone, for each driver: a VFS in memory, mounted by a process of its own.
 *
 *   stat/s      one request at a time: what it costs to go through the kernel and back
 *   stat/s, 8   eight at a time
 *   MB/s        1 MiB writes, and reads of what is not in the page cache (each driver drops it at open)
 *
 * All system calls of this process are asynchronous: the mount is served by another process.
 */
import { open, stat, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { MIB } from '../src/base/limits.js'
import type { DriverName } from '../src/fuse/driver.js'
import { mountTest } from '../test/helpers/mount.js'

const SECONDS = 2
const FILE_MIB = 128

async function rate(width: number, job: () => Promise<unknown>): Promise<number> {
  const start = performance.now()
  let runs = 0
  const lane = async (): Promise<void> => {
    while (performance.now() - start < SECONDS * 1000) {
      await job()
      runs++
    }
  }
  await Promise.all(Array.from({ length: width }, lane))
  return (runs / (performance.now() - start)) * 1000
}

async function writeRate(path: string): Promise<number> {
  const block = Buffer.alloc(MIB, 'x')
  const start = performance.now()
  const file = await open(path, 'w')
  for (let i = 0; i < FILE_MIB; i++) await file.write(block, 0, MIB, i * MIB)
  await file.close()
  return FILE_MIB / ((performance.now() - start) / 1000)
}

async function readRate(path: string): Promise<number> {
  const block = Buffer.alloc(MIB)
  const start = performance.now()
  const file = await open(path, 'r')
  for (let i = 0; i < FILE_MIB; i++) await file.read(block, 0, MIB, i * MIB)
  await file.close()
  return FILE_MIB / ((performance.now() - start) / 1000)
}

async function measure(driver: DriverName): Promise<Record<string, number>> {
  const cleanups: (() => unknown)[] = []
  const t = { teardown: (fn: () => unknown) => void cleanups.push(fn) }
  try {
    const { mountpoint } = await mountTest(t, { driver })
    const path = join(mountpoint, 'file')
    const write = await writeRate(path)
    const read = await readRate(path)
    const one = await rate(1, () => stat(path))
    const eight = await rate(8, () => stat(path))
    await unlink(path)
    return {
      'stat/s': Math.round(one),
      'stat/s, 8': Math.round(eight),
      'write MB/s': Math.round(write),
      'read MB/s': Math.round(read),
    }
  } finally {
    for (const cleanup of cleanups.reverse()) await cleanup()
  }
}

const results: Record<string, Record<string, number>> = {}
for (const driver of ['kernel', 'fuse-native'] as const) results[driver] = await measure(driver)
if (process.argv.includes('--json')) console.log(JSON.stringify(results))
else console.table(results)
process.exit(0)
