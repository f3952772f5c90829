/** A namespace in memory, as simple as POSIX allows: the oracle for the metadata store. Inodes are objects. */
import type { Attr, InodeType, MetaStore } from '../../src/meta/contract.js'
import { ROOT, bytes, newFile, outcome } from './meta.js'

interface Node {
  readonly type: InodeType
  readonly names: Map<string, Node>
  nlink: number
  /** Of a directory. */
  parent: Node | undefined
}

/** Paths are lists of names below the root; `who` is the client that does it. */
export type NameOp = { readonly who: number } & (
  | { readonly kind: 'create' | 'mkdir' | 'unlink' | 'rmdir'; readonly path: readonly string[] }
  | {
      readonly kind: 'link' | 'rename' | 'move' | 'exchange'
      readonly path: readonly string[]
      readonly to: readonly string[]
    }
)

interface Place {
  readonly dir: Node
  readonly name: string
  readonly node: Node
}

class Refusal extends Error {}

function refuse(errno: string): never {
  throw new Refusal(errno)
}

function newNode(type: InodeType, parent?: Node): Node {
  return { type, names: new Map(), nlink: type === 'directory' ? 2 : 1, parent }
}

/** Or the same. */
function isAbove(node: Node, dir: Node): boolean {
  for (let at: Node | undefined = dir; at !== undefined; at = at.parent) if (at === node) return true
  return false
}

export class NameModel {
  readonly root = newNode('directory')

  /** The errno's name, or 'ok'. */
  apply(op: NameOp): string {
    try {
      this.#apply(op)
      return 'ok'
    } catch (error) {
      if (error instanceof Refusal) return error.message
      throw error
    }
  }

  #apply(op: NameOp): void {
    const [dir, name] = this.#place(op.path)
    if ('to' in op) this.#two(op.kind, dir, name, op.to)
    else if (op.kind === 'create') this.#add(dir, name, newNode('file'))
    else if (op.kind === 'mkdir') this.#add(dir, name, newNode('directory', dir))
    else if (op.kind === 'unlink') this.#unlink(dir, name)
    else this.#rmdir(dir, name)
  }

  #two(kind: 'link' | 'rename' | 'move' | 'exchange', dir: Node, name: string, path: readonly string[]): void {
    const node = dir.names.get(name) ?? refuse('ENOENT')
    const [to, newName] = this.#place(path)
    if (kind === 'exchange') {
      this.#exchange({ dir, name, node }, { dir: to, name: newName, node: to.names.get(newName) ?? refuse('ENOENT') })
      return
    }
    if (kind !== 'link') {
      this.#rename({ dir, name }, { dir: to, name: newName }, kind === 'move')
      return
    }
    if (node.type === 'directory') refuse('EPERM')
    this.#add(to, newName, node)
    node.nlink++
  }

  /** The directory in which the last name of a path is, and that name. */
  #place(path: readonly string[]): [Node, string] {
    let dir = this.root
    for (const name of path.slice(0, -1)) {
      dir = dir.names.get(name) ?? refuse('ENOENT')
      if (dir.type !== 'directory') refuse('ENOTDIR')
    }
    return [dir, path.at(-1) ?? refuse('ENOENT')]
  }

  #add(dir: Node, name: string, node: Node): void {
    if (dir.names.has(name)) refuse('EEXIST')
    this.#put(dir, name, node)
  }

  #put(dir: Node, name: string, node: Node): void {
    dir.names.set(name, node)
    if (node.type !== 'directory') return
    node.parent = dir
    dir.nlink++
  }

  #take(dir: Node, name: string, node: Node): void {
    dir.names.delete(name)
    if (node.type === 'directory') dir.nlink--
  }

  #unlink(dir: Node, name: string): void {
    const node = dir.names.get(name) ?? refuse('ENOENT')
    if (node.type === 'directory') refuse('EISDIR')
    this.#take(dir, name, node)
    node.nlink--
  }

  #rmdir(dir: Node, name: string): void {
    const node = dir.names.get(name) ?? refuse('ENOENT')
    if (node.type !== 'directory') refuse('ENOTDIR')
    if (node.names.size > 0) refuse('ENOTEMPTY')
    this.#take(dir, name, node)
  }

  #rename(from: { dir: Node; name: string }, to: { dir: Node; name: string }, noReplace: boolean): void {
    const node = from.dir.names.get(from.name) ?? refuse('ENOENT')
    const old = to.dir.names.get(to.name)
    if (old !== undefined && noReplace) refuse('EEXIST')
    if (old === node) return
    if (old !== undefined) this.#checkReplace(node, old)
    if (isAbove(node, to.dir)) refuse('EINVAL')
    if (old !== undefined && old.names.size > 0) refuse('ENOTEMPTY')
    if (old !== undefined) {
      this.#take(to.dir, to.name, old)
      if (old.type !== 'directory') old.nlink--
    }
    this.#take(from.dir, from.name, node)
    this.#put(to.dir, to.name, node)
  }

  #exchange(one: Place, other: Place): void {
    if (one.node === other.node) return
    if (isAbove(one.node, other.dir) || isAbove(other.node, one.dir)) refuse('EINVAL')
    for (const { dir, name, node } of [one, other]) this.#take(dir, name, node)
    this.#put(one.dir, one.name, other.node)
    this.#put(other.dir, other.name, one.node)
  }

  #checkReplace(node: Node, old: Node): void {
    if (node.type === 'directory' && old.type !== 'directory') refuse('ENOTDIR')
    if (node.type !== 'directory' && old.type === 'directory') refuse('EISDIR')
  }

  /** A line for each path: type and link count. */
  describe(): string[] {
    const lines: string[] = []
    const visit = (node: Node, path: string): void => {
      lines.push(`${path || '/'} ${node.type} ${node.nlink}`)
      for (const [name, child] of node.names) visit(child, `${path}/${name}`)
    }
    visit(this.root, '')
    return lines.sort()
  }
}

/** The same on the real store. The errno's name, or 'ok'. */
export function perform(meta: MetaStore, op: NameOp): Promise<string> {
  return outcome(run(meta, op))
}

async function run(meta: MetaStore, op: NameOp): Promise<unknown> {
  const [dir, name] = await place(meta, op.path)
  if ('to' in op) {
    const { ino } = await meta.lookup(dir, name)
    const [to, newName] = await place(meta, op.to)
    if (op.kind === 'link') return meta.link(ino, to, newName)
    const flags = { noReplace: op.kind === 'move', exchange: op.kind === 'exchange' }
    return meta.rename(dir, name, to, newName, flags)
  }
  if (op.kind === 'create') return meta.create(dir, name, newFile(), { exclusive: true, open: false })
  if (op.kind === 'mkdir') return meta.mkdir(dir, name, 0o755, 1000, 1000)
  if (op.kind === 'unlink') return meta.unlink(dir, name)
  return meta.rmdir(dir, name)
}

async function place(meta: MetaStore, path: readonly string[]): Promise<[number, Buffer]> {
  let dir = ROOT
  for (const name of path.slice(0, -1)) {
    const attr: Attr = await meta.lookup(dir, bytes(name))
    dir = attr.ino
  }
  return [dir, bytes(path.at(-1) ?? '')]
}
