// TypeScript into dist/, the programs in few files, and beside it what tsc does not carry. Skipped when no source changed since the last
// build.
//
// Invariant: after a build, dist/ holds what the sources of now give, and nothing of a source that is gone. A test file
// that was deleted must not go on running from dist/.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { PACKAGES, bundlePackages, bundlePrograms, bundleTestPrograms, canBundle } from './bundle.mjs'
import { say, secondsSince, SetupError } from './say.mjs'

const SOURCE_FOLDERS = ['src', 'workers', 'test', 'bench', 'proto']
const SCRIPTS = ['build', 'bundle', 'notices'].map((name) => `scripts/setup/${name}.mjs`)
const SINGLE_SOURCES = ['package.json', 'package-lock.json', 'tsconfig.json', ...SCRIPTS]
const ASSET = /\.(lua|proto)$/
const STAMP = 'dist/.build-stamp'
const BUILD_INFO = 'dist/.tsbuildinfo'

function walk(folder) {
  if (!existsSync(folder)) return []
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name)
    return entry.isDirectory() ? walk(path) : [path]
  })
}

const isTypeScript = (path) => path.endsWith('.ts') && !path.endsWith('.d.ts')

/** Size and time of every source, hashed: a few milliseconds, where asking tsc takes seconds. */
function fingerprint(sources) {
  const hash = createHash('sha256')
  for (const path of [...sources, ...SINGLE_SOURCES.filter((single) => existsSync(single))].sort()) {
    const { size, mtimeMs } = statSync(path)
    hash.update(`${path}\0${size}\0${mtimeMs}\n`)
  }
  return hash.digest('hex')
}

/** Every file that dist/ should have, but for what the bundles consist of: the last build noted that. */
function expectedOutputs(sources) {
  const outputs = new Set([STAMP, BUILD_INFO])
  for (const path of sources) {
    if (ASSET.test(path)) outputs.add(join('dist', path))
    if (!isTypeScript(path)) continue
    const stem = join('dist', path.slice(0, -'.ts'.length))
    for (const ending of ['.js', '.js.map', '.d.ts']) outputs.add(stem + ending)
  }
  return outputs
}

function removeStale(outputs) {
  for (const path of walk('dist')) if (!outputs.has(path)) rmSync(path)
}

function copyAssets(sources) {
  for (const path of sources.filter((source) => ASSET.test(source))) {
    const target = join('dist', path)
    mkdirSync(dirname(target), { recursive: true })
    copyFileSync(path, target)
  }
}

function compile() {
  const words = ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.json']
  const result = spawnSync(process.execPath, words, { stdio: ['ignore', 'pipe', 'pipe'], encoding: 'utf8' })
  if (result.status !== 0) throw new SetupError(`the build failed:\n${result.stdout}${result.stderr}`.trimEnd())
}

/** What the last build was made of, and the bundles that it made. */
function readStamp() {
  try {
    return JSON.parse(readFileSync(STAMP, 'utf8'))
  } catch {
    return { print: null, bundles: [] }
  }
}

/** Builds when a source changed, or always with `force`. */
export function ensureBuilt({ force = false } = {}) {
  const sources = SOURCE_FOLDERS.flatMap(walk)
  const outputs = expectedOutputs(sources)
  const print = fingerprint(sources)
  const built = readStamp()
  const whole = [...outputs, ...built.bundles].every((path) => existsSync(path))
  const isBundling = canBundle()
  const isBundled = built.bundles.length > 0 || !isBundling
  if (!force && whole && isBundled && built.print === print) return
  const startMs = performance.now()
  say('build')
  if (!isBundling) say('esbuild is not installed: commands will start slowly')
  // tsc takes its own notes for what stands in dist/: without them it writes every file anew, programs that were bundles included.
  if (!whole || !isBundling) rmSync(BUILD_INFO, { force: true })
  rmSync(STAMP, { force: true })
  // An empty folder of a package would hide the one that is installed.
  rmSync(PACKAGES, { recursive: true, force: true })
  compile()
  const bundles = isBundling ? [...bundlePrograms(), ...bundleTestPrograms(), ...bundlePackages()] : []
  copyAssets(sources)
  removeStale(new Set([...outputs, ...bundles]))
  writeFileSync(STAMP, JSON.stringify({ print, bundles }))
  say(`built (${secondsSince(startMs)})`)
}
