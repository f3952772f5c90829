/** /sbin/mount.ringfs, in a folder that stands for the root of the system. */
import { execFileSync, spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { installMountHelper, removeMountHelper } from '../../../src/main/install-helper.js'

function newPrefix(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'ringfs-helper-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

t.test('the helper is put in place, again over itself, and taken away', async (t) => {
  const prefix = newPrefix(t)
  const file = join(prefix, 'sbin/mount.ringfs')
  t.equal(installMountHelper(prefix), file)
  t.equal(installMountHelper(prefix), file)
  t.equal(statSync(file).mode & 0o777, 0o755)
  t.equal(readlinkSync(join(prefix, 'sbin/mount.fuse.ringfs')), 'mount.ringfs')
  t.equal(removeMountHelper(prefix), file)
  t.notOk(existsSync(file))
  t.same(execFileSync('ls', [join(prefix, 'sbin')], { encoding: 'utf8' }), '')
  t.throws(() => removeMountHelper(prefix), { code: 'NOT_RUNNING' })
})

t.test('the helper runs this program, without anything of the environment', async (t) => {
  const prefix = newPrefix(t)
  const { status, stderr } = spawnSync(installMountHelper(prefix), ['only-one'], { env: {}, encoding: 'utf8' })
  t.equal(status, 1)
  t.match(stderr, /^mount\.ringfs: usage: mount\.ringfs SOURCE DIR/)
})

t.test('after ringfs has moved, the helper says so', async (t) => {
  const file = installMountHelper(newPrefix(t))
  writeFileSync(file, readFileSync(file, 'utf8').replaceAll('mount-helper.js', 'elsewhere.js'))
  const { status, stderr } = spawnSync(file, ['a', 'b'], { encoding: 'utf8' })
  t.equal(status, 32)
  t.match(stderr, /install-mount-helper again/)
})

t.test("somebody else's mount.ringfs is neither replaced nor removed", async (t) => {
  const prefix = newPrefix(t)
  const file = join(prefix, 'sbin/mount.ringfs')
  mkdirSync(join(prefix, 'sbin'))
  writeFileSync(file, 'theirs')
  t.throws(() => installMountHelper(prefix), { code: 'USAGE', message: /not of ringfs/ })
  t.throws(() => removeMountHelper(prefix), { code: 'USAGE', message: /not of ringfs/ })
  t.equal(readFileSync(file, 'utf8'), 'theirs')
})
