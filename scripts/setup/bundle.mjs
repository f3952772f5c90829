// The programs of dist/, and what its threads run, their modules put together in few files. Node takes about a millisecond of CPU for each
// module that it loads: of a start of `ringfs up`, with 450 of them, that was two thirds, and of that of a thread, of which it has
// some twenty, four fifths.
//
// They take the place of what tsc made of the same sources, and do the same; the modules beside them are for the tests and for
// programs that import the package. What several programs and commands need is in files of its own in dist/src/shared.
//
// So are the programs that tests start by the dozen, and of the packages that most test files load, those of many modules are a file each:
// in dist/node_modules, where Node looks first.
import { writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { writeNotices } from './notices.mjs'
import { SetupError } from './say.mjs'

/** For esbuild, which is not there before the npm packages are. */
const require = createRequire(import.meta.url)

const PROGRAMS = ['src/main/ringfs.ts', 'src/main/mount-helper.ts', 'workers/disk.ts', 'workers/hash.ts']

/** They run in processes of their own only: whoever imported one would have other modules than those beside it. */
const TEST_PROGRAMS = ['mount-child', 'chunk-node-process', 'crash-child', 'store-child']

/** Where Node looks first for what a file of dist/ imports. */
export const PACKAGES = 'dist/node_modules'

/**
 * tap has 180 modules, zod 95. ES modules both: of CommonJS Node would not know the names that a bundle exports. And where their one file is:
 * tap leaves out of its stacks what lies in such a folder.
 */
const IN_ONE_FILE = { tap: 'node_modules/@tapjs/index', zod: 'index' }

/** They find files of their own beside themselves: addons, what their threads run. */
const APART = ['fuse-native', 'node-gyp-build', 'piscina']

/** For packages that are CommonJS. */
const BANNER = `import { createRequire as requireFrom } from 'node:module'
const require = requireFrom(import.meta.url)`

/** The only module that may say where it lies, from a folder of this depth. */
const PLACES = 'src/base/places.ts'
const PLACES_DEPTH = dirname(PLACES).split('/').length + 1

/** esbuild's program is a package for each kind of machine: optional, so that it may be missing though esbuild is there. */
const NEEDED = ['esbuild', `@esbuild/${process.platform}-${process.arch}/package.json`]

/** Not where node_modules is somebody else's, and older (npm.mjs), or without optional packages: the programs stay as tsc made them then. */
export function canBundle(resolve = require.resolve) {
  try {
    return NEEDED.every((name) => resolve(name) !== '')
  } catch {
    return false
  }
}

/** Answers the files of dist/ that it made. Errors: SetupError. */
export function bundlePrograms() {
  const outputs = bundle(PROGRAMS, 'src/shared')
  return [...Object.keys(outputs), writeNotices(outputs)]
}

/** Answers the files of dist/ that it made. Errors: SetupError. */
export function bundleTestPrograms() {
  return Object.keys(
    bundle(
      TEST_PROGRAMS.map((name) => `test/helpers/${name}.ts`),
      'test/shared',
    ),
  )
}

/** `shared`: the folder of what several of them need. Answers esbuild's outputs. */
function bundle(entryPoints, shared) {
  const { outputs } = build({
    entryPoints,
    outdir: 'dist',
    outbase: '.',
    chunkNames: `${shared}/[hash]`,
    splitting: true,
    external: APART,
    sourcemap: 'linked',
    sourcesContent: false,
  })
  for (const [path, { inputs }] of Object.entries(outputs)) {
    if (!(PLACES in inputs) || dirname(path).split('/').length === PLACES_DEPTH) continue
    throw new SetupError(`${path} has ${PLACES} in it, which would look for everything in the wrong folder`)
  }
  return outputs
}

/** Answers the files of dist/ that it made. Errors: SetupError. */
export function bundlePackages() {
  return Object.entries(IN_ONE_FILE).flatMap(([name, file]) => {
    const folder = `${PACKAGES}/${name}`
    const entryPoints = { [file]: fileURLToPath(import.meta.resolve(name)) }
    // Without a source map: Node would read it at every start.
    const { outputs } = build({ entryPoints, outdir: folder })
    const about = `${folder}/package.json`
    writeFileSync(about, JSON.stringify({ name, type: 'module', main: `${file}.js` }))
    return [...Object.keys(outputs), about]
  })
}

function build(options) {
  const common = { bundle: true, platform: 'node', format: 'esm', target: 'node20.19', banner: { js: BANNER } }
  try {
    return require('esbuild').buildSync({ ...common, metafile: true, logLevel: 'silent', ...options }).metafile
  } catch (error) {
    throw new SetupError(`the programs could not be put together:\n${error.message}`)
  }
}
