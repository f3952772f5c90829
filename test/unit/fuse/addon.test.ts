/** Where the native part of the kernel driver is looked for. */
import { copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { loadAddon } from '../../../src/fuse/kernel/addon.js'

// Seen from dist/test/unit/fuse.
const BUILT = fileURLToPath(new URL('../../../../native/build/Release/fuse_device.node', import.meta.url))

async function newFolder(t: Test): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'ringfs-addon-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  return folder
}

t.test('what was compiled here is loaded', async (t) => {
  t.doesNotThrow(() => loadAddon())
})

t.test('a prebuilt addon for this platform is found where none was compiled', async (t) => {
  const folder = await newFolder(t)
  const prebuilt = join(folder, 'prebuilds', `${process.platform}-${process.arch}`)
  await mkdir(prebuilt, { recursive: true })
  await copyFile(BUILT, join(prebuilt, 'ringfs.napi.node'))
  t.doesNotThrow(() => loadAddon(folder))
})

t.test('none at all, and one that is broken, are told with what to do', async (t) => {
  const folder = await newFolder(t)
  const says = { code: 'DRIVER_MISSING', message: /^[^\n]*(npm run build)[^\n]*fuse-native$/ }
  t.throws(() => loadAddon(folder), says)
  await mkdir(join(folder, 'build/Release'), { recursive: true })
  await writeFile(join(folder, 'build/Release/broken.node'), 'no ELF file')
  t.throws(() => loadAddon(folder), says)
})
