/** Sizes as people write them. */
import { GIB, KIB, MIB } from './limits.js'

const UNITS: Readonly<Record<string, number>> = { '': 1, K: KIB, M: MIB, G: GIB }

/** Bytes of `4M`, `4MiB`, `4194304`; undefined for what is no size above 0. */
export function parseByteSize(text: string): number | undefined {
  const match = /^(\d+)(?:([KMG])(?:i?B)?)?$/i.exec(text)
  const value = Number(match?.[1]) * (UNITS[(match?.[2] ?? '').toUpperCase()] ?? 1)
  return match !== null && Number.isSafeInteger(value) && value > 0 ? value : undefined
}
