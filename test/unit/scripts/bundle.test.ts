/** What the build makes of the programs: scripts/setup/bundle.mjs. */
import { execFileSync } from 'node:child_process'
import { readFileSync, readdirSync } from 'node:fs'
import { builtinModules } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import t from 'tap'
import { z } from 'zod'
import { sh } from '../../helpers/ringfs.js'

// Seen from dist/test/unit/scripts.
const BUILD = fileURLToPath(new URL('../../../', import.meta.url))
/** They are told to be loaded, at the start or later. */
const IMPORT = /^(?:import|export)\b[^'"]*?["']([^'"]+)["'];?$|\bimport\(["']([^'"]+)["']\)/gm

/** Of a source in a source map: the innermost package that it is of. */
const PACKAGE = /node_modules\/((?:@[^/"]+\/)?[^/"]+)\/(?![^"]*node_modules)/g

/** What a program says of a package. */
const SEEN = z.object({ place: z.string(), exports: z.array(z.tuple([z.string(), z.string()])) })

const isBuiltin = (name: string): boolean => name.startsWith('node:') || builtinModules.includes(name)

function importsOf(path: string): readonly string[] {
  const text = readFileSync(join(BUILD, path), 'utf8')
  const names = [...text.matchAll(IMPORT)].map(([, first, later]) => first ?? later ?? '')
  return names
    .filter((name) => !isBuiltin(name))
    .map((name) => (name.startsWith('.') ? join(dirname(path), name) : name))
}

/** Every file that the program may load, and every package. */
function reachedFrom(program: string): ReadonlySet<string> {
  const reached = new Set([program])
  for (const path of reached) {
    if (!path.endsWith('.js')) continue
    for (const name of importsOf(path)) reached.add(name)
  }
  return reached
}

const PROGRAMS = ['src/main/ringfs.js', 'src/main/mount-helper.js', 'workers/disk.js', 'workers/hash.js']

for (const program of PROGRAMS) {
  t.test(`${program} is of few files, with all packages but those that find files beside themselves`, async (t) => {
    const others = [...reachedFrom(program)].filter((name) => name !== program && dirname(name) !== 'src/shared')
    t.same(
      others.filter((name) => !['fuse-native', 'node-gyp-build', 'piscina'].includes(name)),
      [],
    )
  })
}

t.test(
  'where esbuild, or its program for this kind of machine, is not installed, the programs stay as tsc made them',
  async (t) => {
    const bundle = join(BUILD, '../scripts/setup/bundle.mjs')
    const program = `
    import { canBundle } from ${JSON.stringify(bundle)}
    const without = (missing) => canBundle((name) => {
      if (name.startsWith(missing)) throw new Error('MODULE_NOT_FOUND')
      return name
    })
    console.log(without('nothing'), without('esbuild'), without('@esbuild/'))`
    t.equal(await sh(process.execPath, '--input-type=module', '-e', program), 'true false false\n')
  },
)

for (const name of ['mount-child', 'chunk-node-process', 'crash-child', 'store-child']) {
  t.test(`${name}, which tests start, is of few files, and no module of a test imports it`, async (t) => {
    const program = `test/helpers/${name}.js`
    const others = [...reachedFrom(program)].filter((one) => one !== program && dirname(one) !== 'test/shared')
    t.same(
      others.filter((one) => !['fuse-native', 'node-gyp-build', 'piscina'].includes(one)),
      [],
    )
    const modules = readdirSync(join(BUILD, 'test'), { recursive: true, encoding: 'utf8' })
      .filter((path) => path.endsWith('.js') && dirname(path) !== 'shared')
      .map((path) => join('test', path))
    t.ok(modules.length > 280)
    t.same(
      modules.filter((path) => importsOf(path).includes(program)),
      [],
    )
  })
}

for (const name of ['tap', 'zod']) {
  t.test(`the tests have a ${name} of dist/, which exports all that the installed package does`, async (t) => {
    const program = `
    import * as all from ${JSON.stringify(name)}
    const exports = Object.entries(all).map(([name, value]) => [name, typeof value])
    console.log(JSON.stringify({ place: import.meta.resolve(${JSON.stringify(name)}), exports }))`
    const words = ['--input-type=module', '-e', program]
    // It looks for packages from the folder in which it is started.
    const seenFrom = (cwd: string) =>
      SEEN.parse(JSON.parse(execFileSync(process.execPath, words, { cwd, encoding: 'utf8' })))
    const [ours, installed] = [seenFrom(join(BUILD, 'test')), seenFrom(join(BUILD, '..'))]
    t.ok(ours.place.startsWith(pathToFileURL(join(BUILD, 'node_modules', name)).href), ours.place)
    t.notOk(installed.place.startsWith(pathToFileURL(BUILD).href), installed.place)
    t.same(ours.exports, installed.exports)
  })
}

t.test('nothing of former builds is left among the files of the programs', async (t) => {
  const files = readdirSync(join(BUILD, 'src/shared')).filter((name) => name.endsWith('.js'))
  const reached = new Set(PROGRAMS.flatMap((one) => [...reachedFrom(one)]))
  t.ok(files.length > 0)
  t.same(
    files.filter((name) => !reached.has(join('src/shared', name))),
    [],
  )
})

t.test(
  'the licences of all packages in them lie beside them: who hands on the build hands on their code',
  async (t) => {
    const folders = ['src/main', 'src/shared', 'workers'].map((name) => join(BUILD, name))
    const files = folders.flatMap((folder) => readdirSync(folder).map((name) => join(folder, name)))
    const maps = files.filter((file) => file.endsWith('.js.map')).map((file) => readFileSync(file, 'utf8'))
    const packages = new Set(maps.flatMap((text) => [...text.matchAll(PACKAGE)]).flatMap(([, name]) => name ?? []))
    t.ok(packages.has('ioredis') && packages.has('zod'))
    const notices = readFileSync(join(BUILD, 'src/shared/LICENSES.txt'), 'utf8').split(/^-{80}\n/m)
    for (const name of packages) {
      const notice = notices.find((text) => text.startsWith(`${name} `)) ?? ''
      t.match(notice, /copyright|apache license/i, name)
    }
  },
)
