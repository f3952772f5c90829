/**
 * What every mount of ringfs must do, whatever driver and whatever VFS: called by the tests that make the mounts.
 * `root` is a folder in the mount that the test has to itself.
 */
import type { Test } from 'tap'

export interface Suite {
  /** A claim. */
  readonly name: string
  /** fuse-native cannot do it: docs say so. */
  readonly kernelOnly?: true
  run(t: Test, root: string): Promise<void>
}
