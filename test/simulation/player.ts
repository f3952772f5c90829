/** A thread that plays the schedules it is asked for: see players.ts. */
import { parentPort } from 'node:worker_threads'
import type { Asked } from './players.js'
import { play } from './schedule.js'

// Most errors are thrown on purpose, and nobody looks at where.
Error.stackTraceLimit = process.env['RINGFS_STACKS'] === undefined ? 0 : 10

const asked: Asked[] = []
let isPlaying = false

async function playAsked(): Promise<void> {
  if (isPlaying) return
  isPlaying = true
  for (let next = asked.shift(); next !== undefined; next = asked.shift()) parentPort?.postMessage(await play(next))
  isPlaying = false
}

parentPort?.on('message', (next: Asked) => {
  asked.push(next)
  // What it throws ends the thread, which is told with the seed.
  void playAsked()
})
