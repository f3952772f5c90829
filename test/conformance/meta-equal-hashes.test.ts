/** MetaStore where the hashes of almost all names are equal. */
import t from 'tap'
import { bytes, claim, makeDir, names, outcome, ROOT, touch, volumesOn } from '../helpers/meta.js'
import { inParallel } from '../helpers/meta-check.js'
import { startRedis } from '../helpers/redis.js'
import { SqueezedRedis } from '../helpers/squeezed-redis.js'
import { cursorClaims } from './meta-suite-cursors.js'
import { exchangeClaims } from './meta-suite-exchange.js'
import { listingClaims } from './meta-suite-listing.js'
import { nameClaims } from './meta-suite-names.js'
import { renameClaims } from './meta-suite-rename.js'

const MANY = 3_000

const redis = await startRedis(t)
const stores: SqueezedRedis[] = []
const open = volumesOn(t, redis, (store) => {
  const squeezed = new SqueezedRedis(store)
  stores.push(squeezed)
  return squeezed
})

cursorClaims(t, open)
exchangeClaims(t, open)
listingClaims(t, open, MANY)
nameClaims(t, open)
renameClaims(t, open)

claim(
  t,
  open,
  'thousands of names of one hash are told apart, and listed with one question a page',
  async (t, volume) => {
    const meta = await volume.client()
    const store = stores.at(-1)
    const dir = await makeDir(meta, ROOT, 'd')
    // Bytes above 0x7f too, names of which others are the beginning, and lengths of all kinds.
    const made = Array.from({ length: MANY }, (_, i) =>
      Buffer.from(`${'x'.repeat(i % 7)}${i % 2 === 0 ? '\xff' : ''}${i}`, 'latin1'),
    )
    await inParallel(made, async (name) => {
      await touch(meta, dir.ino, name)
    })
    const inos = new Map<string, number>()
    await inParallel(made, async (name) => {
      inos.set(name.toString('latin1'), (await meta.lookup(dir.ino, name)).ino)
    })
    t.equal(new Set(inos.values()).size, MANY)
    for (const other of ['x', 'xx', '\xff', '1x', '~', '']) {
      const code = other === '' ? 'ENOENT' : await outcome(meta.lookup(dir.ino, Buffer.from(other, 'latin1')))
      t.equal(code, 'ENOENT', `there is no ${other}`)
    }
    t.equal(await outcome(touch(meta, dir.ino, made[1_234] ?? bytes(''))), 'EEXIST')
    const before = store?.sent ?? 0
    const seen = await names(meta, dir.ino, 100)
    t.ok((store?.sent ?? Infinity) - before <= MANY / 100 + 5, 'one question a page')
    t.strictSame(seen.sort(), made.map((name) => name.toString('latin1')).sort())
    for (const [i, name] of made.entries()) if (i % 3 === 0) await meta.unlink(dir.ino, name)
    t.equal((await names(meta, dir.ino, 1_000)).length, MANY - MANY / 3)
    t.equal(await outcome(meta.lookup(dir.ino, made[3] ?? bytes(''))), 'ENOENT')
  },
)
