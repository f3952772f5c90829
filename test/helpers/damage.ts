/** Bytes of any kind, and good examples that were damaged: for decoders of what others have written. */
import fc from 'fast-check'
import type { Test } from 'tap'
import { PosixError } from '../../src/base/errno.js'
import { RingfsError } from '../../src/base/errors.js'
import { ProtocolError } from '../../src/cluster/resp-replies.js'
import { propertyRun } from './property.js'

/** How a good example is damaged: where, with what, and where it is cut. */
export const damage = fc.record({
  noise: fc.uint8Array({ maxLength: 200 }),
  flips: fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 4 }),
  cut: fc.option(fc.nat()),
  example: fc.nat(),
  isNoise: fc.boolean(),
})

export type Damage = typeof damage extends fc.Arbitrary<infer T> ? T : never

export function damaged(examples: readonly Buffer[], how: Damage): Buffer {
  const good = examples[how.example % Math.max(1, examples.length)]
  if (how.isNoise || good === undefined) return Buffer.from(how.noise)
  const bytes = Buffer.from(good)
  for (const [at, value] of how.flips) if (bytes.length > 0) bytes[at % bytes.length] = value
  return how.cut === null ? bytes : bytes.subarray(0, how.cut % (bytes.length + 1))
}

/** What a decoder may throw. */
export function isClear(error: unknown): boolean {
  return error instanceof PosixError || error instanceof RingfsError || error instanceof ProtocolError
}

/** Whatever was done to the examples, the decoder answers a value or a clear error. */
export function staysClear(
  t: Test,
  { decode, examples }: { readonly decode: (bytes: Buffer) => unknown; readonly examples: readonly Buffer[] },
  defaultRuns: number,
): void {
  fc.assert(
    fc.property(damage, (how) => {
      try {
        decode(damaged(examples, how))
        return true
      } catch (error) {
        return isClear(error)
      }
    }),
    propertyRun(t, defaultRuns),
  )
  t.pass('held')
}
