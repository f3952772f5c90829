/**
 * Requests as a kernel (Linux 6.18, protocol 7.45) sent them for the calls of test/fixtures/fuse-requests.py, given to the
 * protocol without a kernel. Recorded anew with test/helpers/fuse-capture.ts.
 */
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { silentLog } from '../../../src/base/log.js'
import { BY_CODE, OPCODES } from '../../../src/fuse/kernel/opcodes.js'
import { FuseServer } from '../../../src/fuse/kernel/server.js'
import { openBackend } from '../../helpers/mount-backend.js'

const FIXTURE = fileURLToPath(new URL('../../../../test/fixtures/fuse-requests.jsonl', import.meta.url))
const OUT_HEADER_BYTES = 16
/** Sent by the kernel only in circumstances that one program cannot make, or obsolete. */
const NEVER_CAPTURED: ReadonlySet<string> = new Set([
  'rename',
  'readdir',
  'destroy',
  'interrupt',
  'setlkw',
  'forget',
  'batchForget',
  // Linux sends it for virtiofs only.
  'syncfs',
])
/** Answers without times and counts that differ from run to run: the same byte for byte. */
const EXACT: ReadonlySet<string> = new Set([
  ...[
    'readlink',
    'read',
    'write',
    'open',
    'opendir',
    'getxattr',
    'listxattr',
    'lseek',
    'copyFileRange',
    'getlk',
    'init',
  ],
])

interface Captured {
  readonly name: string
  readonly request: Buffer
  readonly answer: Buffer | null
}

async function captured(): Promise<Captured[]> {
  const lines = (await readFile(FIXTURE, 'utf8')).trimEnd().split('\n')
  return lines.map((line) => {
    const { in: request, out } = JSON.parse(line) as { in: string; out: string }
    const bytes = Buffer.from(request, 'hex')
    const name = BY_CODE.get(bytes.readUInt32LE(4))?.name ?? 'unknown'
    return { name, request: bytes, answer: out === '' ? null : Buffer.from(out, 'hex') }
  })
}

t.test('what a kernel asked is answered as it was answered then', { timeout: 300_000 }, async (t) => {
  const all = await captured()
  const backend = await openBackend('vfs', silentLog)
  const answers: Buffer[] = []
  const server = new FuseServer({
    vfs: backend.vfs,
    log: silentLog,
    send: (parts) => answers.push(Buffer.concat(parts)),
    onRefused: () => void t.fail('refused'),
  })
  for (const [at, { name, request, answer }] of all.entries()) {
    answers.length = 0
    await server.handle(Buffer.from(request))
    const label = `request ${at}, ${name}`
    if (answer === null) {
      t.same(answers, [], `${label}: no answer is wanted`)
      continue
    }
    const [got, ...more] = answers
    if (got === undefined || more.length > 0) return t.fail(`${label}: ${answers.length} answers`)
    t.same(got.subarray(8, OUT_HEADER_BYTES), answer.subarray(8, OUT_HEADER_BYTES), `${label}: to this request`)
    t.equal(got.readInt32LE(4), answer.readInt32LE(4), `${label}: errno`)
    t.equal(got.length, answer.length, `${label}: length`)
    if (EXACT.has(name)) t.same(got, answer, `${label}: bytes`)
  }
  await server.end()
  t.match(await backend.close(), /^0 open handles/)
})

t.test('every opcode of the table was captured, but for a few that one program cannot cause', async (t) => {
  const seen = new Set((await captured()).map(({ name }) => name))
  const missing = OPCODES.map(({ name }) => name).filter((name) => !seen.has(name) && !NEVER_CAPTURED.has(name))
  t.same(missing, [])
})
