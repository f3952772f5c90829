/** Values of options, checked where they are read. */
import { InvalidArgumentError, type Command } from 'commander'
import { parseByteSize } from '../base/size.js'
import { NICE_MAX, NICE_MIN, OWN_OPTIONS, parseMountOptions, type MountOptionSet } from '../fuse/mount-options.js'
import { writeOption } from '../fuse/option-text.js'
import type { CommonOptions } from './surroundings.js'

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

/** For commander: a number, not less than `least`. */
export function atLeast(least: number): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (text !== '' && Number.isFinite(value) && value >= least) return value
    throw new InvalidArgumentError(`Give a number, at least ${least}.`)
  }
}

/** As the mount option of that name. */
export function niceValue(text: string): number {
  const value = Number(text)
  if (/^-?\d+$/.test(text) && value >= NICE_MIN && value <= NICE_MAX) return value
  throw new InvalidArgumentError(`Give a whole number from ${NICE_MIN} to ${NICE_MAX}.`)
}

/** Of an option that may be given several times, all that were. */
export function collect(text: string, before: readonly string[] = []): readonly string[] {
  return [...before, text]
}

/** `4M`, `4MiB`, `4194304`. */
export function byteSize(text: string): number {
  const value = parseByteSize(text)
  if (value !== undefined) return value
  throw new InvalidArgumentError('Give a size like 4M or 4194304.')
}

/** As byteSize, or 0. */
export function byteSizeOrNone(text: string): number {
  return text === '0' ? 0 : byteSize(text)
}

/** Options of `ringfs` itself, or of how the process runs: not offered a second time. */
const COMMON: ReadonlySet<string> = new Set(['key-file', 'log-level'])

/** `-o LIST`, and each option of ringfs's own as a long one, but for those in `without`. */
export function withMountOptions(command: Command, without: readonly string[] = []): Command {
  const list = 'mount options as in mount(8), and the long ones below: ro,noatime,driver=kernel'
  command.option('-o, --options <list>', list, collect, [])
  for (const { name, value, help } of OWN_OPTIONS) {
    if (!COMMON.has(name) && !without.includes(name)) command.option(`--${name} <${value}>`, help)
  }
  return command
}

/** What -o and the long options say. Errors: RingfsError USAGE. */
export function mountOptionsOf(options: { readonly options: readonly string[] }): MountOptionSet {
  const long = OWN_OPTIONS.flatMap(({ name }) => {
    const value: unknown = Reflect.get(options, camelCase(name))
    return typeof value === 'string' ? [writeOption({ name, value })] : []
  })
  return parseMountOptions([...options.options, ...long])
}

/** As commander names what it has read. */
function camelCase(name: string): string {
  return name.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase())
}

/** For a process of ours that is to mount in the same way. */
export function mountWords({ texts }: MountOptionSet): readonly string[] {
  return texts.length === 0 ? [] : ['-o', texts.join(',')]
}

/** Key file and level of the log can be given with -o, too. */
export function commonOf(options: CommonOptions, { keyFile, logLevel }: MountOptionSet): CommonOptions {
  return {
    ...options,
    ...(keyFile === undefined ? {} : { keyFile }),
    ...(logLevel === undefined ? {} : { logLevel }),
  }
}
