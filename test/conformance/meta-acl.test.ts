/** ACLs of both stores: the real one and the double, which is the model in a comparison over random changes. */
import fc from 'fast-check'
import t from 'tap'
import type { MetaStore } from '../../src/meta/contract.js'
import { ACCESS, DEFAULT, aclOf, anyAcl, textOf } from '../helpers/acls.js'
import { MemoryVolume } from '../helpers/memory-meta.js'
import { ROOT, bytes, claim, newFile, outcome, volumesOn } from '../helpers/meta.js'
import { propertyRun } from '../helpers/property.js'
import { startRedis } from '../helpers/redis.js'
import { aclClaims } from './meta-suite-acl.js'

const redis = await startRedis(t)
const open = volumesOn(t, redis)

aclClaims((name, body) => {
  claim(t, open, `Redis: ${name}`, (t, volume) => body(t, (options) => volume.client(options)))
  void t.test(`double: ${name}`, async (t) => {
    const volume = new MemoryVolume()
    await body(t, () => Promise.resolve(volume.open()))
  })
})

interface Making {
  readonly kind: 'create' | 'mkdir'
  readonly in: string
  readonly as: string
  readonly mode: number
  readonly umask: number
}

type Change =
  | Making
  | { readonly kind: 'chmod'; readonly of: string; readonly mode: number }
  | { readonly kind: 'acl'; readonly of: string; readonly name: Buffer; readonly acl: string }
  | { readonly kind: 'remove'; readonly of: string; readonly name: Buffer }

/** Few names, so that changes meet. */
const place = fc.constantFrom('', 'a', 'b')
const child = fc.constantFrom('a', 'b', 'c', 'd')
const mode = fc.nat({ max: 0o7777 })
const umask = fc.constantFrom(0, 0o022, 0o027, 0o077, 0o777)
const name = fc.constantFrom(ACCESS, DEFAULT)
const change: fc.Arbitrary<Change> = fc.oneof(
  fc.record({ kind: fc.constantFrom('create' as const, 'mkdir' as const), in: place, as: child, mode, umask }),
  fc.record({ kind: fc.constant('chmod' as const), of: child, mode }),
  fc.record({ kind: fc.constant('acl' as const), of: place, name, acl: anyAcl }),
  fc.record({ kind: fc.constant('remove' as const), of: place, name }),
)

/** One store under changes that name inodes by the names that they were first given. */
class Side {
  readonly #meta: MetaStore
  readonly #inos: Map<string, number>

  constructor(meta: MetaStore, root: number) {
    this.#meta = meta
    this.#inos = new Map([['', root]])
  }

  async apply(one: Change): Promise<string> {
    if ('as' in one) return outcome(this.#make(one))
    const ino = this.#inos.get(one.of)
    if (ino === undefined) return 'no such inode'
    if (one.kind === 'chmod') return outcome(this.#meta.setattr(ino, { mode: one.mode }))
    if (one.kind === 'remove') return outcome(this.#meta.removexattr(ino, one.name))
    return outcome(this.#meta.setxattr(ino, one.name, aclOf(one.acl), 'any'))
  }

  async #make(one: Making): Promise<void> {
    const parent = this.#inos.get(one.in) ?? ROOT
    const inode = newFile({ mode: one.mode, umask: one.umask })
    const options = { exclusive: true, open: false }
    const { ino } =
      one.kind === 'mkdir'
        ? await this.#meta.mkdir(parent, bytes(one.as), one.mode, 1, 1, one.umask)
        : (await this.#meta.create(parent, bytes(one.as), inode, options)).attr
    if (!this.#inos.has(one.as)) this.#inos.set(one.as, ino)
  }

  async describe(): Promise<readonly string[]> {
    return Promise.all(
      [...this.#inos].map(async ([path, ino]) => {
        const attr = await this.#meta.getattr(ino)
        const acl = (which: Buffer): Promise<string> => this.#meta.getxattr(ino, which).then(textOf, String)
        return `${path} ${attr.mode.toString(8)} ${attr.hasXattrs} ${await acl(ACCESS)} ${await acl(DEFAULT)}`
      }),
    )
  }
}

void t.test('random changes of modes and ACLs leave what the model has', { timeout: 300_000 }, async (t) => {
  const volume = await open()
  const clients = [await volume.client(), await volume.client()]
  const model = new MemoryVolume().open()
  let folder = 0
  const run = propertyRun(t, 40)
  const property = fc.asyncProperty(fc.array(change, { minLength: 5, maxLength: 30 }), async (changes) => {
    const made = bytes(`run${folder++}`)
    const root = async (meta: MetaStore): Promise<number> => (await meta.mkdir(ROOT, made, 0o755, 0, 0)).ino
    const [meta = model] = [clients[folder % 2]]
    const sides = [new Side(meta, await root(meta)), new Side(model, await root(model))]
    for (const one of changes) {
      const [actual, expected] = [await sides[0]?.apply(one), await sides[1]?.apply(one)]
      if (actual !== expected) throw new Error(`${JSON.stringify(one)}: ${actual}, the model says ${expected}`)
    }
    const trees = await Promise.all(sides.map((side) => side.describe()))
    if (String(trees[0]) !== String(trees[1])) throw new Error(trees.map((lines) => lines.join('\n')).join('\n\n'))
  })
  await fc.assert(property, run)
})
