/**
 * Leaves out what nobody calls, and writes constants where they are used. It knows no Lua but how the libraries of scripts/lib are written: a function that all scripts may use
 * begins with `local function` at the beginning of a line, and the next `end` there is its own; constants have
 * names in capitals, and a line that begins with `local` for themselves.
 */

/** A function of a library, or (without a name) what stands between two. */
interface Piece {
  readonly name: string | undefined
  readonly text: string
  readonly words: readonly string[]
}

/** Taken apart when it is first used, and once for all scripts. */
export class Library {
  readonly #text: string
  #pieces: readonly Piece[] | undefined

  constructor(text: string) {
    this.#text = text
  }

  get pieces(): readonly Piece[] {
    return (this.#pieces ??= piecesOf(this.#text))
  }
}

const FUNCTION = /^local function (\w+)[^]*?^end$/gm
const COMMENT = /--.*$/gm
const WORD = /[A-Za-z_]\w*/g

/**
 * `libraries` without the functions that neither `script` nor one that stays mentions. All else stays, comments too. Redis makes each
 * function of a script anew whenever it runs it: one that is not called costs time all the same.
 */
export function withoutUnused(libraries: readonly Library[], script: string): string {
  const pieces = libraries.flatMap((library) => library.pieces)
  const functions = new Map(pieces.map((piece) => [piece.name, piece]))
  const used = new Set(pieces.filter(({ name }) => name === undefined))
  const mentioned = [wordsOf(script), ...[...used].map(({ words }) => words)]
  for (let words = mentioned.pop(); words !== undefined; words = mentioned.pop()) {
    for (const word of words) {
      const piece = functions.get(word)
      if (piece === undefined || used.has(piece)) continue
      used.add(piece)
      mentioned.push(piece.words)
    }
  }
  const texts = libraries.map((library) => library.pieces.filter((piece) => used.has(piece)).map(({ text }) => text))
  return texts.map((parts) => parts.join('')).join('\n')
}

function piecesOf(text: string): Piece[] {
  const pieces: Piece[] = []
  const add = (name: string | undefined, part: string): void => {
    pieces.push({ name, text: part, words: wordsOf(part) })
  }
  let at = 0
  for (const { 0: part, 1: name, index } of text.matchAll(FUNCTION)) {
    add(undefined, text.slice(at, index))
    add(name, part)
    at = index + part.length
  }
  add(undefined, text.slice(at))
  return pieces
}

function wordsOf(text: string): readonly string[] {
  return [...new Set(text.replace(COMMENT, '').match(WORD))]
}

const CONSTANTS = /^local ([A-Z]\w*(?:, [A-Z]\w*)*) = (.+)\n/gm
const LITERAL = /^(?:-?\d+|'[^']*')$/
const LOCALS = /\blocal ([\w, ]+)/g
/** A comment, a text, a word. */
const TOKEN = /--.*$|'(?:[^'\\]|\\.)*'|\b[A-Za-z_]\w*/gm

/**
 * `source` with its numbers and texts that have a name in the place of that name. Each function of a script takes hold of every local that it
 * mentions, whenever the script is run.
 */
export function withConstants(source: string): string {
  const [declared, again] = [new Set<string>(), new Set<string>()]
  for (const [, names = ''] of source.matchAll(LOCALS)) {
    for (const name of names.trim().split(', ')) (declared.has(name) ? again : declared).add(name)
  }
  const values = new Map<string, string>()
  const rest = source.replace(CONSTANTS, (line, list: string, literals: string) => {
    const [names, texts] = [list.split(', '), literals.split(', ')]
    if (
      names.length !== texts.length ||
      names.some((name) => again.has(name)) ||
      !texts.every((text) => LITERAL.test(text))
    )
      return line
    for (const [i, name] of names.entries()) values.set(name, inPlace(texts[i] ?? ''))
    return ''
  })
  return rest.replace(TOKEN, (token) => values.get(token) ?? token)
}

/** Two signs in a row would begin a comment. */
function inPlace(literal: string): string {
  return literal.startsWith('-') ? `(${literal})` : literal
}
