// Installs Debian packages, as root or through sudo that asks for no password; otherwise says what to run.
import { spawnSync } from 'node:child_process'
import { existsSync, rmSync, writeFileSync } from 'node:fs'
import { hasProgram, missingNeeds } from './packages.mjs'
import { say, secondsSince, SetupError } from './say.mjs'

const POLICY_FILE = '/usr/sbin/policy-rc.d'
const APT_TIMEOUT_MS = 15 * 60_000

/** The words to put before a command that needs root, or null when there is no way to be root. */
function rootPrefix() {
  if (process.getuid?.() === 0) return []
  if (hasProgram('sudo') && spawnSync('sudo', ['-n', 'true'], { stdio: 'ignore' }).status === 0) return ['sudo', '-n']
  return null
}

function runAsRoot(prefix, words, input) {
  const [program, ...rest] = [...prefix, ...words]
  const stdio = [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe']
  const result = spawnSync(program, rest, { stdio, encoding: 'utf8', timeout: APT_TIMEOUT_MS, ...(input && { input }) })
  return {
    ok: result.status === 0,
    output: `${result.stdout ?? ''}${result.stderr ?? ''}${result.error?.message ?? ''}`,
  }
}

const aptGet = (...words) => ['env', 'DEBIAN_FRONTEND=noninteractive', 'apt-get', '-q', '-y', ...words]

function mustRun(prefix, words) {
  const { ok, output } = runAsRoot(prefix, words)
  if (ok) return
  const tail = output.trim().split('\n').slice(-15).join('\n')
  throw new SetupError(`this failed: ${[...prefix, ...words].join(' ')}\n${tail}`)
}

/** The first of a need's names that this release knows (after apt-get update). */
function packageName(need) {
  if (need.packages.length === 1) return need.packages[0]
  const known = need.packages.find((name) => {
    const policy = spawnSync('apt-cache', ['policy', name], { encoding: 'utf8' }).stdout ?? ''
    return /Candidate: (?!\(none\))\S/.test(policy)
  })
  return known ?? need.packages[0]
}

/**
 * redis-server's package starts a service and enables it for the next boot; ringfs runs its own and needs neither.
 * A policy-rc.d that forbids starting is in place during the installation, and the service is disabled afterwards:
 * only when this very run installs it, so a service that the user had is left alone.
 */
function withoutServices(prefix, install) {
  const ours = !existsSync(POLICY_FILE)
  if (ours) writePolicy(prefix)
  try {
    install()
  } finally {
    if (ours) removePolicy(prefix)
  }
}

function writePolicy(prefix) {
  const text = '#!/bin/sh\nexit 101\n'
  if (prefix.length === 0) writeFileSync(POLICY_FILE, text, { mode: 0o755 })
  else runAsRoot(prefix, ['sh', '-c', `cat > ${POLICY_FILE} && chmod 755 ${POLICY_FILE}`], text)
}

function removePolicy(prefix) {
  if (prefix.length === 0) rmSync(POLICY_FILE, { force: true })
  else runAsRoot(prefix, ['rm', '-f', POLICY_FILE])
}

function disableRedisService(prefix) {
  if (existsSync('/run/systemd/system')) runAsRoot(prefix, ['systemctl', 'disable', 'redis-server.service'])
}

/** The line that a user without rights can copy. */
function manualCommand(needs) {
  const names = needs.map((need) => need.packages[0]).join(' ')
  return `sudo apt-get update && sudo apt-get install -y --no-install-recommends ${names}`
}

/** Installs what is missing, `tests`: also for the tests. Throws SetupError that names the command to run when it cannot. */
export function ensureDebianPackages(options) {
  const needs = missingNeeds(options)
  if (needs.length === 0) return
  const missing = needs.map((need) => need.what).join(', ')
  if (!hasProgram('apt-get')) {
    throw new SetupError(`missing: ${missing}, and there is no apt-get here; install them with this system's packages`)
  }
  const prefix = rootPrefix()
  if (prefix === null) {
    throw new SetupError(`missing: ${missing}. No rights to install them; please run:\n  ${manualCommand(needs)}`)
  }
  install(prefix, needs, options)
}

function install(prefix, needs, options) {
  const startMs = performance.now()
  say('apt-get update')
  mustRun(prefix, aptGet('update'))
  const names = needs.map(packageName)
  say(`apt-get install ${names.join(' ')}`)
  withoutServices(prefix, () => mustRun(prefix, aptGet('install', '--no-install-recommends', ...names)))
  if (names.includes('redis-server')) disableRedisService(prefix)
  const still = missingNeeds(options)
  if (still.length > 0)
    throw new SetupError(`still missing after the installation: ${still.map((n) => n.what).join(', ')}`)
  say(`Debian packages installed (${secondsSince(startMs)})`)
}
