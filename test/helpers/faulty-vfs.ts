/** A VFS in which calls on certain names go wrong, to see what a driver makes of it. */
import { setTimeout as sleep } from 'node:timers/promises'
import { InvariantError } from '../../src/base/invariant.js'
import { RingfsError } from '../../src/base/errors.js'
import type { Attr, Caller, VfsContract } from '../../src/vfs/contract.js'

/** Making a folder of this name throws what is no PosixError, at once and not as a rejected promise. */
export const FAULT_THROWS = 'fault-throws'
/** Making a folder of this name rejects with an error of an operation. */
export const FAULT_REJECTS = 'fault-rejects'

/** A file that is made with a name that begins so is read for ever. */
export const FAULT_READ_HANGS = 'fault-read-hangs'
/** This name is looked up for ever. */
export const FAULT_LOOKUP_HANGS = 'fault-lookup-hangs'

/** Making a folder of this name takes for ever. */
export const FAULT_MKDIR_HANGS = 'fault-mkdir-hangs'

export function withFaults(vfs: VfsContract): VfsContract {
  const mkdir = (caller: Caller, parent: number, name: Buffer, mode: number): Promise<Attr> => {
    if (name.toString() === FAULT_THROWS) throw new InvariantError('thrown for a test')
    if (name.toString() === FAULT_REJECTS) return Promise.reject(new RingfsError('NO_QUORUM', 'rejected for a test'))
    if (name.toString() === FAULT_MKDIR_HANGS) return new Promise(() => undefined)
    return vfs.mkdir(caller, parent, name, mode)
  }
  const hangingInos = new Set<number>()
  const hanging = new Set<number>()
  const create: VfsContract['create'] = async (caller, parent, name, mode, flags) => {
    const made = await vfs.create(caller, parent, name, mode, flags)
    if (name.toString().startsWith(FAULT_READ_HANGS)) hangingInos.add(made.attr.ino)
    return made
  }
  const open: VfsContract['open'] = async (caller, ino, flags) => {
    const opened = await vfs.open(caller, ino, flags)
    if (hangingInos.has(ino)) hanging.add(opened.handle)
    return opened
  }
  const never = (): Promise<never> => new Promise(() => undefined)
  const read: VfsContract['read'] = (handle, offset, lengthBytes) =>
    hanging.has(handle) ? never() : vfs.read(handle, offset, lengthBytes)
  const readPieces: VfsContract['readPieces'] = (handle, offset, lengthBytes) =>
    hanging.has(handle) ? never() : vfs.readPieces(handle, offset, lengthBytes)
  const lookup: VfsContract['lookup'] = (caller, parent, name) =>
    name.toString() === FAULT_LOOKUP_HANGS ? never() : vfs.lookup(caller, parent, name)
  const bent: Partial<VfsContract> = { mkdir, create, open, read, readPieces, lookup }
  return new Proxy(vfs, {
    get(target, property) {
      const instead: unknown = Reflect.get(bent, property)
      if (instead !== undefined) return instead
      const value: unknown = Reflect.get(target, property, target)
      return isFunction(value) ? (...values: unknown[]) => value.apply(target, values) : value
    },
  })
}

/** Every call takes some time more, from nothing to `maxMs`, so that calls overtake each other as they do over a network. */
export function withDelay(vfs: VfsContract, maxMs: number, random: () => number): VfsContract {
  return new Proxy(vfs, {
    get(target, property) {
      const value: unknown = Reflect.get(target, property, target)
      if (!isFunction(value)) return value
      // The one call that has its result at once.
      if (property === 'releasedir') return (...values: unknown[]) => value.apply(target, values)
      return async (...values: unknown[]): Promise<unknown> => {
        await sleep(random() * maxMs)
        return value.apply(target, values)
      }
    },
  })
}

function isFunction(value: unknown): value is (this: unknown, ...values: unknown[]) => unknown {
  return typeof value === 'function'
}
