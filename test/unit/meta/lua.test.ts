/** Scripts without the functions that they do not call. */
import { readFileSync, readdirSync } from 'node:fs'
import t from 'tap'
import { Library, withConstants, withoutUnused } from '../../../src/meta/lua.js'
import { SCRIPTS } from '../../../src/meta/scripts.js'

const LIBRARIES = new URL('../../../src/meta/scripts/lib/', import.meta.url)

t.test('what a script mentions stays, with what that mentions, and all that is no function', (t) => {
  const library = [
    'local LIMIT = start()',
    'local function start()\n  return 1\nend',
    'local function inner()\n  if LIMIT then\n    return 1\n  end\nend',
    '-- It is called by nobody but inner\nlocal function lone(a)\n  return inner(a)\nend',
    'local function outer()\n  -- not lone\n  return inner()\nend',
  ].join('\n')
  const left = withoutUnused([new Library(library)], 'return outer() -- lone()')
  for (const name of ['start', 'inner', 'outer']) t.match(left, `local function ${name}(`)
  t.notMatch(left, 'local function lone(')
  t.match(left, 'local LIMIT = start()')
  t.equal(withoutUnused([new Library(library)], 'lone() outer()'), library, 'nothing else is changed')
  t.end()
})

t.test('no script has a function that it does not use', (t) => {
  for (const { name, source } of Object.values(SCRIPTS)) {
    const code = source.replaceAll(/--.*$/gm, '')
    const functions = [...code.matchAll(/^ *local function (\w+)/gm)].map(([, word = '']) => word)
    const unused = functions.filter((word) => [...code.matchAll(new RegExp(`\\b${word}\\b`, 'g'))].length < 2)
    t.same(unused, [], name)
  }
  t.end()
})

t.test('the libraries are written as it takes for that', (t) => {
  for (const file of readdirSync(LIBRARIES)) {
    const lines = readFileSync(new URL(file, LIBRARIES), 'utf8').split('\n')
    const outer = lines.filter((line) => /^(local function |end\b)/.test(line))
    outer.forEach((line, i) => t.equal(line === 'end', i % 2 === 1, `${file}: ${line}`))
    t.notMatch(lines.join('\n'), /^(function |local \w+ = function)/m, `${file}: local functions only`)
  }
  t.end()
})

t.test('constants are written where they are used, and nowhere else', (t) => {
  const source = [
    "local ENOENT, WORD = -2, 'w'",
    'local TABLE, LIMIT = {1}, 5',
    'local TWICE = 1',
    "local function f(n)\n  local TWICE = n -- ENOENT\n  return {ENOENT, WORD, 'ENOENT', TABLE, TWICE}\nend",
  ]
  const left = [
    'local TABLE, LIMIT = {1}, 5',
    'local TWICE = 1',
    "local function f(n)\n  local TWICE = n -- ENOENT\n  return {(-2), 'w', 'ENOENT', TABLE, TWICE}\nend",
  ]
  t.equal(withConstants(source.join('\n')), left.join('\n'))
  t.end()
})

t.test('every name in capitals of a script is declared in it', (t) => {
  for (const { name, source } of Object.values(SCRIPTS)) {
    const code = source.replaceAll(/^#!.*$|--.*$|'(?:[^'\\]|\\.)*'/gm, '')
    const declared = [...code.matchAll(/\blocal ([\w, ]+)/g)].flatMap(([, names = '']) => names.trim().split(', '))
    const known = new Set(['KEYS', 'ARGV', ...declared])
    const unknown = [...code.matchAll(/\b[A-Z][A-Z_]*\b/g)].map(([word]) => word).filter((word) => !known.has(word))
    t.same(unknown, [], name)
  }
  t.end()
})
