// The licences of the npm packages whose code is in the bundles. They ask for being handed on with it, and so is what is packed of dist/.
import { readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const FILE = 'dist/src/shared/LICENSES.txt'
/** The innermost: a package may have packages of its own. */
const PACKAGE = /^.*\bnode_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/
const NOTICE = /^(?:licen[cs]e|copying|notice)/i
const LINE = '-'.repeat(80)

/** `outputs`: of esbuild's metafile. Answers the file. */
export function writeNotices(outputs) {
  const sources = Object.values(outputs).flatMap(({ inputs }) => Object.keys(inputs))
  const folders = new Set(sources.flatMap((path) => PACKAGE.exec(path) ?? []))
  const notices = new Set([...folders].map(noticeOf))
  const about = 'The files in this folder and in ../main contain code of these packages.\n'
  writeFileSync(FILE, [about, ...[...notices].sort()].join(`\n${LINE}\n`))
  return FILE
}

function noticeOf(folder) {
  const { name, version, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
  const texts = readdirSync(folder)
    .filter((file) => NOTICE.test(file))
    .map((file) => readFileSync(join(folder, file), 'utf8').trim())
  return [`${name} ${version}: ${license}`, ...texts, ''].join('\n\n')
}
