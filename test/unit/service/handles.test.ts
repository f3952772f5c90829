import t from 'tap'
import { PosixError } from '../../../src/base/errno.js'
import { HandleTable, type OpenHandle } from '../../../src/service/handles.js'

const file = (handle: number): { open: OpenHandle } => ({ open: { kind: 'file', handle, ino: 2, flags: 0 } })

function table(limit = 10) {
  const released: number[] = []
  let last = 100
  const handles = new HandleTable(
    limit,
    () => ++last,
    async ({ handle }) => {
      released.push(handle)
    },
  )
  return { handles, released }
}

t.test('a handle closed while in use is found no more, and released once, after its last use', async (t) => {
  const { handles, released } = table()
  const { id } = await handles.add(async () => file(1))
  let end = (): void => undefined
  const using = handles.use(id, 'file', () => new Promise<void>((resolve) => (end = resolve)))
  const closing = handles.close(id)
  await t.rejects(
    handles.use(id, 'file', async () => undefined),
    { code: 'EBADF' },
  )
  await t.rejects(handles.close(id), { code: 'EBADF' })
  t.same(released, [])
  end()
  await using
  await closing
  t.same(released, [1])
})

t.test('what is opened while the connection ends is released', async (t) => {
  const { handles, released } = table()
  let opened = (): void => undefined
  const adding = handles.add(async () => {
    await new Promise<void>((resolve) => (opened = resolve))
    return file(7)
  })
  await handles.closeAll(() => t.fail('no error'))
  opened()
  await t.rejects(adding, { code: 'CONNECTION_LOST' })
  t.same(released, [7])
})

t.test('the limit counts what is being opened, and a failed open gives its place back', async (t) => {
  const { handles } = table(1)
  const failing = handles.add(() => Promise.reject(new PosixError('ENOENT')))
  await t.rejects(
    handles.add(async () => file(1)),
    { code: 'EMFILE' },
  )
  await t.rejects(failing, { code: 'ENOENT' })
  const { id } = await handles.add(async () => file(1))
  await t.rejects(
    handles.use(id, 'directory', async () => undefined),
    { code: 'ENOTDIR' },
  )
})
