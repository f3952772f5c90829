/**
 * The metadata against itself, while others work on it.
 *
 * What looks wrong in one pass may be a change that was met half-way. It is judged by passes with witnesses: the records of the
 * inodes in question are read before a whole pass and after it. Every change of a name changes the records of its inode and of
 * its directory (their ctime), so where the records stayed the same, and no prepared transaction was about them, what that pass
 * counted is what there was. Where they did not, the next pass decides; after some there is only a note.
 */
import type { RedisStore } from '../cluster/contract.js'
import type { Extent } from '../meta/contract.js'
import type { VolumeKeys } from '../meta/keys.js'
import { decodeBody, type Inode } from '../meta/records.js'
import {
  areSame,
  inTransactions,
  readCounters,
  recordOf,
  scanPartition,
  witnessOf,
  type Counters,
} from '../meta/scan.js'
import { ROOT_INO } from '../base/limits.js'
import { messageOf } from '../base/errors.js'
import type { FindingKind, Severity } from './finding.js'

const PASSES_MAX = 4
const PARTITIONS_AT_ONCE = 8

interface Seen {
  readonly isDirectory: boolean
  readonly nlink: number
  readonly parent: number
  readonly hasBody: boolean
}

interface Place {
  readonly parent: number
  readonly name: Buffer
}

export interface ChunkUse {
  readonly ino: number
  readonly window: number
}

/** Something that looks wrong. */
export interface Suspect {
  readonly kind: FindingKind
  readonly severity: Severity
  readonly ino: number
  readonly text: string
  /** Inodes whose records must stay the same for it to count. */
  readonly witnesses: readonly number[]
  /** Of the inode, when it was found to be so: whoever mends it looks whether that is so still (witnessIn). */
  readonly witness?: string
  readonly nlink?: number
  readonly partition?: number
  readonly place?: Place
}

/** What one pass through everything saw. */
export class Pass {
  readonly inodes = new Map<number, Seen>()
  /** Chunk -> a window that names it. */
  readonly chunks = new Map<number, ChunkUse>()
  readonly #names = new Map<number, number>()
  readonly #subdirectories = new Map<number, number>()
  readonly #places = new Map<number, Place>()
  readonly #bodies = new Map<number, number>()
  readonly #dangling: { readonly place: Place; readonly ino: number }[] = []
  readonly #suspects: Suspect[] = []

  async run(store: RedisStore, keys: VolumeKeys, onProgress: (done: number, all: number) => void): Promise<void> {
    let next = 0
    let done = 0
    const lane = async (): Promise<void> => {
      while (next < keys.partitions) {
        await this.#partition(store, keys, next++)
        onProgress(++done, keys.partitions)
      }
    }
    await Promise.all(Array.from({ length: PARTITIONS_AT_ONCE }, lane))
  }

  async #partition(store: RedisStore, keys: VolumeKeys, p: number): Promise<void> {
    const sum = { inodes: 0, bytes: 0, inline: 0 }
    await scanPartition(store, keys, p, {
      inode: (ino, inode) => {
        sum.inodes++
        sum.bytes += inode.attr.allocatedBytes
        this.#inode(ino, inode)
      },
      unreadable: (ino, what, error) => this.#unreadable(ino, what, error),
      body: (ino, bytes) => {
        sum.inline += bytes.length
        this.#body(ino, bytes)
      },
      name: (parent, name, ino, isDirectory) => this.#name({ parent, name }, ino, isDirectory),
      extents: (ino, window, extents) => this.#extents(ino, window, extents),
    })
    const counted = await readCounters(store, keys, p)
    if (areSame(sum, counted)) return
    const text = `partition ${p} counts ${told(counted)}, and has ${told(sum)}`
    this.#suspects.push({ kind: 'counters', severity: 'wrong', ino: 0, text, witnesses: [], partition: p })
  }

  #inode(ino: number, { attr }: Inode): void {
    const { type, nlink, parent, hasBody } = attr
    this.inodes.set(ino, { isDirectory: type === 'directory', nlink, parent, hasBody })
  }

  #unreadable(ino: number, what: string, error: unknown): void {
    const text = `the ${what} of inode ${ino} cannot be read: ${messageOf(error)}`
    this.#suspects.push({ kind: 'unreadable', severity: 'lost', ino, text, witnesses: [ino] })
  }

  #body(ino: number, bytes: Buffer): void {
    this.#bodies.set(ino, bytes.length)
    try {
      decodeBody(ino, bytes)
    } catch (error) {
      this.#unreadable(ino, 'data', error)
    }
  }

  #name(place: Place, ino: number, isDirectory: boolean): void {
    this.#names.set(ino, (this.#names.get(ino) ?? 0) + 1)
    if (!isDirectory) {
      // The inode may be in a partition that is still to come.
      if (!this.inodes.has(ino)) this.#dangling.push({ place, ino })
      return
    }
    this.#subdirectories.set(place.parent, (this.#subdirectories.get(place.parent) ?? 0) + 1)
    this.#places.set(ino, place)
    if (!this.inodes.has(ino)) this.#dangling.push({ place, ino })
  }

  #extents(ino: number, window: number, extents: readonly Extent[]): void {
    for (const { chunk } of extents) if (chunk !== null) this.chunks.set(chunk.id, { ino, window })
  }

  /** For people; '?' where it is not known. */
  pathOf(ino: number): string {
    const parts: string[] = []
    for (let at = ino; at !== ROOT_INO && parts.length < 1000;) {
      const place = this.#places.get(at)
      if (place === undefined) return `?/${parts.join('/')}`
      parts.unshift(place.name.toString())
      at = place.parent
    }
    return `/${parts.join('/')}`
  }

  judge(): Suspect[] {
    const suspects = [...this.#suspects]
    for (const { place, ino } of this.#dangling) {
      if (this.inodes.has(ino)) continue
      const path = `${this.pathOf(place.parent)}/${place.name.toString()}`.replace('//', '/')
      const text = `${path} leads to inode ${ino}, which is not there: its attributes are lost; ringfs rebuild looks for its data`
      suspects.push({ kind: 'dangling-name', severity: 'lost', ino, text, witnesses: [place.parent], place })
    }
    for (const [ino, seen] of this.inodes) suspects.push(...this.#judgeInode(ino, seen))
    for (const ino of this.#bodies.keys()) {
      if (this.inodes.get(ino)?.hasBody === true) continue
      const text = `the metadata have bytes of inode ${ino}, whose record does not know of any`
      suspects.push({ kind: 'stray-body', severity: 'wrong', ino, text, witnesses: [ino] })
    }
    return suspects
  }

  *#judgeInode(ino: number, seen: Seen): Generator<Suspect> {
    const { isDirectory, nlink, parent, hasBody } = seen
    const names = this.#names.get(ino) ?? 0
    const isRoot = ino === ROOT_INO
    const what = isDirectory ? `directory ${this.pathOf(ino)} (inode ${ino})` : `inode ${ino}`
    const at = { severity: 'wrong', ino, witnesses: isDirectory ? [ino, parent] : [ino] } as const
    if (hasBody && !this.#bodies.has(ino)) {
      yield { ...at, kind: 'lost-body', severity: 'lost', text: `${what} has lost the bytes that were kept with it` }
    }
    if (names === 0 && !isRoot) {
      if (nlink === 0)
        yield { ...at, kind: 'leftover', severity: 'note', text: `${what} has no name and nobody has it open` }
      else yield { ...at, kind: 'nameless', text: `${what} has no name` }
      return
    }
    if (isDirectory && names > 1) yield { ...at, kind: 'two-names', text: `${what} has ${names} names` }
    const place = this.#places.get(ino)
    if (isDirectory && !isRoot && place !== undefined && place.parent !== parent) {
      yield {
        ...at,
        kind: 'wrong-parent',
        text: `${what} lies in inode ${place.parent} and says that it lies in ${parent}`,
      }
    }
    const expected = isDirectory ? 2 + (this.#subdirectories.get(ino) ?? 0) : names
    if (nlink !== expected) {
      const text = `${what} says that it has ${nlink} links, and has ${expected}`
      yield { ...at, kind: 'link-count', text, nlink: expected }
    }
  }
}

function told({ inodes, bytes, inline }: Counters): string {
  return `${inodes} inodes, ${bytes} bytes, ${inline} of them kept inline`
}

export interface TreeResult {
  readonly pass: Pass
  readonly findings: readonly Suspect[]
  /** Changed all the time while they were looked at. */
  readonly unjudged: number
}

export async function checkTree(
  store: RedisStore,
  keys: VolumeKeys,
  onProgress: (pass: number, done: number, all: number) => void,
): Promise<TreeResult> {
  const once = async (number: number): Promise<Pass> => {
    const pass = new Pass()
    await pass.run(store, keys, (done, all) => onProgress(number, done, all))
    return pass
  }
  let pass = await once(1)
  let open = pass.judge()
  const findings: Suspect[] = []
  for (let number = 2; open.length > 0 && number <= PASSES_MAX; number++) {
    const busyBefore = await inTransactions(store, keys)
    const before = await witnessesOf(store, keys, open)
    pass = await once(number)
    const judged = new Map(pass.judge().map((suspect) => [keyOf(suspect), suspect]))
    const again = open.flatMap((suspect) => judged.get(keyOf(suspect)) ?? [])
    const after = await witnessesOf(store, keys, again)
    const busy = new Set([...busyBefore, ...(await inTransactions(store, keys))])
    open = []
    for (const suspect of again) {
      const { witnesses, ino } = suspect
      const isStill =
        [ino, ...witnesses].every((one) => !busy.has(one)) &&
        witnesses.every((one) => before.get(one) === after.get(one))
      if (!(await isTrue(store, keys, suspect))) continue
      if (isStill) findings.push({ ...suspect, witness: after.get(ino) ?? '' })
      else open.push(suspect)
    }
  }
  return { pass, findings, unjudged: open.length }
}

/** The same thing, whatever its figures are now. Counters have no witnesses: they are told apart by their figures. */
function keyOf({ kind, ino, partition, place, text }: Suspect): string {
  const name = place === undefined ? '' : `${place.parent}/${place.name.toString('latin1')}`
  return kind === 'counters' ? `${kind} ${partition ?? 0}` : `${kind} ${ino} ${name} ${text}`
}

async function witnessesOf(
  store: RedisStore,
  keys: VolumeKeys,
  suspects: readonly Suspect[],
): Promise<ReadonlyMap<number, string>> {
  const inos = [...new Set(suspects.flatMap(({ witnesses }) => witnesses))]
  const records = await Promise.all(inos.map((ino) => witnessOf(store, keys, ino)))
  return new Map(inos.map((ino, at) => [ino, records[at] ?? '']))
}

/** What can be asked directly, is. false: all is well with it. */
async function isTrue(store: RedisStore, keys: VolumeKeys, { kind, ino, place }: Suspect): Promise<boolean> {
  if (kind === 'leftover') return (await store.call('HEXISTS', keys.of(ino).open, ino)) === 0
  if (kind !== 'dangling-name' || place === undefined) return true
  // A directory whose inode is still to be made (births.ts) is there.
  if ((await store.call('HEXISTS', keys.of(place.parent).locks, `b${ino}`)) === 1) return false
  return (await recordOf(store, keys, ino)) === null
}
