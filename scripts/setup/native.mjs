// The addon of the kernel driver, built by the system's C compiler into native/build/Release/, where node-gyp-build finds
// it. Skipped when neither its source nor the machine changed since, and when the package brought a prebuilt one
// (native/prebuilds/<platform>-<arch>/). Nothing is downloaded: the headers come with the package node-api-headers.
//
// Invariant: native/build/Release/fuse_device.node is whole or not there: it is made under another name and renamed.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { say, secondsSince, SetupError } from './say.mjs'

const SOURCES = ['native/fuse_device.c', 'native/notifier.c', 'native/durable.c', 'native/leaves.c', 'native/memory.c']
const HEADER = 'native/addon.h'
const TARGET = 'native/build/Release/fuse_device.node'
const PREBUILT = `native/prebuilds/${process.platform}-${process.arch}`
const STAMP = 'native/build/.stamp'
const FLAGS = ['-O2', '-Wall', '-Wextra', '-Werror', '-shared', '-fPIC', '-pthread']

function fingerprint() {
  const hash = createHash('sha256')
  for (const path of [...SOURCES, HEADER]) hash.update(readFileSync(path))
  return hash.update([process.arch, process.versions.modules, ...FLAGS].join('\0')).digest('hex')
}

export function ensureNative() {
  // Elsewhere there is fuse-native.
  if (process.platform !== 'linux' || existsSync(PREBUILT)) return
  const print = fingerprint()
  if (existsSync(TARGET) && existsSync(STAMP) && readFileSync(STAMP, 'utf8') === print) return
  const startMs = performance.now()
  mkdirSync(dirname(TARGET), { recursive: true })
  const partial = `${TARGET}.${process.pid}`
  const headers = createRequire(join(process.cwd(), 'package.json'))('node-api-headers').include_dir
  const result = spawnSync(process.env.CC ?? 'cc', [...FLAGS, '-I', headers, '-o', partial, ...SOURCES], {
    encoding: 'utf8',
  })
  if (result.status !== 0) {
    rmSync(partial, { force: true })
    const reason = result.error ? `${result.error.message}: apt-get install g++` : result.stderr
    throw new SetupError(`the kernel driver could not be built: ${reason}`.trimEnd())
  }
  renameSync(partial, TARGET)
  writeFileSync(STAMP, print)
  say(`kernel driver built (${secondsSince(startMs)})`)
}
