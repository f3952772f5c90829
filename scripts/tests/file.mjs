// Runs one test file in a process of its own and answers its TAP, what it cost and what it left behind.
//
// Where the kernel lets us (Linux, root) the file has namespaces of its own: for processes, mounts and network. However it
// ends, killed from outside included, nothing of it stays: no `ringfs up`, no Redis, no mount. And two files at the same
// time do not meet in a port or in the name of a bridge. Elsewhere it runs as any process does.
import { spawn, spawnSync } from 'node:child_process'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'

/** A file, on a slow machine; a test that hangs fails by its own deadline long before. */
const FILE_TIMEOUT_S = 900
/** tap ends a file that takes too long, and tells where it stood; this is for one that cannot. */
const KILL_AFTER_MS = (FILE_TIMEOUT_S + 30) * 1000

const STALLS = new URL('stalls.mjs', import.meta.url)
const CONTAINER = fileURLToPath(new URL('contain.sh', import.meta.url))
const NAMESPACES = ['unshare', '--pid', '--fork', '--kill-child', '--net', '--mount-proc']
/** If this process is killed, so is everything in there: unshare by this, process 1 by unshare, the rest by the kernel. */
const ENDS_WITH_US = ['setpriv', '--pdeathsig', 'KILL']

let contained
function canContain() {
  const [program, ...words] = [...ENDS_WITH_US, ...NAMESPACES, 'ip', 'link', 'set', 'lo', 'up']
  contained ??= spawnSync(program, words, { stdio: 'ignore' }).status === 0
  return contained
}

/** For every Node that the file is or starts; see stalls.mjs. */
function stallsFrom(seed) {
  return seed === undefined ? {} : { RINGFS_STALLS: seed, NODE_OPTIONS: `--import=${STALLS}` }
}

/** `stalls`: a seed. `cpuS` of all its processes, null where it cannot be known; `left`: command lines that were still running at its end. */
export async function runFile(file, { stalls } = {}) {
  const command = [process.execPath, '--enable-source-maps', file]
  const isContained = canContain()
  const [program, ...words] = isContained ? [...ENDS_WITH_US, ...NAMESPACES, CONTAINER, ...command] : command
  const startMs = performance.now()
  const child = spawn(program, words, {
    stdio: ['ignore', 'pipe', 'inherit', 'pipe'],
    env: {
      ...process.env,
      ...stallsFrom(stalls),
      ...{ TAP_TIMEOUT: String(FILE_TIMEOUT_S), NO_COLOR: '1', FORCE_COLOR: '0' },
    },
  })
  const timer = setTimeout(() => child.kill('SIGKILL'), KILL_AFTER_MS)
  const [tap, report, ended] = await Promise.all([text(child.stdout), text(child.stdio[3]), endOf(child)])
  clearTimeout(timer)
  const wallS = (performance.now() - startMs) / 1000
  const left = [...report.matchAll(/^left \d+ (.*)$/gm)].map(([, line]) => line.trim())
  return { file, tap, wallS, cpuS: cpuSeconds(report), left, ...ended }
}

function endOf(child) {
  return new Promise((resolve) => {
    child.once('error', ({ message }) => resolve({ ok: false, why: message }))
    child.once('exit', (code, signal) => {
      resolve({ ok: code === 0, why: signal === null ? `exit code ${code}` : `killed by ${signal}` })
    })
  })
}

/** Of the second line of times(1p): user and system time of what this shell has waited for. */
function cpuSeconds(report) {
  const match = /(\d+)m([\d.]+)s (\d+)m([\d.]+)s\s*$/.exec(report)
  if (match === null) return null
  const [userMin, userS, systemMin, systemS] = match.slice(1).map(Number)
  return (userMin + systemMin) * 60 + userS + systemS
}
