#!/usr/bin/env node
// Makes a fresh clone ready to run: Debian packages, npm packages, build. Uses nothing but Node itself, because it runs
// before anything else is there. What is in place already costs a fraction of a second.
//
//   node scripts/setup.mjs             everything
//   node scripts/setup.mjs --tests     and what the tests run
//   node scripts/setup.mjs --no-build  without the build (for a linter, which needs only the packages)
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ensureDebianPackages } from './setup/apt.mjs'
import { ensureBuilt } from './setup/build.mjs'
import { ensureNative } from './setup/native.mjs'
import { ensureNodeModules } from './setup/npm.mjs'
import { say, SetupError } from './setup/say.mjs'

const OLDEST_NODE = [20, 19]

function checkNode() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  if (major > OLDEST_NODE[0] || (major === OLDEST_NODE[0] && minor >= OLDEST_NODE[1])) return
  throw new SetupError(`Node ${OLDEST_NODE.join('.')} or newer is needed; this is ${process.versions.node}`)
}

function setUp(words) {
  process.chdir(join(dirname(fileURLToPath(import.meta.url)), '..'))
  checkNode()
  ensureDebianPackages({ tests: words.includes('--tests') })
  ensureNodeModules()
  if (!words.includes('--no-build')) {
    ensureNative()
    ensureBuilt()
  }
  if (!existsSync('/dev/fuse')) say('there is no /dev/fuse here (modprobe fuse?): mounting will fail, all else works')
}

try {
  setUp(process.argv.slice(2))
} catch (error) {
  if (!(error instanceof SetupError)) throw error
  say(error.message)
  process.exitCode = 1
}
