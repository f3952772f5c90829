/** Runs unlisted-folders.ts on a disk that cannot list what it is told: that is put before the C library when a process starts. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { temporaryFolder } from '../../helpers/chunks.js'
import { FaultyDisk } from '../../helpers/faulty-disk.js'

const TESTS = fileURLToPath(new URL('unlisted-folders.js', import.meta.url))

const folder = temporaryFolder({ teardown: (end) => process.once('exit', end) })
const disk = await FaultyDisk.make(folder)
const words = ['--enable-source-maps', TESTS, folder]
const child = spawn(process.execPath, words, { stdio: 'inherit', env: { ...process.env, ...disk.env } })
const [code] = (await once(child, 'exit')) as [number | null]
process.exitCode = code ?? 1
