/** Units for systemd, as the command makes them; systemd itself says whether they are right, where it is there. */
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { escapePath } from '../../src/main/systemd.js'
import { Ringfs, runIn } from '../helpers/ringfs.js'

t.setTimeout(600_000)

t.test('a service for a node and a mount unit', async (t) => {
  const ringfs = await Ringfs.in(t)
  const units = join(ringfs.folder, 'etc/systemd/system')
  await ringfs.ok('systemd', 'node', '--user', 'root', '--prefix', ringfs.folder)
  const where = join(ringfs.folder, 'a place-of mine')
  await mkdir(where)
  const source = 'redis://10.0.0.1:6379,10.0.0.2/home?password-file=/etc/100%25'
  await ringfs.ok('systemd', 'mount', source, where, '-o', 'noatime', '--prefix', ringfs.folder)

  const name = `${escapePath(where)}.mount`
  t.match(name, /a\\x20place\\x2dof\\x20mine\.mount$/)
  const mount = await readFile(join(units, name), 'utf8')
  t.match(mount, 'What=redis://10.0.0.1:6379,10.0.0.2/home?password-file=/etc/100%%25\n')
  t.match(mount, 'Options=_netdev,noatime\n')
  const node = await readFile(join(units, 'ringfs-node.service'), 'utf8')
  t.match(node, /^ExecStart=".*node" ".*ringfs\.js" node --data/m)
  t.match(node, /^LimitNICE=-10$/m, 'it has no capability to be served before others')
  t.match(node, /^ProtectSystem=strict$/m)
  t.match(node, /^SystemCallFilter=.*@pkey/m, 'V8 is killed at its start otherwise')

  const rebuild = await readFile(join(units, 'ringfs-rebuild.service'), 'utf8')
  t.match(rebuild, /^ExecStart=".*node" ".*ringfs\.js" rebuild --if-due$/m)
  t.match(rebuild, /^SuccessExitStatus=4 82$/m, 'there may be more; another machine is at it')

  const withPassword = ['systemd', 'mount', 'redis://:pw@h/v', where, '--prefix', ringfs.folder]
  t.match(await ringfs.run(...withPassword), { code: 2, stderr: /every user can read/ })
  t.match(await ringfs.run('systemd', 'mount', source, 'relative', '--prefix', ringfs.folder), { code: 2 })

  for (const file of ['ringfs-node.service', 'ringfs-rebuild.timer', name]) {
    const { code, stderr } = await runIn('/', 'systemd-analyze', ['verify', '--man=no', join(units, file)])
    // -1: it is not installed here.
    if (code !== -1) t.same([code, linesAbout(stderr)], [0, []], file)
  }
})

/** Of other units of the machine it says something, too. */
function linesAbout(text: string): readonly string[] {
  return text.split('\n').filter((line) => /ringfs/.test(line))
}

t.test('paths are escaped as systemd-escape does', async (t) => {
  for (const [path, escaped] of [
    ['/', '-'],
    ['/mnt/home', 'mnt-home'],
    ['//mnt//home/', 'mnt-home'],
    ['/.hidden/a.b', '\\x2ehidden-a.b'],
    ['/a-b/ü', 'a\\x2db-\\xc3\\xbc'],
  ] as const) {
    t.equal(escapePath(path), escaped)
    const { code, stdout } = await runIn('/', 'systemd-escape', ['--path', path])
    if (code !== -1) t.equal(stdout.trim(), escaped)
  }
})
