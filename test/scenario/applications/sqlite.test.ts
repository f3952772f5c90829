/** SQLite, on a mount that is killed in the middle, and on two mounts at once. */
import { spawn } from 'node:child_process'
import { mkdir } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { join } from 'node:path'
import t from 'tap'
import { z } from 'zod'
import { Ringfs } from '../../helpers/ringfs.js'
import { killUp } from '../../helpers/kill-up.js'
import { needs, newFolder, script, up } from './programs.js'

const ACKNOWLEDGED = 150
const STEPS = 40

/** Inserts 1, 2, 3, … each in a transaction of its own, until the mount is killed. Answers the last that was acknowledged. */
async function insertUntilKilled(ringfs: Ringfs, folder: string): Promise<number> {
  // The shell goes into the mount, not the fork in this process.
  const child = spawn('sh', ['-c', 'cd "$0" && exec sqlite3 -batch -bail db', folder], {
    env: ringfs.env,
    stdio: ['pipe', 'pipe', 'ignore'],
  })
  child.stdin.on('error', () => undefined)
  let acknowledged = 0
  let sent = 0
  const send = (): void => {
    sent++
    child.stdin.write(
      `INSERT INTO t(id, text) VALUES (${sent}, hex(randomblob(${(sent * 37) % 3000}))); SELECT ${sent};\n`,
    )
  }
  child.stdin.write('PRAGMA synchronous=FULL;\n')
  // More than one on the way: it is killed in the middle of one.
  for (let i = 0; i < 4; i++) send()
  for await (const line of createInterface({ input: child.stdout })) {
    acknowledged = Number(line)
    if (acknowledged === ACKNOWLEDGED) void killUp(ringfs)
    send()
  }
  return acknowledged
}

/** The processes that have a session of the volume now. */
async function sessionPids(ringfs: Ringfs): Promise<readonly number[]> {
  const status = z.object({ sessions: z.array(z.object({ pid: z.number() })) })
  return status.parse(JSON.parse(await ringfs.ok('status', '--json'))).sessions.map(({ pid }) => pid)
}

for (const mode of ['DELETE', 'WAL']) {
  t.test(`SQLite with journal_mode=${mode} keeps every acknowledged commit through kill -9 of up`, async (t) => {
    needs({ program: 'sqlite3', debian: 'sqlite3' })
    const ringfs = await Ringfs.in(t)
    await up(ringfs)
    const folder = await newFolder(ringfs, 'db')
    const made = await script(
      ringfs,
      folder,
      `sqlite3 db "PRAGMA journal_mode=${mode}; CREATE TABLE t(id INTEGER PRIMARY KEY, text)"`,
    )
    t.equal(made.trim(), mode.toLowerCase())
    const acknowledged = await insertUntilKilled(ringfs, folder)
    t.ok(acknowledged >= ACKNOWLEDGED, `${acknowledged} commits`)
    await up(ringfs)
    t.strictSame(await sessionPids(ringfs), [ringfs.runFile()?.pid], 'the killed one holds nothing any more')
    t.equal(await script(ringfs, folder, `sqlite3 db "BEGIN EXCLUSIVE; ROLLBACK; SELECT 'locked'"`), 'locked\n')
    t.equal(await script(ringfs, folder, 'sqlite3 db "PRAGMA integrity_check"'), 'ok\n')
    const [count = 0, max = 0] = (await script(ringfs, folder, 'sqlite3 db "SELECT count(*), max(id) FROM t"'))
      .split('|')
      .map(Number)
    t.equal(count, max, 'none is missing in between')
    t.ok(count >= acknowledged, `${count} of at least ${acknowledged}`)
    await script(ringfs, folder, 'sqlite3 db "INSERT INTO t(text) VALUES (1); VACUUM; PRAGMA integrity_check"')
    await ringfs.ok('down')
  })
}

t.test('two SQLite processes on two mounts count without losing a step', async (t) => {
  needs({ program: 'sqlite3', debian: 'sqlite3' })
  const ringfs = await Ringfs.in(t)
  await up(ringfs)
  const second = join(ringfs.folder, 'second')
  await mkdir(second)
  await ringfs.ok('mount', ringfs.runFile()?.metaUrl ?? '', second, '--detach')
  const folder = await newFolder(ringfs, 'shared')
  await script(ringfs, folder, 'sqlite3 db "CREATE TABLE n(value INTEGER); INSERT INTO n VALUES (0)"')
  const step = 'PRAGMA busy_timeout=50000; BEGIN IMMEDIATE; UPDATE n SET value = value + 1; COMMIT;'
  const count = `for i in $(seq ${STEPS}); do sqlite3 db "${step}" > /dev/null; done`
  await Promise.all([script(ringfs, folder, count), script(ringfs, join(second, 'shared'), count)])
  t.equal(
    await script(ringfs, folder, 'sqlite3 db "SELECT value FROM n; PRAGMA integrity_check"'),
    `${2 * STEPS}\nok\n`,
  )
  await ringfs.ok('umount', second)
  await ringfs.ok('down')
})
