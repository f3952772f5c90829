/** What the virtual machines get, as far as it can be told without one; the whole is `npm run test:vagrant`. */
import { spawnSync } from 'node:child_process'
import { access, mkdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { Ringfs, runIn, sh, type Ran } from '../helpers/ringfs.js'
import { Report } from '../vagrant/report.js'
import { makeTree } from '../vagrant/tree.js'
import { quoted, statesOf } from '../vagrant/machines.js'

t.setTimeout(600_000)

// Seen from dist/test/scenario.
const SCRIPTS = fileURLToPath(new URL('../../../scripts/vagrant/', import.meta.url))

function script(name: string, ...words: readonly string[]): Promise<Ran> {
  return runIn('/', 'bash', [join(SCRIPTS, name), ...words])
}

t.test('the packed tree is all that a machine needs beside Node', async (t) => {
  const { folder, env } = await Ringfs.in(t)
  const [packed, place] = [join(folder, 'tree.tar.gz'), join(folder, 'opt')]
  const { code, stderr } = await runIn('/', process.execPath, [join(SCRIPTS, 'pack.mjs'), packed])
  t.equal(code, 0, stderr)
  t.ok((await stat(packed)).size < 20 << 20, 'it is passed through an emulated network')
  await mkdir(place)
  await sh('tar', '-C', place, '-xzf', packed)
  const program = join(place, 'dist/src/main/ringfs.js')
  const { version } = JSON.parse(await readFile(join(place, 'package.json'), 'utf8')) as { version: string }
  t.same(await runIn(folder, process.execPath, [program, '--version'], env), {
    code: 0,
    stdout: `${version}\n`,
    stderr: '',
  })
  await access(join(place, 'native/build/Release/fuse_device.node'))
  await access(join(place, 'scripts/vagrant/guest/start.sh'))
  await t.rejects(access(join(place, 'node_modules/typescript')), 'nothing that only development needs')
})

t.test('scripts refuse what they do not understand, before they do anything', async (t) => {
  t.match(await script('make-box.sh', '--provider', 'vmware'), { code: 1, stderr: /unknown provider: vmware/ })
  t.match(await script('make-box.sh', '--out'), { code: 1, stderr: /--out needs a value/ })
  t.match(await script('make-box.sh', 'all'), { code: 1, stderr: /unknown word: all/ })
  t.match(await script('hand-over.sh', 'node1'), { code: 2, stderr: /usage/ })
  const install = (...words: readonly string[]): Promise<Ran> => script('guest/install.sh', ...words)
  t.match(await install('n', 'node', '10.0.0.1'), { code: 1, stderr: /usage/ })
  t.match(await install('N;', 'node', '10.0.0.1', '10.0.0.1'), { code: 1, stderr: /not the name of a machine/ })
  t.match(await install('n', 'server', '10.0.0.1', '10.0.0.1'), { code: 1, stderr: /not 'server'/ })
  t.match(await install('n', 'node', '10.0.0.1; rm', '10.0.0.1'), { code: 1, stderr: /is not an IPv4 address/ })
  t.match(await install('n', 'node', '10.0.0.9', '10.0.0.1,10.0.0.2'), { code: 1, stderr: /not one of the nodes/ })
  t.match(await install('n', 'client', '10.0.0.9', '10.0.0.1', '/nowhere'), { code: 1, stderr: /is not there: pack/ })
})

t.test('the tree that is copied in the machines agrees with its list', async (t) => {
  const { folder } = await Ringfs.in(t)
  const [one, again] = [await makeTree('seed'), await makeTree('seed')]
  t.equal(one.sums, again.sums, 'the same seed, the same tree')
  t.not(one.sums, (await makeTree('another')).sums)
  const check = `tar -xf - && sha256sum --quiet --check <(printf %s ${quoted(one.sums)}) && find . -type f | wc -l`
  const { stdout, stderr } = spawnSync('bash', ['-c', check], { cwd: folder, input: one.tar })
  t.equal(Number(stdout.toString()), one.files, stderr.toString())
})

t.test('which machines run is read from vagrant status', async (t) => {
  const text =
    '1,client,metadata,provider,libvirt\n1,client,state,running\n1,client,state-human-short,running\n1,node1,state,shutoff\n'
  t.strictSame(
    [...statesOf(text)],
    [
      ['client', 'running'],
      ['node1', 'shutoff'],
    ],
  )
})

t.test('the report ends with all that was found, and passes only when every step did', async (t) => {
  let nowMs = 0
  const out = new PassThrough({ encoding: 'utf8' })
  const report = new Report(out, () => nowMs)
  report.begin('machines run')
  report.found('three of them')
  nowMs = 90_000
  report.end(true)
  t.equal(out.read(), '[  0.0 min] machines run\n[  0.0 min]   three of them\n', 'told at once')
  const [ok, end] = ['ok: machines run\n  three of them\n', ', after 1.5 minutes\n']
  t.equal(report.text(true), `${ok}test:vagrant: passed${end}`)
  t.equal(report.text(false), `${ok}test:vagrant: FAILED${end}`, 'something failed outside of the steps')
  report.notTried('power')
  t.equal(report.text(true), `${ok}NOT TRIED: power\ntest:vagrant: passed as far as it was tried${end}`)
  report.begin('network')
  t.match(report.text(true), 'NOT FINISHED: network\ntest:vagrant: FAILED')
  report.end(false)
  t.match(report.text(true), 'FAILED: network\ntest:vagrant: FAILED')
})
