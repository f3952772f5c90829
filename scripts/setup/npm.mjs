// node_modules as package-lock.json says, installed only when the lock file changed since the last time.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, lstatSync, readFileSync, writeFileSync } from 'node:fs'
import { say, secondsSince, SetupError } from './say.mjs'

const STAMP = 'node_modules/.ringfs-stamp'

/** Other Node versions and machines have other prebuilt binaries; so they are part of the stamp. */
function wanted() {
  const lock = createHash('sha256').update(readFileSync('package-lock.json')).digest('hex')
  return `${lock} node${process.versions.modules} ${process.platform}-${process.arch}\n`
}

function installed() {
  return existsSync(STAMP) ? readFileSync(STAMP, 'utf8') : ''
}

/** A link is somebody's own arrangement (a second worktree, for one): npm ci would empty what it points to. */
function isLink() {
  return lstatSync('node_modules', { throwIfNoEntry: false })?.isSymbolicLink() ?? false
}

/**
 * --ignore-scripts: no package of ours needs its install script (fuse-native finds its prebuilt binary without), npm 10
 * runs them and npm 11 warns that it does not; so both do the same, and nothing foreign runs at installation.
 */
export function ensureNodeModules() {
  if (installed() === wanted() || isLink()) return
  const startMs = performance.now()
  say('npm ci')
  const words = ['ci', '--ignore-scripts', '--include=dev', '--no-audit', '--no-fund', '--loglevel=error']
  // Under `npm test` npm tells its child of itself in npm_execpath: the same npm then, without a search.
  const cli = process.env.npm_execpath
  const [program, args] = cli?.endsWith('.js') ? [process.execPath, [cli, ...words]] : ['npm', words]
  const result = spawnSync(program, args, { stdio: ['ignore', 'pipe', 'pipe'], encoding: 'utf8' })
  if (result.status !== 0) {
    throw new SetupError(`npm ci failed:\n${(result.stderr || result.error?.message) ?? ''}`.trimEnd())
  }
  writeFileSync(STAMP, wanted())
  say(`npm packages installed (${secondsSince(startMs)})`)
}
