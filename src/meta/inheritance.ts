/** What a directory hands down to those made in it, as far as this client knows: a guess that the store checks. */
export interface Inheritance {
  /** Of a set-gid directory its group; null: it is none. */
  readonly gid: number | null
  /** As in its attribute; empty: it has none. */
  readonly defaultAcl: Buffer
}

const NOTHING: Inheritance = { gid: null, defaultAcl: Buffer.alloc(0) }
const NO_GROUP = 'none'
const SLASH = 0x2f
/** Directories known to hand something down. */
const KNOWN_MAX = 1024

/** A directory inherits what it hands down itself, so below the first one of a tree every guess is right. */
export class Inheritances {
  readonly #known = new Map<number, Inheritance>()

  of(parent: number): Inheritance {
    return this.#known.get(parent) ?? NOTHING
  }

  keep(ino: number, inheritance: Inheritance): void {
    if (inheritance.gid === null && inheritance.defaultAcl.length === 0) {
      this.#known.delete(ino)
      return
    }
    if (this.#known.size >= KNOWN_MAX) this.#known.clear()
    this.#known.set(ino, inheritance)
  }
}

/** The form of tx-commit.lua: the group or `none`, a slash, the default ACL. */
export function encodeInheritance({ gid, defaultAcl }: Inheritance): Buffer {
  return Buffer.concat([Buffer.from(`${gid ?? NO_GROUP}/`), defaultAcl])
}

export function decodeInheritance(bytes: Buffer): Inheritance {
  const cut = bytes.indexOf(SLASH)
  const group = bytes.toString('latin1', 0, cut)
  return { gid: group === NO_GROUP ? null : Number(group), defaultAcl: Buffer.from(bytes.subarray(cut + 1)) }
}
