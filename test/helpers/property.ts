/** How much the property tests try. More, or a run again: RINGFS_TEST_RUNS and RINGFS_TEST_SEED in the environment. */
import type { Test } from 'tap'

export interface PropertyRun {
  readonly numRuns: number
  readonly seed: number
}

/** Says the seed, so that a failure can be run again. Default: another one each time. */
export function propertyRun(t: Pick<Test, 'comment'>, defaultRuns: number, defaultSeed?: number): PropertyRun {
  const seed = fromEnvironment('RINGFS_TEST_SEED') ?? defaultSeed ?? Date.now() % 2 ** 31
  const numRuns = fromEnvironment('RINGFS_TEST_RUNS') ?? defaultRuns
  t.comment(`RINGFS_TEST_SEED=${seed} RINGFS_TEST_RUNS=${numRuns}`)
  return { seed, numRuns }
}

function fromEnvironment(name: string): number | undefined {
  const text = process.env[name]
  if (text === undefined || text === '') return undefined
  const value = Number(text)
  if (!Number.isSafeInteger(value)) throw new Error(`${name} is not a whole number: ${text}`)
  return value
}
