/** What the application tests share: programs of the system in the folder of a mount, as a user would run them. */
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import { type Ringfs, runIn, type Ran } from '../../helpers/ringfs.js'

/** Fails, and says what to install, if a program is missing: a test that looks at nothing tells nothing. */
export function needs(...programs: readonly { readonly program: string; readonly debian: string }[]): void {
  const missing = programs.filter(({ program }) => !isThere(program))
  if (missing.length === 0) return
  const names = missing.map(({ program }) => program).join(', ')
  throw new Error(`missing: ${names}; apt-get install ${missing.map(({ debian }) => debian).join(' ')}`)
}

function isThere(program: string): boolean {
  const folders = (process.env['PATH'] ?? '').split(delimiter)
  return folders.some((folder) => {
    try {
      accessSync(join(folder, program), constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}

/** A shell script in a folder, which stops at its first failure. Answers what it wrote; throws if it failed. */
export async function script(ringfs: Ringfs, folder: string, text: string): Promise<string> {
  const { code, stdout, stderr } = await tryScript(ringfs, folder, text)
  if (code !== 0) throw new Error(`exit code ${code}: ${stderr || stdout}\nof: ${text}`)
  return stdout
}

/** The same, whatever its exit code. No settings of the user who runs the tests reach it. */
export function tryScript(ringfs: Ringfs, folder: string, text: string): Promise<Ran> {
  // cd in the shell: this process must not wait for the mount, as the fork of a child with a working directory there would.
  return runIn('/', 'sh', ['-euc', `cd "$0"; ${text}`, folder], { ...ringfs.env, GIT_CONFIG_NOSYSTEM: '1' })
}

/** A new folder of the mount. */
export async function newFolder(ringfs: Ringfs, name: string): Promise<string> {
  await script(ringfs, ringfs.mountpoint, `mkdir ${name}`)
  return join(ringfs.mountpoint, name)
}

/** `ringfs up` in the background, with more users than one if that is allowed. */
export async function up(ringfs: Ringfs): Promise<void> {
  await ringfs.ok('up', '--detach')
}
