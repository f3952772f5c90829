/** Two mounts of one volume, caches on: nothing stale, whatever happens to one of them. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { twoMounts } from '../coherence/two-mounts.js'
import { compiled } from '../helpers/compiled.js'
import { within } from '../helpers/deadline.js'
import { FLAGS, FileCalls } from '../helpers/file-calls.js'
import { pause } from '../helpers/meta.js'
import { sh } from '../helpers/mount.js'

t.setTimeout(600_000)

const ROUNDS = 800
const PING_PONGS = 1_000
const GROWTHS = 300
const EAGER_ROUNDS = 400
const PLAY_DEADLINE_MS = 400_000
const SESSION_TTL_MS = 4_000
const LISTEN_MS = 600
const LISTEN_ROUNDS = 150
const COMMAND_DEADLINE_MS = 90_000

/** Reads the same bytes of an open file again when another file has come. */
const READER = `
  const { existsSync, openSync, readSync } = require('node:fs')
  const fd = openSync(process.argv[1], 'r')
  const bytes = Buffer.alloc(6)
  const read = () => process.stdout.write(bytes.subarray(0, readSync(fd, bytes, 0, 6, 0)))
  read()
  const timer = setInterval(() => {
    if (!existsSync(process.argv[2])) return
    clearInterval(timer)
    read()
  }, 50)`

/** One changes a file on one mount and reads it on both, each time by an open of its own; says how many steps agreed. */
const PING_PONG = `
  const fs = require('node:fs')
  const [steps, seed, ...mounts] = process.argv.slice(1)
  let state = Number(seed)
  const below = (n) => (state = (state * 48271) % 2147483647) % n
  const paths = mounts.map((mount) => mount + '/ping-pong')
  fs.writeFileSync(paths[0], '')
  paths.forEach((path) => fs.openSync(path, 'r'))
  let wanted = Buffer.alloc(0)
  const put = (at, bytes) => {
    const all = Buffer.alloc(Math.max(wanted.length, at + bytes.length))
    wanted.copy(all)
    bytes.copy(all, at)
    wanted = all
  }
  const change = (path) => {
    const kind = below(4)
    const bytes = Buffer.alloc(1 + below(1500), 97 + below(26))
    const fd = fs.openSync(path, kind === 0 ? 'a' : 'r+')
    if (kind === 0) fs.writeSync(fd, bytes), put(wanted.length, bytes)
    else if (kind === 1) {
      const size = below(9000)
      fs.ftruncateSync(fd, size)
      wanted = Buffer.concat([wanted, Buffer.alloc(9000)]).subarray(0, size)
    } else {
      const at = below(9000)
      fs.writeSync(fd, bytes, 0, bytes.length, at), put(at, bytes)
    }
    fs.closeSync(fd)
  }
  for (let step = 0; step < Number(steps); step++) {
    const here = below(2)
    change(paths[here])
    for (const path of [paths[1 - here], paths[here]]) {
      const fd = fs.openSync(path, 'r')
      // Appended to again and again, it may have become long; what is too much is to be seen.
      const seen = Buffer.alloc(wanted.length + 1000)
      const length = fs.readSync(fd, seen, 0, seen.length, 0)
      fs.closeSync(fd)
      if (seen.subarray(0, length).equals(wanted)) continue
      console.log('step ' + step + ': ' + length + ' bytes, wanted ' + wanted.length)
      process.exit(1)
    }
  }
  console.log('all of ' + steps)`

/** A program of its own, which may wait for the mount as long as it likes. Answers what it wrote until `deadline`. */
class Program {
  readonly #child
  /** Its end, and that of its output, which may come later. */
  readonly #closed: Promise<unknown>
  #output = ''

  constructor(t: Pick<Test, 'teardown'>, program: string, ...words: readonly string[]) {
    this.#child = spawn(program, words, { stdio: ['ignore', 'pipe', 'pipe'] })
    this.#child.stdout.on('data', (data: Buffer) => (this.#output += data.toString('latin1')))
    this.#child.stderr.on('data', (data: Buffer) => (this.#output += data.toString('latin1')))
    this.#closed = once(this.#child, 'close')
    t.teardown(() => this.#child.kill('SIGKILL'))
  }

  get output(): string {
    return this.#output
  }

  async end(deadlineMs = COMMAND_DEADLINE_MS): Promise<string> {
    await within(deadlineMs, this.#closed, 'the end of a program')
    return this.#output
  }
}

async function write(path: string, text: string): Promise<void> {
  await sh('sh', '-c', `printf %s ${text} > ${path}`)
}

/** Until B sees it: what is cached may lag a little. */
async function soon(t: Test, what: string, look: () => Promise<string>, wanted: string): Promise<void> {
  for (const until = Date.now() + COMMAND_DEADLINE_MS; ;) {
    const seen = await look().catch((error: unknown) => String(error))
    if (seen === wanted) break
    if (Date.now() > until) {
      t.equal(seen, wanted, what)
      return
    }
    await pause(10)
  }
  t.pass(what)
}

t.test('two mounts that nothing happens to', async (t) => {
  const { a, b } = await twoMounts(t)
  await t.test(
    'nothing that is opened on B is older than what A closed before, and what is cached follows',
    async (t) => {
      const player = fileURLToPath(new URL('../coherence/player.js', import.meta.url))
      const seed = Date.now() % 2 ** 31
      const words = [player, a.mountpoint, b.mountpoint, String(ROUNDS), String(seed)]
      const output = await new Program(t, process.execPath, ...words).end(PLAY_DEADLINE_MS)
      const told: unknown = JSON.parse(output.trim().split('\n').at(-1) ?? '')
      t.match(told, { rounds: ROUNDS, stale: [] }, `seed ${seed}`)
      t.comment(JSON.stringify(told))
    },
  )

  await t.test(
    'who opens a file that changed a moment ago reads all of it, whatever the kernel took its size for',
    async (t) => {
      const seed = 1 + (Date.now() % 2 ** 30)
      const words = ['-e', PING_PONG, String(PING_PONGS), String(seed), a.mountpoint, b.mountpoint]
      const output = await new Program(t, process.execPath, ...words).end(PLAY_DEADLINE_MS)
      t.equal(output, `all of ${PING_PONGS}\n`, `seed ${seed}`)
    },
  )

  await t.test('what is appended by who set O_APPEND later lies behind what another mount has appended', async (t) => {
    const [onA, onB] = [join(a.mountpoint, 'file'), join(b.mountpoint, 'file')]
    const calls = await FileCalls.start(t)
    await calls.ok('open', 0, onA, FLAGS.rdwr | FLAGS.creat, 0o644)
    await calls.ok('pwrite', 0, 0, 3, 97)
    await calls.ok('setfl', 0, FLAGS.append)
    let wanted = 'aaa'
    for (let round = 0; round < 20; round++) {
      await calls.ok('fsync', 0)
      await sh('sh', '-c', `printf b >> ${onB}`)
      await calls.ok('pwrite', 0, 0, 2, 99)
      wanted += 'bcc'
      // What the kernel put where it took the end to be is dropped a moment later.
      await soon(t, 'through A', () => sh('cat', onA), wanted)
      t.equal(await sh('cat', onB), wanted)
    }
  })

  await t.test('nor do sendfile and mappings end where such a file ended before', async (t) => {
    const program = await compiled('grow.c')
    const words = [join(a.mountpoint, 'grown'), join(b.mountpoint, 'grown'), String(GROWTHS)]
    t.equal(await new Program(t, program, ...words).end(PLAY_DEADLINE_MS), `all of ${GROWTHS}\n`)
  })
})

t.test('nor when files are opened by delegations that are recalled again and again', async (t) => {
  const { a, b } = await twoMounts(t, { eager: true })
  const player = fileURLToPath(new URL('../coherence/player.js', import.meta.url))
  const seed = Date.now() % 2 ** 31
  const words = [player, a.mountpoint, b.mountpoint, String(EAGER_ROUNDS), String(seed)]
  const output = await new Program(t, process.execPath, ...words).end(PLAY_DEADLINE_MS)
  t.match(JSON.parse(output.trim().split('\n').at(-1) ?? ''), { stale: [] }, `seed ${seed}`)
  b.signal('SIGTERM')
  await b.exited()
  const opens = Number(/delegations {"opens":(\d+)/.exec(b.output())?.[1])
  t.ok(opens > 0, `${opens} opens by delegations`)
})

t.test('nor where a mount listens only to what it has used a moment ago', async (t) => {
  const { a, b } = await twoMounts(t, { listenMs: LISTEN_MS })
  const [file, onB] = [join(a.mountpoint, 'file'), join(b.mountpoint, 'file')]
  const time = ['-d', '2026-01-01']
  for (const text of ['before', 'behind', 'beside']) {
    // Size and times are as they were.
    await write(file, text)
    await sh('touch', ...time, file)
    t.equal(await sh('cat', onB), text)
    await pause(3 * LISTEN_MS)
  }
  const player = fileURLToPath(new URL('../coherence/player.js', import.meta.url))
  const seed = Date.now() % 2 ** 31
  const words = [player, a.mountpoint, b.mountpoint, String(LISTEN_ROUNDS), String(seed), String(3 * LISTEN_MS)]
  const output = await new Program(t, process.execPath, ...words).end(PLAY_DEADLINE_MS)
  t.match(JSON.parse(output.trim().split('\n').at(-1) ?? ''), { stale: [] }, `seed ${seed}`)
})

t.test('a holder that is stopped keeps others waiting for a while, and then opens what they left', async (t) => {
  const { a, b } = await twoMounts(t, { eager: true })
  const [file, onB] = [join(a.mountpoint, 'file'), join(b.mountpoint, 'file')]
  await write(file, 'before')
  for (let i = 0; i < 20; i++) t.equal(await sh('cat', onB), 'before')
  b.signal('SIGSTOP')
  try {
    await write(file, 'after')
    const cat = new Program(t, 'cat', onB)
    await pause(200)
    t.equal(cat.output, '')
    b.signal('SIGCONT')
    t.equal(await cat.end(), 'after')
  } finally {
    b.signal('SIGCONT')
  }
})

t.test('a kernel whose mount process is stopped believes nothing beyond the lease', async (t) => {
  const { a, b } = await twoMounts(t, { sessionTtlMs: SESSION_TTL_MS })
  await write(join(a.mountpoint, 'file'), 'before')
  await write(join(a.mountpoint, 'gone'), 'x')
  const [onB, goneOnB] = [join(b.mountpoint, 'file'), join(b.mountpoint, 'gone')]
  t.equal(await sh('cat', onB), 'before')
  t.equal(await sh('stat', '-c', '%s %a', onB, goneOnB), '6 644\n1 644')
  b.signal('SIGSTOP')
  try {
    await write(join(a.mountpoint, 'file'), 'after-all')
    await sh('chmod', '600', join(a.mountpoint, 'file'))
    await sh('rm', join(a.mountpoint, 'gone'))
    await pause(SESSION_TTL_MS + 500)
    const stat = new Program(t, 'stat', '-c', '%s %a', onB)
    const cat = new Program(t, 'cat', onB)
    const gone = new Program(t, 'stat', '-c', '%s', goneOnB)
    await pause(500)
    t.same([stat.output, cat.output, gone.output], ['', '', ''], 'nobody is answered from what was known')
    b.signal('SIGCONT')
    t.equal(await stat.end(), '9 600\n')
    t.equal(await cat.end(), 'after-all')
    t.match(await gone.end(), /No such file/)
  } finally {
    b.signal('SIGCONT')
  }
})

t.test('a read through an open file sees the change, too, when its mount process was stopped', async (t) => {
  const { a, b } = await twoMounts(t, { sessionTtlMs: SESSION_TTL_MS })
  await write(join(a.mountpoint, 'file'), 'before')
  const reader = new Program(t, process.execPath, '-e', READER, join(b.mountpoint, 'file'), join(a.mountpoint, 'go'))
  await soon(t, 'it has read', () => Promise.resolve(reader.output), 'before')
  b.signal('SIGSTOP')
  try {
    await write(join(a.mountpoint, 'file'), 'after!')
    await pause(SESSION_TTL_MS + 500)
    await write(join(a.mountpoint, 'go'), '1')
    await pause(500)
    t.equal(reader.output, 'before')
  } finally {
    b.signal('SIGCONT')
  }
  t.equal(await reader.end(), 'beforeafter!')
})

t.test('a subscription that was cut leaves nothing stale', async (t) => {
  const { redis, a, b } = await twoMounts(t)
  const file = join(a.mountpoint, 'file')
  const onB = join(b.mountpoint, 'file')
  for (let round = 0; round < 10; round++) {
    await write(file, `${round}`.padStart(4))
    t.equal(await sh('cat', onB), `${round}`.padStart(4).trim())
    await sh('stat', onB)
    await redis.command(0, 'CLIENT', 'KILL', 'TYPE', 'pubsub')
    await write(file, `cut-${round}`)
    t.equal(await sh('cat', onB), `cut-${round}`)
    await sh('chmod', round % 2 === 0 ? '600' : '644', file)
    await soon(t, 'the mode', () => sh('stat', '-c', '%a', onB), round % 2 === 0 ? '600' : '644')
  }
})

t.test('a Redis that was killed and comes back leaves nothing stale', async (t) => {
  const { redis, a, b } = await twoMounts(t)
  const [file, onB] = [join(a.mountpoint, 'file'), join(b.mountpoint, 'file')]
  await write(file, 'before')
  t.equal(await sh('cat', onB), 'before')
  await sh('stat', onB, join(b.mountpoint, '.'))
  await redis.kill(0)
  const writer = new Program(t, 'sh', '-c', `printf after > ${file}`)
  await pause(300)
  await redis.restart(0)
  await writer.end()
  t.equal(await sh('cat', onB), 'after')
  await soon(t, 'the size', () => sh('stat', '-c', '%s', onB), '5')
})

t.test('a mount whose process is killed while a notification waits in the kernel is dead at once', async (t) => {
  const { a, b } = await twoMounts(t, {}, { delayMs: 1_500 })
  await sh('mkdir', join(a.mountpoint, 'd'))
  const names = Array.from({ length: 8 }, (_, index) => `n${index}`)
  for (const name of names) await write(join(a.mountpoint, 'd', name), 'x')
  await sh('ls', '-l', join(b.mountpoint, 'd'))
  const makers = names.map((name) => new Program(t, 'mkdir', join(b.mountpoint, 'd', `made-${name}`)))
  await pause(200)
  for (const name of names) await sh('rm', join(a.mountpoint, 'd', name))
  await pause(200)
  b.signal('SIGKILL')
  await b.exited()
  for (const maker of makers) t.match(await maker.end(), /abort|not connected|^$/i)
  const dead = new Program(t, 'stat', b.mountpoint)
  t.match(await dead.end(), /not connected/)
})
