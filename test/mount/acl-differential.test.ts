/**
 * ACLs, modes and the umask under random changes by several users, on the mount and on a local folder: what each command
 * says, and the rights that are left, must be the same. A run is one shell script, so that it takes one process a command.
 */
import fc from 'fast-check'
import { chmod, mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { mountTest, sh, type TestMount } from '../helpers/mount.js'
import { propertyRun } from '../helpers/property.js'
import { startRedis } from '../helpers/redis.js'

const COMMANDS_MAX = 25
const TIMEOUT_MS = 120_000

t.setTimeout(4 * TIMEOUT_MS)

/** Few names, so that commands meet. `.` is the folder itself. */
const path = fc.constantFrom('a', 'b', 'd', 'd/a', 'd/e', 'd/e/a', '.')
const rights = fc.constantFrom('---', 'r--', 'rw-', 'r-x', 'rwx', '-wx', '--x')
const mode = fc.constantFrom('644', '600', '755', '770', '2775', '4711', '6755', '1777', '000', '2000')
const umask = fc.constantFrom('000', '022', '027', '077', '777')
const entry = fc
  .tuple(fc.constantFrom('u:1000', 'u:1001', 'g:1000', 'g:2000', 'u:', 'g:', 'm:', 'o:'), rights)
  .map(([who, what]) => `${who}:${what}`)
const entries = fc.uniqueArray(entry, { minLength: 1, maxLength: 4, selector: (text) => text.replace(/:[^:]*$/, '') })

/** Opening a fifo waits for its other end. */
const unlessFifo = (at: string): string => `[ -p ${at} ] ||`

const command = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.tuple(umask, path).map(([mask, at]) => `umask ${mask}; ${unlessFifo(at)} echo new >> ${at}`),
  },
  { weight: 3, arbitrary: fc.tuple(umask, path).map(([mask, at]) => `umask ${mask}; mkdir ${at}`) },
  { weight: 1, arbitrary: fc.tuple(umask, path).map(([mask, at]) => `umask ${mask}; mkfifo ${at}`) },
  { weight: 1, arbitrary: fc.tuple(umask, mode, path).map(([mask, m, at]) => `umask ${mask}; mkdir -m ${m} ${at}`) },
  { weight: 3, arbitrary: fc.tuple(mode, path).map(([m, at]) => `chmod ${m} ${at}`) },
  {
    weight: 2,
    arbitrary: fc.tuple(fc.constantFrom('g-w', 'g+s', 'o+r', 'u-x', 'a+x'), path).map((c) => `chmod ${c.join(' ')}`),
  },
  { weight: 4, arbitrary: fc.tuple(entries, path).map(([list, at]) => `setfacl -m ${list.join(',')} ${at}`) },
  { weight: 3, arbitrary: fc.tuple(entries, path).map(([list, at]) => `setfacl -d -m ${list.join(',')} ${at}`) },
  { weight: 2, arbitrary: fc.tuple(entries, path).map(([list, at]) => `setfacl -n -m ${list.join(',')} ${at}`) },
  {
    weight: 1,
    arbitrary: fc
      .tuple(fc.constantFrom('-b', '-k', '-x u:1000', '-x g:2000'), path)
      .map((c) => `setfacl ${c.join(' ')}`),
  },
  {
    weight: 2,
    arbitrary: fc.tuple(fc.constantFrom('1000', '1000:2000', ':2000', '0:0'), path).map((c) => `chown ${c.join(' ')}`),
  },
  { weight: 2, arbitrary: path.map((at) => `${unlessFifo(at)} : > ${at}`) },
  { weight: 1, arbitrary: path.map((at) => `${unlessFifo(at)} truncate -s 2 ${at}`) },
  { weight: 2, arbitrary: path.map((at) => `${unlessFifo(at)} cat ${at}`) },
  { weight: 1, arbitrary: fc.constantFrom('.', 'b', 'd').map((at) => `cp -a --remove-destination a ${at}/c`) },
  { weight: 1, arbitrary: path.map((at) => `rm -f ${at}`) },
)

/** Who: root, an owner, a named user, a stranger with a named group. */
const who = fc.constantFrom('', '', 'as 1000 1000 1000', 'as 1001 1001 1001', 'as 1002 1002 2000', 'as 1000 1000 2000')

const step = fc.tuple(who, command).map(([user, text]) => `${user === '' ? 'sh' : `${user} sh`} -c '${text}'`)

/** Found once. sgid where the group may not execute goes with a chown, a write and a cut by a stranger to the group. */
const FOUND = ['as 1000 1000 1000', 'as 1000 1000 2000'].map((user) =>
  ['chown 1000 a', 'echo new >> a', ': > a', 'truncate -s 1 a'].flatMap((change) => [
    'chmod 2644 a',
    `${user} sh -c '${change}'`,
    'stat -c %a a',
  ]),
)

const PRELUDE = `
as() { uid=$1; gid=$2; groups=$3; shift 3; setpriv --reuid=$uid --regid=$gid --groups=$groups "$@"; }
try() { echo "> $*"; "$@" </dev/null 2>&1; echo "= $?"; }
umask 022; cd "$0" || exit 1; mkdir d; echo one > a; chown 1000:2000 a d; chmod 2775 d
`
const EPILOGUE = `
find . | LC_ALL=C sort | while read -r at; do stat -c '%n %a %u:%g %F' "$at"; getfacl -n -c "$at" 2>&1; done
`

async function result(folder: string, steps: readonly string[]): Promise<string> {
  await mkdir(folder)
  await chmod(folder, 0o777)
  const script = [PRELUDE, ...steps.map((one) => `try ${one}`), EPILOGUE].join('\n')
  try {
    return await sh('sh', '-c', script, folder)
  } finally {
    await rm(folder, { recursive: true })
  }
}

async function check(t: Test, mountpoint: string, runs: number): Promise<void> {
  const local = await mkdtemp(join(tmpdir(), 'ringfs-acl-'))
  t.teardown(() => rm(local, { recursive: true, force: true }))
  let folder = 0
  const property = fc.asyncProperty(
    fc.array(step, { minLength: 5, maxLength: COMMANDS_MAX, size: 'max' }),
    async (steps) => {
      const name = String(folder++)
      const expected = (await result(join(local, name), steps)).split('\n')
      const actual = (await result(join(mountpoint, name), steps)).split('\n')
      const at = expected.findIndex((line, index) => line !== actual[index])
      if (at < 0 && expected.length === actual.length) return
      const show = (lines: readonly string[]): string => lines.slice(Math.max(0, at - 12), at + 12).join('\n')
      throw new Error(`on the disk:\n${show(expected)}\n\non the mount:\n${show(actual)}`)
    },
  )
  await fc.assert(property, {
    ...propertyRun(t, runs),
    examples: FOUND.map((steps) => [steps]),
    interruptAfterTimeLimit: TIMEOUT_MS,
  })
}

const MOUNTS: readonly (TestMount & { readonly runs: number })[] = [
  { driver: 'kernel', backend: 'vfs', runs: 20 },
  { driver: 'kernel', backend: 'memory', runs: 10 },
]

for (const { runs, ...mount } of MOUNTS) {
  t.test(`rights are on the mount what they are on a local disk: ${JSON.stringify(mount)}`, async (t) => {
    const { mountpoint } = await mountTest(t, mount)
    await check(t, mountpoint, runs)
  })
}

t.test('and with metadata in Redis', async (t) => {
  const redis = await startRedis(t)
  const { mountpoint } = await mountTest(t, { driver: 'kernel', backend: redis.urlText('mounted') })
  await check(t, mountpoint, 10)
})
