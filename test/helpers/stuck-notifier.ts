/**
 * A process that mounts on the folder it is given, makes no folder that it is asked to (faulty-vfs.ts), and writes one
 * notification about the root into the kernel when it gets a line on its standard input, whoever has the root locked then.
 *
 * Says `mounted`, then `writing`; `written` if the kernel did not let it wait.
 */
import { readdirSync, readlinkSync } from 'node:fs'
import { silentLog } from '../../src/base/log.js'
import { loadAddon } from '../../src/fuse/kernel/addon.js'
import { KernelDriver } from '../../src/fuse/kernel/driver.js'
import { encodeInvalEntry } from '../../src/fuse/kernel/notify.js'
import { withFaults } from './faulty-vfs.js'
import { MemoryVfs } from './memory-vfs.js'

const FDS = '/proc/self/fd'
const ROOT = 1

function say(word: string): void {
  process.stdout.write(`${word}\n`)
}

/** Of a descriptor that is closed by now there is no link. */
function linkOf(fd: string): string {
  try {
    return readlinkSync(`${FDS}/${fd}`)
  } catch {
    return ''
  }
}

function deviceOf(): number {
  return Number(readdirSync(FDS).find((fd) => linkOf(fd) === '/dev/fuse'))
}

const mountpoint = process.argv[2] ?? ''
const options = { mountpoint, fsName: 'ringfs-test', readOnly: false, allowOther: true, extra: [] }
const mounted = await new KernelDriver().mount(withFaults(new MemoryVfs()), options, silentLog)
const notifier = loadAddon().notifier(deviceOf(), 1, () => say('written'))
process.stdin.once('data', () => {
  notifier.send(1, encodeInvalEntry(ROOT, Buffer.from('any')))
  say('writing')
})
process.once('SIGTERM', () => void mounted.unmount(true).finally(() => process.exit(1)))
say('mounted')
