/** What `ringfs bench` measures: one row a figure, in the order of measuring. */

export const GROUPS = ['large', 'random', 'small', 'directories'] as const
export type Group = (typeof GROUPS)[number]

/** What a thread does for one figure: load.ts has a function for each. */
export type Work =
  | 'writeLarge'
  | 'readLarge'
  | 'writeSequential'
  | 'readRandom'
  | 'writeRandom'
  | 'writeRandomSync'
  | 'createSmall'
  | 'statSmall'
  | 'readSmall'
  | 'listSmall'
  | 'renameSmall'
  | 'unlinkSmall'
  | 'createEmpty'
  | 'makeDirectories'
  | 'removeDirectories'

export interface Step {
  /** Stable: `--json` has it. */
  readonly name: string
  readonly group: Group
  readonly work: Work
  readonly title: string
  readonly unit: 'MiB/s' | 'per second'
  /** The kernel's caches are dropped before. */
  readonly cold: boolean
  /** Only to make what others of its group need: done without being measured when they are wanted alone. */
  readonly needs?: Work
}

const step = (group: Group, name: string, work: Work, title: string, more: Partial<Step> = {}): Step => {
  return { group, name, work, title, unit: 'per second', cold: false, ...more }
}
const MB = { unit: 'MiB/s' } as const
const COLD = { cold: true } as const

export const STEPS: readonly Step[] = [
  step('large', 'large_write', 'writeLarge', 'write 1 MiB at a time, with fsync', MB),
  step('large', 'large_read_cold', 'readLarge', 'read it, cold', { ...MB, ...COLD }),
  step('large', 'large_read_warm', 'readLarge', 'read it again', MB),
  step('large', 'write_4k', 'writeSequential', 'write 4 KiB at a time, with fsync', MB),
  step('random', 'random_read_cold', 'readRandom', 'read 4 KiB anywhere, cold', { ...COLD, needs: 'writeLarge' }),
  step('random', 'random_write', 'writeRandom', 'write 4 KiB anywhere, fsync at the end', { needs: 'writeLarge' }),
  step('random', 'random_write_sync', 'writeRandomSync', 'write 4 KiB anywhere, fsync each', { needs: 'writeLarge' }),
  step('small', 'create', 'createSmall', 'create files of 4 KiB'),
  step('small', 'stat_cold', 'statSmall', 'stat, cold', COLD),
  step('small', 'stat_warm', 'statSmall', 'stat again'),
  step('small', 'read_cold', 'readSmall', 'open, read, close, cold', COLD),
  step('small', 'read_warm', 'readSmall', 'open, read, close again'),
  step('small', 'list_cold', 'listSmall', 'list with attributes (ls -l), cold', COLD),
  step('small', 'rename', 'renameSmall', 'rename'),
  step('small', 'unlink', 'unlinkSmall', 'unlink'),
  step('directories', 'mkdir', 'makeDirectories', 'make directories'),
  step('directories', 'create_empty', 'createEmpty', 'create empty files in them'),
  step('directories', 'rmdir', 'removeDirectories', 'remove directories'),
]
