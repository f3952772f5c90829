#!/usr/bin/env node
// Packs what a machine needs to run ringfs, from this tree: the build, the driver's addon, and the npm packages that are no
// development ones. The machines that get it have this machine's Node and Debian (make-box.sh), so that nothing is installed there.
//
//   node scripts/vagrant/pack.mjs [FILE]     default: build/vagrant/tree.tar.gz
//
// The same tree gives the same bytes: machines see by the hash whether they have it already.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '../..')
const OURS = [
  'package.json',
  'LICENSE',
  'dist/src',
  'dist/workers',
  'dist/proto',
  'native/build/Release',
  'scripts/vagrant/guest',
]
/** For readers of the code and for compilers. */
const LEFT_OUT = ['*.map', '*.d.ts', '*.d.mts', '*.d.cts', '*.md']

/** Folders below node_modules, by the lock file; what is for another kind of machine was not installed. */
export function runtimePackages(lock, exists = existsSync) {
  return Object.entries(lock.packages)
    .filter(([path, entry]) => path.startsWith('node_modules/') && entry.dev !== true)
    .map(([path]) => path)
    .filter((path) => exists(path))
}

function pack(file) {
  const lock = JSON.parse(readFileSync('package-lock.json', 'utf8'))
  const partial = `${file}.${process.pid}`
  mkdirSync(dirname(file), { recursive: true })
  const words = [
    ...['--create', '--sort=name', '--mtime=@0', '--owner=0', '--group=0', '--numeric-owner', '--dereference'],
    ...LEFT_OUT.map((pattern) => `--exclude=${pattern}`),
    // The time of packing stays out of the bytes.
    ...['--use-compress-program=gzip --no-name', `--file=${partial}`, '--'],
    ...OURS.filter((path) => existsSync(path)),
    ...runtimePackages(lock),
  ]
  const { status, error } = spawnSync('tar', words, { stdio: ['ignore', 'inherit', 'inherit'] })
  if (status !== 0) {
    rmSync(partial, { force: true })
    throw new Error(`tar failed${error ? `: ${error.message}` : ''}`)
  }
  renameSync(partial, file)
}

if (process.argv[1] !== undefined && fileURLToPath(import.meta.url) === resolve(process.argv[1])) {
  const file = resolve(process.argv[2] ?? join(ROOT, 'build/vagrant/tree.tar.gz'))
  process.chdir(ROOT)
  const { status } = spawnSync(process.execPath, ['scripts/setup.mjs'], { stdio: 'inherit' })
  if (status !== 0) process.exit(1)
  pack(file)
  console.log(`pack: ${file}`)
}
