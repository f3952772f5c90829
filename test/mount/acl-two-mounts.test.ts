/** Rights on two mounts of one volume: what is changed on one counts on the other, and no race gets anybody past them. */
import { chmod, mkdir, stat, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { until } from '../helpers/meta.js'
import { mountTest, sh } from '../helpers/mount.js'
import { startRedis } from '../helpers/redis.js'

t.setTimeout(600_000)

const RACES = 150
const FIRST = 1000
const SECOND = 1001

async function twoMounts(t: Test): Promise<readonly [string, string]> {
  const redis = await startRedis(t)
  const mount = async (): Promise<string> => {
    const { mountpoint } = await mountTest(t, { driver: 'kernel', backend: redis.urlText('mounted') })
    return mountpoint
  }
  return [await mount(), await mount()]
}

/** Answers what the script said; its failure is not one of the test. Files may be opened only: each mount has its own chunks. */
function as(uid: number, folder: string, script: string): Promise<string> {
  const user = [
    'setpriv',
    `--reuid=${uid}`,
    `--regid=${uid}`,
    '--clear-groups',
    'sh',
    '-c',
    `{ ${script}; } 2>&1 || true`,
  ]
  return sh('sh', '-c', 'cd "$0" && exec "$@"', folder, ...user)
}

t.test('rights given and taken on one mount count on the other', async (t) => {
  const [one, two] = await twoMounts(t)
  await mkdir(join(one, 'd'), { mode: 0o755 })
  await writeFile(join(one, 'd/file'), 'secret', { mode: 0o600 })
  const reads = (): Promise<string> => as(FIRST, join(two, 'd'), 'true < file && echo open')
  const isDenied = async (): Promise<boolean> => /Permission denied/.test(await reads())
  t.ok(await isDenied())
  for (let i = 0; i < 3; i++) {
    await sh('setfacl', '-m', 'u:1000:r', join(one, 'd/file'))
    await until('the right is known', async () => (await reads()) === 'open')
    await sh('setfacl', '-b', join(one, 'd/file'))
    await until('it is gone', isDenied)
  }
  await sh('setfacl', '-d', '-m', 'u:1000:rw', join(one, 'd'))
  await until('the default ACL is known', async () =>
    /default:user:1000/.test(await sh('getfacl', '-n', join(two, 'd'))),
  )
  await sh('sh', '-c', 'umask 077; true > "$0"', join(two, 'd/new'))
  t.equal(await as(FIRST, join(one, 'd'), 'true >> new && echo open'), 'open')
})

t.test('of two users who make the same file on two mounts, one has it and the other is denied', async (t) => {
  const [one, two] = await twoMounts(t)
  const folder = join(one, 'd')
  await mkdir(folder)
  await chmod(folder, 0o777)
  const script = (name: string): string =>
    `umask 077; i=0; while [ $i -lt ${RACES} ]; do true >> f$i && echo ${name} has $i; i=$((i+1)); done`
  const said = await Promise.all([as(FIRST, folder, script('first')), as(SECOND, join(two, 'd'), script('second'))])
  const lines = said.flatMap((text) => text.split('\n'))
  const [had, denied] = [lines.filter((line) => line.includes(' has ')), lines.filter((line) => /denied/.test(line))]
  t.same([had.length, denied.length, lines.length], [RACES, RACES, 2 * RACES])
  const uids = new Map([
    ['first', FIRST],
    ['second', SECOND],
  ])
  for (const line of had) {
    const [name = '', , index] = line.split(' ')
    t.equal((await stat(join(folder, `f${index}`))).uid, uids.get(name), line)
  }
})

/** None of these looks at the file first, as chmod(1) does: the kernel would know then. */
const CHANGES = {
  fchmod: 'fs.fchmodSync(3, 0o4755)',
  futimes: 'fs.futimesSync(3, 1, 1)',
  fchown: `fs.fchownSync(3, ${FIRST}, ${SECOND})`,
}
/** Opens the file, has it given to `$3` on the other mount, waits until that is known, and has the user change it. */
const GIVEN_AWAY = `
  exec 3<"$1/$2"; [ -e "$1/$2-given" ]
  chown "$3" "$0/$2"; touch "$0/$2-given"
  while ! [ -e "$1/$2-given" ]; do sleep 0.02; done
  shift 3; "$@" 2>&1 || true`

t.test('who owned a file until it was given away on the other mount changes no rights of it', async (t) => {
  const [one, two] = await twoMounts(t)
  const user = ['setpriv', `--reuid=${FIRST}`, `--regid=${FIRST}`, `--groups=${SECOND}`]
  for (const [name, change] of Object.entries(CHANGES)) {
    await writeFile(join(one, name), 'mine')
    await sh('chown', `${FIRST}:${FIRST}`, join(one, name))
    await until('the owner is known', async () => (await stat(join(two, name))).uid === FIRST)
    const said = await sh('sh', '-c', GIVEN_AWAY, one, two, name, '0:0', ...user, process.execPath, '-e', change)
    t.match(said, /EPERM/, name)
    const { mode, uid, gid, mtimeMs } = await stat(join(one, name))
    t.same([mode, uid, gid], [0o100644, 0, 0], name)
    t.ok(mtimeMs > 1_000, name)
  }
})

t.test('nor does he set its times to now, or give it the set-gid bit of a group that it got there', async (t) => {
  const [one, two] = await twoMounts(t)
  const user = ['setpriv', `--reuid=${FIRST}`, `--regid=${FIRST}`, '--clear-groups']
  const after = async (name: string, given: string, ...change: readonly string[]): Promise<string> => {
    await writeFile(join(one, name), 'mine')
    await sh('chown', `${FIRST}:${FIRST}`, join(one, name))
    await utimes(join(one, name), 1, 1)
    await until('the owner is known', async () => (await stat(join(two, name))).uid === FIRST)
    return await sh('sh', '-c', GIVEN_AWAY, one, two, name, given, ...user, ...change)
  }
  // Of standard output, without a path on which the kernel would look.
  t.match(await after('touch', '0:0', 'sh', '-c', 'touch - >&3'), /denied/i)
  t.equal((await stat(join(one, 'touch'))).mtimeMs, 1_000)
  t.equal(await after('chmod', `${FIRST}:0`, process.execPath, '-e', 'fs.fchmodSync(3, 0o2755)'), '')
  t.match(await stat(join(one, 'chmod')), { mode: 0o100755, uid: FIRST, gid: 0 })
})

t.test('nor does he in a user namespace of his own, where he has all capabilities', async (t) => {
  const [one, two] = await twoMounts(t)
  const user = ['setpriv', `--reuid=${FIRST}`, `--regid=${FIRST}`, '--clear-groups', 'unshare', '-Ur']
  for (const name of ['fchmod', 'futimes'] as const) {
    await writeFile(join(one, name), 'mine')
    await sh('chown', `${FIRST}:${FIRST}`, join(one, name))
    await until('the owner is known', async () => (await stat(join(two, name))).uid === FIRST)
    const said = await sh('sh', '-c', GIVEN_AWAY, one, two, name, '0:0', ...user, process.execPath, '-e', CHANGES[name])
    t.match(said, /EPERM/, name)
    t.equal((await stat(join(one, name))).mode, 0o100644, name)
  }
})

t.test('who owns a file, and who may act as its owner, changes its rights', async (t) => {
  const [one] = await twoMounts(t)
  for (const [name, change] of Object.entries(CHANGES)) {
    const file = join(one, name)
    await writeFile(file, 'mine')
    await sh('chown', `${FIRST}:${FIRST}`, file)
    const owner = [`--reuid=${FIRST}`, `--regid=${FIRST}`, `--groups=${SECOND}`]
    const capable = ['--reuid=1234', '--clear-groups', '--inh-caps=+fowner,+chown', '--ambient-caps=+fowner,+chown']
    for (const who of [owner, capable]) {
      const said = await sh(
        'sh',
        '-c',
        'exec 3<"$0"; "$@" 2>&1',
        file,
        'setpriv',
        ...who,
        process.execPath,
        '-e',
        change,
      )
      t.equal(said, '', `${name} as ${who.join(' ')}`)
    }
  }
})
