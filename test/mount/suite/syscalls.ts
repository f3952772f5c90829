/** What the torture test found, and shells and node cannot ask for: single system calls, through its agent. */
import type { Test } from 'tap'
import { Agent, compileAgent, type Words } from '../../torture/agent.js'
import type { Suite } from './suite.js'

/** In the folder of the test, as root. Answers what a command answered, or its errno. */
async function agentIn(t: Test, root: string): Promise<(...words: Words) => Promise<string>> {
  const agent = new Agent(await compileAgent())
  t.teardown(() => agent.end())
  await agent.must(['cd', root])
  return async (...words) => (await agent.call(words)).text
}

const FUTURE = '9000000000000000000'

export const syscalls: readonly Suite[] = [
  {
    name: 'an open folder that was removed is still there for its descriptor, with no links',
    kernelOnly: true,
    async run(t, root) {
      const call = await agentIn(t, root)
      for (const removal of [
        ['rmdir', 'folder'],
        ['rename', 'other', 'folder', '-'],
      ]) {
        await call('mkdir', 'other', '755')
        await call('mkdir', 'folder', '700')
        await call('open', '1', 'folder', 'r,dir', '0')
        await call('fchmod', '1', '711')
        t.equal(await call(...removal), 'OK')
        t.equal(await call('fstat', '1'), 'OK dir 711 0:0 links=0')
        t.equal(await call('fchmod', '1', '750'), 'OK')
        t.equal(await call('fstat', '1'), 'OK dir 750 0:0 links=0')
        t.equal(await call('close', '1'), 'OK')
        await call('rmdir', 'other')
      }
    },
  },
  {
    name: 'who writes decides whether set-id bits go, not who opened',
    kernelOnly: true,
    async run(t, root) {
      const call = await agentIn(t, root)
      await call('chmod', '.', '777')
      await call('as', '1000', '1000')
      await call('open', '1', 'file', 'w,creat', '6755')
      await call('as', '0', '0')
      t.equal(await call('write', '1', '10', '1'), 'OK 10')
      t.equal(await call('sync', '1', 'full'), 'OK')
      t.match(await call('stat', 'file'), /^OK file 6755 /, 'root keeps them')
      await call('as', '1000', '1000')
      t.equal(await call('write', '1', '10', '1'), 'OK 10')
      t.match(await call('stat', 'file'), /^OK file 755 /)
    },
  },
  {
    name: 'chown that changes nothing takes set-id bits away',
    kernelOnly: true,
    async run(t, root) {
      const call = await agentIn(t, root)
      await call('chmod', '.', '777')
      await call('as', '1000', '1000')
      await call('open', '1', 'file', 'w,creat', '6755')
      t.equal(await call('fchown', '1', '-1', '-1'), 'OK')
      t.match(await call('stat', 'file'), /^OK file 755 /)
    },
  },
  {
    name: 'a write after utimes with a time in the future shows its own time at once, and fsync changes no time',
    kernelOnly: true,
    async run(t, root) {
      const call = await agentIn(t, root)
      await call('open', '1', 'file', 'w,creat', '644')
      t.equal(await call('futimens', '1', FUTURE, FUTURE), `OK a=${FUTURE} m=${FUTURE}`)
      await call('write', '1', '10', '1')
      const written = await call('ftimes', '1')
      t.notMatch(written.split(' ')[2], FUTURE)
      await call('sync', '1', 'full')
      t.equal(await call('ftimes', '1'), written)
    },
  },
  {
    name: 'removing an ACL that is not there succeeds, removing another attribute does not',
    kernelOnly: true,
    async run(t, root) {
      const call = await agentIn(t, root)
      t.equal(await call('rmx', '.', 'system.posix_acl_access'), 'OK')
      t.equal(await call('rmx', '.', 'system.posix_acl_default'), 'OK')
      t.equal(await call('rmx', '.', 'user.none'), 'ENODATA')
    },
  },
]
