/** put and get against a live volume, and what an interruption costs. */
import type { ChildProcess } from 'node:child_process'
import { chmod, mkdir, readdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { z } from 'zod'
import { MIB } from '../../src/base/limits.js'
import { Ringfs, sh } from '../helpers/ringfs.js'

const figures = z.object({ files: z.number(), bytes: z.number(), resumedBytes: z.number(), unchanged: z.number() })
const SIZE = 180_000_000
const SPARSE_BYTES = 500_000_000
/** Of a file so long 32 MiB are on disk for certain. */
const LONG_BYTES = 70_000_000

t.test('a put that is killed goes on where it was, and shows no half-made file meanwhile', async (t) => {
  const ringfs = await Ringfs.in(t)
  await ringfs.ok('up', '--detach')
  const original = join(ringfs.folder, 'original')
  await sh('sh', '-c', `head -c ${SIZE} /dev/urandom > ${original}`)
  const putting = ringfs.start('put', original, '/copy')
  await killedAt(putting, `find ${ringfs.mountpoint} -name '.ringfs-put-*' -printf '%s\\n'`, LONG_BYTES)
  t.notMatch(await ringfs.ok('ls', '/'), /copy/, 'the name is not there')
  const told = figures.parse(JSON.parse(await ringfs.ok('put', '--json', original, '/copy')))
  t.ok(told.resumedBytes >= 32 * MIB, `went on after ${told.resumedBytes} bytes`)
  t.equal(told.bytes + told.resumedBytes, SIZE)
  await sh('cmp', original, join(ringfs.mountpoint, 'copy'))
  t.equal(await ringfs.ok('ls', '--all', '/'), 'copy\n', 'nothing else is left')

  const back = join(ringfs.folder, 'back')
  const getting = ringfs.start('get', '/copy', back)
  await killedAt(getting, `find ${ringfs.folder} -maxdepth 1 -path '${back}.*' -printf '%s\\n'`, LONG_BYTES)
  t.notOk((await readdir(ringfs.folder)).includes('back'))
  const got = figures.parse(JSON.parse(await ringfs.ok('get', '--json', '/copy', back)))
  t.ok(got.resumedBytes >= 32 * MIB, `went on after ${got.resumedBytes} bytes`)
  await sh('cmp', original, back)
  await ringfs.ok('down')
})

t.test('holes stay holes on both ways, also of a get that goes on where it was', async (t) => {
  const ringfs = await Ringfs.in(t)
  await ringfs.ok('up', '--detach')
  const original = join(ringfs.folder, 'original')
  // Data at its beginning, 100 MB of it before a hole of 300 MB, one block behind that, and a hole at its end.
  await sh(
    'sh',
    '-c',
    `head -c 100000000 /dev/urandom > ${original}; truncate -s 400000000 ${original}; echo end >> ${original}`,
  )
  await sh('truncate', '-s', String(SPARSE_BYTES), original)
  await ringfs.ok('put', original, '/copy')
  const stored = await stat(join(ringfs.mountpoint, 'copy'))
  t.equal(stored.size, SPARSE_BYTES)
  t.ok(stored.blocks * 512 < 110_000_000, `${stored.blocks * 512} bytes are stored`)
  await sh('cmp', original, join(ringfs.mountpoint, 'copy'))

  const back = join(ringfs.folder, 'back')
  const getting = ringfs.start('get', '/copy', back)
  await killedAt(getting, `find ${ringfs.folder} -maxdepth 1 -path '${back}.*' -printf '%s\\n'`, LONG_BYTES)
  // As a power loss may leave it: what is not on disk for certain is anything.
  await sh(
    'sh',
    '-c',
    `for f in ${back}.*; do dd if=/dev/urandom of=$f bs=1M seek=$(($(stat -c %s $f) / 1048576 - 1)) count=40 conv=notrunc; done`,
  )
  const got = figures.parse(JSON.parse(await ringfs.ok('get', '--json', '/copy', back)))
  t.ok(got.resumedBytes >= 32 * MIB, `went on after ${got.resumedBytes} bytes`)
  await sh('cmp', original, back)
  const { blocks, size } = await stat(back)
  t.equal(size, SPARSE_BYTES)
  t.ok(blocks * 512 < 110_000_000, `${blocks * 512} bytes on the local disk`)
  await ringfs.ok('down')
})

/** Kills it when what `look` finds is so long. A loop of a shell: on a quick machine the rest is there a tenth of a second later. */
async function killedAt(child: ChildProcess, look: string, bytes: number): Promise<void> {
  const loop = `while kill -0 "$0" 2>/dev/null; do
      size=$(${look} 2>/dev/null | head -n 1)
      if [ "\${size:-0}" -gt ${bytes} ]; then kill -9 "$0"; exit; fi
      sleep 0.003
    done; echo 'it was over before' >&2; exit 1`
  await sh('sh', '-c', loop, String(child.pid ?? 0))
}

t.test('a tree goes in and comes out the same, over --data, META_URL and what runs here', async (t) => {
  const ringfs = await Ringfs.in(t)
  await ringfs.ok('up', '--detach')
  const metaUrl = ringfs.runFile()?.metaUrl ?? ''
  const tree = join(ringfs.folder, 'tree')
  await mkdir(join(tree, 'a', 'b'), { recursive: true })
  for (let number = 0; number < 40; number++) await writeFile(join(tree, 'a', `file-${number}`), `text ${number}\n`)
  await writeFile(join(tree, 'a', 'b', 'script'), '#!/bin/sh\n')
  await chmod(join(tree, 'a', 'b', 'script'), 0o755)
  await sh('ln', '-s', 'a/b', join(tree, 'link'))
  await ringfs.ok('mkdir', '-p', '/deep/er')
  await ringfs.ok('put', '-r', tree, '/deep/er')
  await ringfs.ok('put', '-r', '--data', ringfs.data, tree, '/second')
  await ringfs.ok('put', '-r', metaUrl, tree, '/third')
  for (const copy of ['deep/er/tree', 'second', 'third']) {
    await sh('diff', '-r', '--no-dereference', tree, join(ringfs.mountpoint, copy))
  }
  await ringfs.ok('get', '-r', '/third', join(ringfs.folder, 'out'))
  await sh('diff', '-r', '--no-dereference', tree, join(ringfs.folder, 'out'))
  await ringfs.ok('mv', '/second', '/renamed')
  t.match(await ringfs.ok('ls'), /renamed/)
  await ringfs.ok('rm', '-r', '/renamed', '/third')
  t.equal(await ringfs.ok('ls', metaUrl, '/'), 'deep\n')
  t.match(JSON.parse(await ringfs.ok('stat', '--json', '/deep')), Object)
  t.match(JSON.parse(await ringfs.ok('df', '--json')), { volume: 'ringfs', freeBytes: Number })
  await ringfs.ok('down')
})
