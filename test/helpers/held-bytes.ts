/** What V8's heap holds when its garbage is gone. */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

setFlagsFromString('--expose-gc')
const collect: unknown = runInNewContext('gc')

function isCollector(value: unknown): value is () => void {
  return typeof value === 'function'
}

export function heldBytes(): number {
  for (let times = 0; times < 3; times++) if (isCollector(collect)) collect()
  return process.memoryUsage().heapUsed
}
