import t, { type Test } from 'tap'
import { silentLog } from '../../../src/base/log.js'
import { PathOps } from '../../../src/fuse/fuse-native/ops.js'
import { Session } from '../../../src/fuse/fuse-native/session.js'
import type { VfsContract } from '../../../src/vfs/contract.js'
import { MemoryVfs } from '../../helpers/memory-vfs.js'

const S_IFREG = 0o100000
const [ENOENT, EIO, EBADF, ERANGE, ENODATA, EOPNOTSUPP, EILSEQ] = [-2, -5, -9, -34, -61, -95, -84]

/** A session that is not mounted: its operations are called as fuse-native calls them. */
async function newSession(vfs: VfsContract = new MemoryVfs()): Promise<Session> {
  const session = new Session('/nowhere', '', new PathOps(vfs, { uid: 0, gid: 0, pid: 1 }, silentLog), silentLog)
  await answer((signal) => session._op_mknod(signal, '/a', S_IFREG | 0o644, 0))
  return session
}

type Signal = (result: number, ...values: readonly unknown[]) => void

/** The one answer. A second one is an error. */
async function answer(call: (signal: Signal) => void): Promise<readonly unknown[]> {
  const answers: (readonly unknown[])[] = []
  await new Promise<void>((resolve) => {
    call((...values) => {
      answers.push(values)
      resolve()
    })
  })
  await new Promise((resolve) => setImmediate(resolve))
  if (answers.length !== 1) throw new Error(`answered ${answers.length} times`)
  return answers[0] ?? []
}

async function openFile(session: Session): Promise<number> {
  const [result, fd] = await answer((signal) => session._op_open(signal, '/a', 2))
  if (result !== 0 || typeof fd !== 'number') throw new Error(`open: ${String(result)}`)
  return fd
}

async function setAttribute(session: Session, value: Buffer): Promise<void> {
  await answer((signal) => session._op_setxattr(signal, '/a', 'user.x', value, 0, 0))
}

t.test('reads and writes come back with the memory that is to be detached, failed or not', async (t) => {
  const session = await newSession()
  const fd = await openFile(session)
  const buffer = Buffer.from('abcdef')
  t.same(await answer((signal) => session._op_write(signal, '/a', fd, buffer, 6, 0, 0)), [6, 0, buffer.buffer])
  t.same(await answer((signal) => session._op_read(signal, '/a', fd, buffer, 6, 2, 0)), [4, 0, buffer.buffer])
  t.equal(buffer.toString(), 'cdefef')
  t.same(await answer((signal) => session._op_read(signal, '/a', 77, buffer, 6, 2, 0)), [EBADF, 0, buffer.buffer])
  t.same(await answer((signal) => session._op_write(signal, '/a', 77, buffer, 6, 2, 0)), [EBADF, 0, buffer.buffer])
})

t.test('a value that does not fit is ERANGE, and nothing is asked for its length', async (t) => {
  const session = await newSession()
  await setAttribute(session, Buffer.from('12345'))
  const get = async (length: number) => {
    const buffer = Buffer.alloc(length)
    const [result, memory] = await answer((signal) => session._op_getxattr(signal, '/a', 'user.x', buffer))
    t.equal(memory, buffer.buffer)
    return { result, text: buffer.toString() }
  }
  t.same(await get(0), { result: 5, text: '' })
  t.same(await get(4), { result: ERANGE, text: '\0\0\0\0' })
  t.same(await get(5), { result: 5, text: '12345' })
  const list = async (length: number) => {
    const [result] = await answer((signal) => session._op_listxattr(signal, '/a', Buffer.alloc(length)))
    return result
  }
  t.same([await list(0), await list(6), await list(7)], [7, ERANGE, 7])
})

t.test('attributes that would have no effect are not taken', async (t) => {
  const session = await newSession()
  const get = async (name: string) => {
    const [result] = await answer((signal) => session._op_getxattr(signal, '/a', name, Buffer.alloc(9)))
    return result
  }
  const set = async (name: string) => {
    const [result] = await answer((signal) => session._op_setxattr(signal, '/a', name, Buffer.alloc(9), 0, 0))
    return result
  }
  t.same([await get('security.capability'), await set('security.capability')], [ENODATA, EOPNOTSUPP])
  t.same([await get('system.posix_acl_access'), await set('system.posix_acl_default')], [EOPNOTSUPP, EOPNOTSUPP])
})

t.test('a VFS that throws at once, or rejects with a defect, is EIO', async (t) => {
  const throwing = (): never => {
    throw new Error('defect')
  }
  const rejecting = (): Promise<never> => Promise.reject(new Error('defect'))
  for (const statfs of [throwing, rejecting]) {
    const vfs = Object.assign(new MemoryVfs(), { statfs })
    const [result] = await answer((signal) => newOnes(vfs)._op_statfs(signal))
    t.equal(result, EIO)
  }
})

function newOnes(vfs: VfsContract): Session {
  return new Session('/nowhere', '', new PathOps(vfs, { uid: 0, gid: 0, pid: 1 }, silentLog), silentLog)
}

t.test('every other operation answers once, well or not', async (t) => {
  const session = await newSession()
  const fd = await openFile(session)
  const calls: [expected: number, call: (signal: Signal) => void][] = [
    [0, (signal) => session._op_statfs(signal)],
    [0, (signal) => session._op_getattr(signal, '/')],
    [ENOENT, (signal) => session._op_getattr(signal, '/none')],
    [EILSEQ, (signal) => session._op_getattr(signal, '/\ufffd')],
    [0, (signal) => session._op_fgetattr(signal, '/a', fd)],
    [0, (signal) => session._op_chmod(signal, '/a', 0o600)],
    [0, (signal) => session._op_chown(signal, '/a', 1, 1)],
    [0, (signal) => session._op_utimens(signal, '/a', 0, 0)],
    [0, (signal) => session._op_truncate(signal, '/a', 0, 1)],
    [0, (signal) => session._op_ftruncate(signal, '/a', fd, 5, 0)],
    [0, (signal) => session._op_fsync(signal, '/a', 1, fd)],
    [0, (signal) => session._op_flush(signal, '/a', fd)],
    [0, (signal) => session._op_symlink(signal, 'target', '/s')],
    [0, (signal) => session._op_readlink(signal, '/s')],
    [ENOENT, (signal) => session._op_readlink(signal, '/none')],
    [0, (signal) => session._op_mkdir(signal, '/d', 0o755)],
    [0, (signal) => session._op_readdir(signal, '/d')],
    [0, (signal) => session._op_fsyncdir(signal, '/d')],
    [0, (signal) => session._op_rmdir(signal, '/d')],
    [0, (signal) => session._op_link(signal, '/a', '/b')],
    [0, (signal) => session._op_rename(signal, '/b', '/c')],
    [0, (signal) => session._op_unlink(signal, '/c')],
    [ENODATA, (signal) => session._op_removexattr(signal, '/a', 'user.none')],
    [0, (signal) => session._op_release(signal, '/a', fd)],
    [EBADF, (signal) => session._op_release(signal, '/a', fd)],
  ]
  for (const [expected, call] of calls) await answersWith(t, expected, call)
})

async function answersWith(t: Test, expected: number, call: (signal: Signal) => void): Promise<void> {
  const [result] = await answer(call)
  t.equal(result, expected, String(call))
}
