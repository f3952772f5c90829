/**
 * fuse-native 2.2.6, as far as ringfs uses it. The package has no types. Members that begin with an underscore are not
 * its documented interface: the package calls them by these names, and session.ts replaces them; test/unit/fuse checks
 * that they are still there.
 */
declare module 'fuse-native' {
  namespace Fuse {
    /** Answers the request: 0 or a count, or a negative errno, then what the operation returns. Never more than once. */
    type Signal = (result: number, ...values: readonly unknown[]) => void
    type Done = (error: Error | null | undefined) => void
    /** `record` is the memory of the C side that holds the request, fuse_thread_locals_t in fuse-native.c. */
    type NativeHandler = (record: Buffer, opcode: number, ...values: readonly unknown[]) => void
  }

  class Fuse {
    static unmount(mountpoint: string, done: Fuse.Done): void

    /** Only names that are in `operations` with a true value are ever called. `timeout: false`: no time limit. */
    constructor(mountpoint: string, operations: Readonly<Record<string, unknown>>, options: { readonly timeout: false })

    mount(done: Fuse.Done): void
    unmount(done: Fuse.Done): void

    /** By opcode. */
    protected _handlers: (Fuse.NativeHandler | undefined)[]
    /** What unmount does if the mount was complete. */
    protected _close(done: Fuse.Done): void
    /** `-o` and the options joined by commas, or nothing. */
    protected _fuseOptions(): string
  }

  export = Fuse
}
