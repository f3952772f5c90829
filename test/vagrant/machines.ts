/** The machines of the Vagrantfile, by vagrant and ssh. Whatever is called has a deadline. */
import { spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

// Seen from dist/test/vagrant.
const ROOT = fileURLToPath(new URL('../../../', import.meta.url))

export const NODES = ['node1', 'node2', 'node3'] as const
export const CLIENT = 'client'
export type Name = (typeof NODES)[number] | typeof CLIENT
export const ADDRESSES = { node1: '192.168.56.11', node2: '192.168.56.12', node3: '192.168.56.13' } as const

/** Everything is emulated, perhaps: a ringfs command takes half a minute then, a start of a machine ten. */
export const COMMAND_TIMEOUT_MS = 15 * 60_000
const START_TIMEOUT_MS = 40 * 60_000
const POWER_TIMEOUT_MS = 5 * 60_000
/** As libvirt and VirtualBox call it. */
const OFF: ReadonlySet<string> = new Set(['shutoff', 'poweroff'])
const LOOK_AGAIN_MS = 2_000

export interface Ended {
  /** -1: it was killed, or could not be started. */
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

export interface RunOptions {
  readonly input?: Buffer | string
  readonly timeoutMs?: number
  /** Beside this process's own environment. */
  readonly env?: NodeJS.ProcessEnv
}

export function run(program: string, words: readonly string[], options: RunOptions = {}): Promise<Ended> {
  return new Promise((resolve) => {
    const child = spawn(program, words, {
      cwd: ROOT,
      timeout: options.timeoutMs ?? COMMAND_TIMEOUT_MS,
      env: { ...process.env, ...options.env },
    })
    const [stdout, stderr]: [Buffer[], Buffer[]] = [[], []]
    child.stdout.on('data', (bytes: Buffer) => stdout.push(bytes))
    child.stderr.on('data', (bytes: Buffer) => stderr.push(bytes))
    const end = (code: number | null): void => {
      resolve({ code: code ?? -1, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() })
    }
    child.once('error', (error) => {
      stderr.push(Buffer.from(error.message))
      end(-1)
    })
    child.once('close', end)
    // It may end without having read it.
    child.stdin.on('error', () => undefined)
    child.stdin.end(options.input)
  })
}

async function ok(program: string, words: readonly string[], options: RunOptions = {}): Promise<string> {
  const { code, stdout, stderr } = await run(program, words, options)
  if (code !== 0) throw new Error(`${program} ${words.join(' ')}: exit code ${code}: ${stderr || stdout}`)
  return stdout
}

/**
 * The machines that the Vagrantfile defines (RINGFS_VM_NODES says how many nodes), or, in words that say what to do, why the test
 * cannot begin.
 */
export async function defined(): Promise<readonly Name[] | string> {
  if ((await run('vagrant', ['--version'])).code !== 0) return 'vagrant is not installed: docs/vagrant.md'
  const { stdout, stderr } = await run('vagrant', ['status', '--machine-readable'])
  const states = statesOf(stdout)
  if (!states.has(CLIENT)) return `vagrant status fails: ${stderr || stdout}`
  const all: readonly Name[] = [...NODES, CLIENT]
  const names = all.filter((name) => states.has(name))
  const away = names.filter((name) => states.get(name) !== 'running')
  return away.length === 0 ? names : `not running: ${away.join(', ')}. First: vagrant up (docs/vagrant.md)`
}

/** `vagrant status --machine-readable`: time, machine, key, value. */
export function statesOf(text: string): ReadonlyMap<string, string> {
  return new Map([...text.matchAll(/^\d+,(\w+),state,(\w+)$/gm)].map((match) => [match[1] ?? '', match[2] ?? '']))
}

async function stateOf(name: Name): Promise<string | undefined> {
  return statesOf(await ok('vagrant', ['status', '--machine-readable', name])).get(name)
}

export class Machines {
  readonly #folder: string

  private constructor(folder: string) {
    this.#folder = folder
  }

  static async find(names: readonly Name[]): Promise<Machines> {
    const machines = new Machines(await mkdtemp(join(tmpdir(), 'ringfs-vagrant-')))
    for (const name of names) await machines.#learn(name)
    return machines
  }

  async forget(names: readonly Name[]): Promise<void> {
    for (const name of names) await this.#hangUp(name)
    await rm(this.#folder, { recursive: true, force: true })
  }

  /** How ssh reaches it: it may have got another address. One connection for all calls: on an emulated machine each takes seconds to make. */
  async #learn(name: Name): Promise<void> {
    const shared = `Match all\n  ControlMaster auto\n  ControlPath ${this.#config(name)}.ssh\n  ControlPersist 60\n`
    await writeFile(this.#config(name), `${await ok('vagrant', ['ssh-config', name])}\n${shared}`, { mode: 0o600 })
  }

  /** Before the machine is gone: what is called later must not wait for the old connection. */
  async #hangUp(name: Name): Promise<void> {
    await run('ssh', ['-F', this.#config(name), '-O', 'exit', name])
  }

  #config(name: Name): string {
    return join(this.#folder, name)
  }

  /** A script of bash, as root. */
  try(name: Name, script: string, options: RunOptions = {}): Promise<Ended> {
    const ssh = ['-F', this.#config(name), '-o', 'ConnectTimeout=60', '-o', 'ServerAliveInterval=60', name]
    return run('ssh', [...ssh, `sudo bash -c ${quoted(script)}`], options)
  }

  /** As above, and answers what it printed. Throws when it fails. */
  async sh(name: Name, script: string, options: RunOptions = {}): Promise<string> {
    const { code, stdout, stderr } = await this.try(name, script, options)
    if (code !== 0) throw new Error(`on ${name}: ${script}: exit code ${code}: ${stderr || stdout}`)
    return stdout
  }

  /** As if its cable was pulled: nothing is written any more. By its own kernel (sysrq.rst): `vagrant halt --force` ends services first. */
  async powerOff(name: Name): Promise<void> {
    await this.sh(name, 'setsid --fork bash -c "sleep 1; echo o > /proc/sysrq-trigger" > /dev/null 2>&1 < /dev/null')
    await this.#hangUp(name)
    const deadline = Date.now() + POWER_TIMEOUT_MS
    // Not merely on its way there, or stopped: `vagrant up` would let that run on.
    while (!OFF.has((await stateOf(name)) ?? '')) {
      if (Date.now() > deadline) throw new Error(`${name} has not lost its power`)
      await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS))
    }
  }

  /** And nothing else: what is to run on it starts by itself. */
  async powerOn(name: Name): Promise<void> {
    const env = { RINGFS_VM_ALONE: 'yes' }
    await ok('vagrant', ['up', '--no-provision', name], { timeoutMs: START_TIMEOUT_MS, env })
    await this.#learn(name)
  }

  /** From the other machines; ssh comes by another network. */
  async cutOff(name: keyof typeof ADDRESSES): Promise<void> {
    await this.sh(name, `ip link set ${device(name)} down`)
  }

  async plugIn(name: keyof typeof ADDRESSES): Promise<void> {
    await this.sh(name, `ip link set ${device(name)} up`)
  }
}

/** An interface that is down keeps its address. */
function device(name: keyof typeof ADDRESSES): string {
  return `$(ip -oneline -4 address show to ${ADDRESSES[name]} | cut -d ' ' -f 2)`
}

export function quoted(word: string): string {
  return `'${word.replaceAll("'", String.raw`'\''`)}'`
}
