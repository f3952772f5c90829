// Builds native/fuse_device.c with the system's compiler, only when it or Node has changed. No network is used: the headers
// come with Node where they are installed, and else from the package node-api-headers.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const source = join(root, 'native', 'fuse_device.c')
const folder = join(root, 'native', 'build')
const target = join(folder, 'fuse_device.node')
const stamp = join(folder, 'stamp')
const wanted = `${process.arch} napi ${process.versions.napi}`

if (process.platform !== 'linux') {
  console.log('native: not built, the kernel driver is for Linux')
  process.exit(0)
}
const isFresh =
  existsSync(target) &&
  existsSync(stamp) &&
  readFileSync(stamp, 'utf8') === wanted &&
  statSync(target).mtimeMs > statSync(source).mtimeMs
if (isFresh) process.exit(0)

mkdirSync(folder, { recursive: true })
const compiler = process.env.CC ?? 'cc'
const partial = `${target}.${process.pid}`
const args = ['-O2', '-Wall', '-Wextra', '-Werror', '-shared', '-fPIC', '-I', includes(), '-o', partial, source]
const result = spawnSync(compiler, args, { stdio: 'inherit' })
if (result.status !== 0) {
  console.error(
    `native: ${compiler} failed${result.error ? ` (${result.error.message})` : ''}: install g++ and run again`,
  )
  process.exit(1)
}
renameSync(partial, target)
writeFileSync(stamp, wanted)
console.log('native: built the kernel driver')

function includes() {
  return createRequire(import.meta.url)('node-api-headers').include_dir
}
