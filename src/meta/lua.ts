/**
 * Leaves out what nobody calls, and writes constants where they are used. It knows no Lua but how the libraries of scripts/lib are written: a function that all scripts may use
 * begins with `local function` at the beginning of a line, and the next `end` there is its own; constants have
 * names in capitals, and a line that begins with `local` for themselves.
 */

/** A function of a library, or (without a name) what stands between two. */
interface Piece {
  readonly name: string | undefined
  readonly text: string
}

const FUNCTION = /^local function (\w+)[^]*?^end$/gm
const COMMENT = /--.*$/gm
const WORD = /[A-Za-z_]\w*/g

/**
 * `libraries` without the functions that neither `script` nor one that stays mentions. All else stays, comments too. Redis makes each
 * function of a script anew whenever it runs it: one that is not called costs time all the same.
 */
export function withoutUnused(libraries: string, script: string): string {
  const pieces = piecesOf(libraries)
  const functions = new Map(pieces.map((piece) => [piece.name, piece]))
  const used = new Set<Piece>()
  const texts = [script, ...pieces.filter(({ name }) => name === undefined).map(({ text }) => text)]
  for (let text = texts.pop(); text !== undefined; text = texts.pop()) {
    for (const [word] of text.replace(COMMENT, '').matchAll(WORD)) {
      const piece = functions.get(word)
      if (piece === undefined || used.has(piece)) continue
      used.add(piece)
      texts.push(piece.text)
    }
  }
  return pieces
    .filter((piece) => piece.name === undefined || used.has(piece))
    .map(({ text }) => text)
    .join('')
}

function piecesOf(libraries: string): Piece[] {
  const pieces: Piece[] = []
  let at = 0
  for (const { 0: text, 1: name, index } of libraries.matchAll(FUNCTION)) {
    pieces.push({ name: undefined, text: libraries.slice(at, index) }, { name, text })
    at = index + text.length
  }
  pieces.push({ name: undefined, text: libraries.slice(at) })
  return pieces
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
  const declared = [...source.matchAll(LOCALS)].flatMap(([, names = '']) => names.trim().split(', '))
  const isAgain = (name: string): boolean => declared.indexOf(name) !== declared.lastIndexOf(name)
  const values = new Map<string, string>()
  const rest = source.replace(CONSTANTS, (line, list: string, literals: string) => {
    const [names, texts] = [list.split(', '), literals.split(', ')]
    if (names.length !== texts.length || names.some(isAgain) || !texts.every((text) => LITERAL.test(text))) return line
    for (const [i, name] of names.entries()) values.set(name, inPlace(texts[i] ?? ''))
    return ''
  })
  return rest.replace(TOKEN, (token) => values.get(token) ?? token)
}

/** Two signs in a row would begin a comment. */
function inPlace(literal: string): string {
  return literal.startsWith('-') ? `(${literal})` : literal
}
