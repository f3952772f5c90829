/** Values of options, checked where they are read. */
import { InvalidArgumentError, Option } from 'commander'
import { GIB, KIB, MIB } from '../base/limits.js'

/** For commander: a whole number from `least` on. */
export function integer(least: number): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (/^\d+$/.test(text) && Number.isSafeInteger(value) && value >= least) return value
    throw new InvalidArgumentError(`Give a whole number from ${least} on.`)
  }
}

export function positive(text: string): number {
  const value = Number(text)
  if (text !== '' && Number.isFinite(value) && value > 0) return value
  throw new InvalidArgumentError('Give a number above 0.')
}

const UNITS: Readonly<Record<string, number>> = { '': 1, K: KIB, M: MIB, G: GIB }

/** `4M`, `4MiB`, `4194304`. */
export function byteSize(text: string): number {
  const match = /^(\d+)(?:([KMG])(?:i?B)?)?$/i.exec(text)
  const value = Number(match?.[1]) * (UNITS[(match?.[2] ?? '').toUpperCase()] ?? 1)
  if (match !== null && Number.isSafeInteger(value) && value > 0) return value
  throw new InvalidArgumentError('Give a size like 4M or 4194304.')
}

/** `-o ro,allow_other -o max_read=131072` */
export function mountOptions(text: string, before: readonly string[] = []): readonly string[] {
  return [...before, ...text.split(',').filter((option) => option !== '')]
}

export const driverOption = new Option('--driver <name>', 'how to mount').choices(['kernel', 'fuse-native'] as const)
export const durabilityOption = new Option(
  '--durability <level>',
  'owners that must have data before a sync or close succeeds',
).choices(['all', 'quorum', 'async'] as const)
