/**
 * How mount options are written: `name` or `name=value`, separated by commas. A value with a comma stands in double quotes, as
 * in mount(8), or has a backslash before each comma, as in libfuse.
 */

/** One option: `value` is undefined for one without `=`. */
export interface OptionText {
  readonly name: string
  readonly value: string | undefined
}

const OPTION = /(?:\\[\s\S]|"[^"]*"|[^,])+/g
const QUOTING = /\\([\s\S])|"([^"]*)"/g

export function splitOptions(text: string): readonly OptionText[] {
  return [...text.matchAll(OPTION)].map(([option]) => {
    const plain = option.replace(QUOTING, (_, escaped?: string, quoted?: string) => escaped ?? quoted ?? '')
    const at = plain.indexOf('=')
    return at < 0 ? { name: plain, value: undefined } : { name: plain.slice(0, at), value: plain.slice(at + 1) }
  })
}

/** The reverse of splitOptions, for one option. */
export function writeOption({ name, value }: OptionText): string {
  return value === undefined ? name : `${name}=${value.replace(/[\\,"]/g, '\\$&')}`
}
