// What the tests cost: the most expensive files, and how well the processors were used.
import { availableParallelism } from 'node:os'

const SHOWN = 25

export function tellTimes(results, wallS, print) {
  const known = results.filter(({ cpuS }) => cpuS !== null).sort((a, b) => b.cpuS - a.cpuS)
  print('\n  CPU s  wall s  file')
  for (const { file, cpuS, wallS: its } of known.slice(0, SHOWN)) print(`${column(cpuS)} ${column(its)}  ${file}`)
  const cpuS = known.reduce((sum, file) => sum + file.cpuS, 0)
  const share = (100 * cpuS) / (wallS * availableParallelism())
  print(`${column(cpuS)} ${column(wallS)}  in all; ${share.toFixed(0)}% of ${availableParallelism()} processors`)
}

function column(seconds) {
  return seconds.toFixed(1).padStart(7)
}
