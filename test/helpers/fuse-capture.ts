/**
 * Records what the kernel asks of a mount, and what it was answered, for kernel-captured.test.ts:
 *
 *     node fuse-capture.js MOUNTPOINT OUT.jsonl PROGRAM [ARGUMENT]…
 *
 * mounts the VFS of replayVfs() on MOUNTPOINT, runs the program there, unmounts and writes a line for each request:
 * {"in": hex, "out": hex of its answer or ""}, in the order in which they came.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync } from 'node:fs'
import { mkdir, rmdir, writeFile } from 'node:fs/promises'
import { createLog } from '../../src/base/log.js'
import { loadAddon } from '../../src/fuse/kernel/addon.js'
import { attach } from '../../src/fuse/kernel/attach.js'
import { FuseDevice } from '../../src/fuse/kernel/device.js'
import { FuseServer } from '../../src/fuse/kernel/server.js'
import { unmountPath } from '../../src/fuse/unmount.js'
import { openBackend } from './mount-backend.js'

const [mountpoint = '', out = '', program = '', ...args] = process.argv.slice(2)
const log = createLog('warn')
const { vfs } = await openBackend('vfs', log)
const addon = loadAddon()
await mkdir(mountpoint, { recursive: true })
const fd = await attach(addon, mountpoint, {
  mountpoint,
  fsName: 'capture',
  readOnly: false,
  allowOther: true,
  extra: [],
})

const requests: { in: string; readonly unique: string; out: string }[] = []
const server: FuseServer = new FuseServer({
  vfs,
  log,
  send: (parts) => {
    const bytes = Buffer.concat(parts)
    const unique = bytes.readBigUInt64LE(8).toString()
    const asked = requests.find((one) => one.unique === unique && one.out === '')
    if (asked !== undefined) asked.out = bytes.toString('hex')
    device.send(parts)
  },
  onRefused: () => log.error('the kernel is too old'),
})
const device: FuseDevice = new FuseDevice(
  addon,
  fd,
  (bytes, isLent) => {
    requests.push({ in: bytes.toString('hex'), unique: bytes.readBigUInt64LE(8).toString(), out: '' })
    return server.handle(bytes, isLent)
  },
  log,
)

// Not by cwd: spawn waits for the child's chdir, which waits for this process.
const child = spawn('sh', ['-c', 'cd "$0" && exec "$@"', mountpoint, program, ...args], { stdio: 'inherit' })
await once(child, 'close')
await unmountPath(mountpoint, false)
await device.ended
await server.end()
closeSync(fd)
await rmdir(mountpoint)
await writeFile(out, requests.map((one) => `${JSON.stringify({ in: one.in, out: one.out })}\n`).join(''))
process.stdout.write(`${requests.length} requests, the program ended with ${child.exitCode ?? 'a signal'}\n`)
process.exit(0)
