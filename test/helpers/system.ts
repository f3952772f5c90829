/**
 * A mount namespace of its own, in which a test may change /sbin, mount what it likes and use any user's rights; the machine
 * outside sees nothing of it, and it is gone with the last process in it (mount_namespaces(7)).
 *
 * Inside, /sbin is a folder with links to everything that is in the real one, /dev/fuse may be opened by every user (as udev
 * has it elsewhere), and the checkout is at `repository`, which every user can read.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, chown, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { within } from './deadline.js'
import { type Ran, type Ringfs, runIn } from './ringfs.js'

// Seen from dist/test/helpers.
const REPOSITORY = fileURLToPath(new URL('../../..', import.meta.url))
const READY_TIMEOUT_MS = 120_000

const SCRIPT = `set -e
cd "$0"
mkdir -p real-sbin sbin device repository
mount --bind /usr/sbin real-sbin
for program in real-sbin/*; do ln -s "$0/$program" "sbin/\${program#*/}"; done
mount --bind sbin /usr/sbin
mount -t tmpfs device device
mknod -m 666 device/fuse c 10 229
mount --bind device/fuse /dev/fuse
mount --bind "$1" repository
echo ready
exec sleep 1000`

export interface User {
  readonly uid: number
  readonly gid: number
}

export class System {
  readonly #holder: ChildProcess
  readonly #ringfs: Ringfs

  private constructor(holder: ChildProcess, ringfs: Ringfs) {
    this.#holder = holder
    this.#ringfs = ringfs
  }

  static async of(t: Pick<Test, 'teardown'>, ringfs: Ringfs): Promise<System> {
    await chmod(ringfs.folder, 0o755)
    const script = ['sh', '-c', SCRIPT, ringfs.folder, REPOSITORY]
    const holder = spawn('unshare', ['-m', '--propagation', 'private', ...script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    t.teardown(() => holder.kill('SIGKILL'))
    await within(READY_TIMEOUT_MS, once(holder.stdout, 'data'), 'a mount namespace')
    return new System(holder, ringfs)
  }

  /** The program of ringfs, for any user. */
  get program(): string {
    return join(this.#ringfs.folder, 'repository/dist/src/main/ringfs.js')
  }

  /** Path of the mount namespace. */
  get namespace(): string {
    return `/proc/${this.#holder.pid ?? 0}/ns/mnt`
  }

  /** A folder for a mount, or whatever else. */
  async folder(name: string, owner: User = { uid: 0, gid: 0 }): Promise<string> {
    const path = join(this.#ringfs.folder, name)
    await mkdir(path)
    await chown(path, owner.uid, owner.gid)
    return path
  }

  /** Words that start a program in the namespace. */
  inside(words: readonly string[], user?: User): readonly [string, ...string[]] {
    return ['nsenter', `--mount=${this.namespace}`, '--', ...(user === undefined ? [] : this.#as(user)), ...words]
  }

  /** With an environment of his own: tap's would have his Node write into the checkout. */
  #as({ uid, gid }: User): readonly string[] {
    const run = join(this.#ringfs.folder, `run-${uid}`)
    const path = `PATH=${process.env['PATH'] ?? ''}`
    const environment = [path, `HOME=${run}`, `XDG_RUNTIME_DIR=${run}`, `XDG_STATE_HOME=${run}`]
    return ['setpriv', `--reuid=${uid}`, `--regid=${gid}`, '--clear-groups', 'env', '-i', ...environment]
  }

  run(...words: readonly string[]): Promise<Ran> {
    const [program, ...rest] = this.inside(words)
    return runIn('/', program, rest, this.#ringfs.env)
  }

  /** Answers what it said. Throws when it fails. */
  async ok(...words: readonly string[]): Promise<string> {
    return succeeded(words, await this.run(...words))
  }

  async runAs(user: User, ...words: readonly string[]): Promise<Ran> {
    const [program, ...rest] = this.inside(words, user)
    return runIn('/', program, rest, this.#ringfs.env)
  }

  async okAs(user: User, ...words: readonly string[]): Promise<string> {
    return succeeded(words, await this.runAs(user, ...words))
  }

  /** A command of ringfs. */
  ringfs(...words: readonly string[]): Promise<Ran> {
    return this.run(process.execPath, this.program, ...words)
  }

  async okRingfs(...words: readonly string[]): Promise<string> {
    return succeeded(words, await this.ringfs(...words))
  }

  /** A program that goes on until the test ends; inside, all of it. */
  start(t: Pick<Test, 'teardown'>, ...words: readonly string[]): ChildProcess {
    const [program, ...rest] = this.inside(words)
    const child = spawn(program, rest, { cwd: '/', env: this.#ringfs.env, stdio: ['ignore', 'pipe', 'inherit'] })
    t.teardown(() => child.kill('SIGKILL'))
    return child
  }

  /** The line of /proc/mounts of a mount point: source, type, options. undefined: nothing is mounted there. */
  async mounted(path: string): Promise<{ source: string; type: string; options: readonly string[] } | undefined> {
    const lines = (await this.ok('cat', '/proc/mounts')).split('\n').map((line) => line.split(' '))
    const [source = '', , type = '', options = ''] = lines.findLast(([, mountpoint]) => mountpoint === path) ?? []
    return source === '' ? undefined : { source, type, options: options.split(',') }
  }
}

function succeeded(words: readonly string[], { code, stdout, stderr }: Ran): string {
  if (code !== 0) throw new Error(`${words.join(' ')}: exit code ${code}: ${stderr}`)
  return stdout
}
