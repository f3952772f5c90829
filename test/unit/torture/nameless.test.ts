/** The one thing that a mount may answer otherwise than the local disk: of a pipe that is open and has no name. */
import t from 'tap'
import { Agent, compileAgent } from '../../torture/agent.js'
import { isNameless } from '../../torture/nameless.js'

const said = (text: string) => ({ text, isOk: false, lines: [], own: [] })

t.test('a pipe that is open may be gone with its last name; what has a name, and files, may not', async (t) => {
  const folder = t.testdir()
  const oracle = new Agent(await compileAgent())
  t.teardown(() => oracle.end())
  await oracle.must(['cd', folder])
  await oracle.must(['mknod', 'pipe', 'fifo', '644', '0', '0'])
  await oracle.must(['open', '0', 'pipe', 'r,nonblock', '644'])
  await oracle.must(['open', '1', 'file', 'rw,creat', '644'])
  await oracle.must(['unlink', 'file'])
  t.notOk(await isNameless(oracle, ['fstat', '0'], said('ESTALE')), 'it has its name')
  await oracle.must(['unlink', 'pipe'])
  t.ok(await isNameless(oracle, ['fstat', '0'], said('ESTALE')))
  t.ok(await isNameless(oracle, ['fchmod', '0', '600'], said('ENOENT')))
  t.notOk(await isNameless(oracle, ['fstat', '0'], said('EIO')))
  t.notOk(await isNameless(oracle, ['read', '0', '1'], said('ESTALE')))
  t.notOk(await isNameless(oracle, ['fstat', '1'], said('ESTALE')), 'a file')
})
