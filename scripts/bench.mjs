// `npm run bench`: every benchmark, one after the other, each in a process of its own.
//
//   npm run bench             everything
//   npm run bench -- rpc      those whose path contains the words
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

process.chdir(join(dirname(fileURLToPath(import.meta.url)), '..'))
const parts = process.argv.slice(2)
const found = existsSync('dist/bench') ? readdirSync('dist/bench', { recursive: true }) : []
const files = found.filter((file) => file.endsWith('.bench.js')).sort()
const chosen = files.filter((file) => parts.length === 0 || parts.some((part) => file.includes(part)))
for (const file of chosen) {
  console.log(`\n# ${file.replace(/\.bench\.js$/, '')}`)
  const { status } = spawnSync(process.execPath, [join('dist/bench', file)], {
    stdio: ['ignore', 'inherit', 'inherit'],
  })
  if (status !== 0) process.exitCode = 1
}
if (chosen.length === 0) {
  console.error('bench: no such benchmark')
  process.exitCode = 1
}
