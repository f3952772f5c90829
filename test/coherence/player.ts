/**
 * Plays rounds (rounds.ts) on two mounts that others serve: `node player.js A B ROUNDS SEED REST_MS`. Says how far it is, and at the end
 * what it saw, as one line of JSON. Ends with 1 if anything was stale.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { randomFrom } from '../helpers/random.js'
import { Rounds, type Report } from './rounds.js'

const SAY_EVERY = 1_000

const [a = '', b = '', rounds = '0', seed = '0', restMs = '0'] = process.argv.slice(2)
const folder = `played-${process.pid}`
mkdirSync(join(a, folder))
const game = new Rounds(join(a, folder), join(b, folder), randomFrom(Number(seed)), Number(restMs))
for (let round = 1; round <= Number(rounds) && game.play(); round++) {
  if (round % SAY_EVERY === 0) process.stdout.write(`${round} rounds\n`)
}
process.stdout.write(`${JSON.stringify(tell(game.report))}\n`)
process.exitCode = game.report.stale.length > 0 ? 1 : 0

function tell({ rounds: played, opens, stale, lags }: Report): object {
  const lagging = [...lags].map(([what, each]) => [what, summary(each)] as const)
  return { rounds: played, opens, stale, all: summary([...lags.values()].flat()), lags: Object.fromEntries(lagging) }
}

/** Milliseconds. */
function summary(lagsMs: readonly number[]): object {
  const sorted = [...lagsMs].sort((x, y) => x - y)
  const at = (share: number): number => Number((sorted[Math.floor(sorted.length * share)] ?? 0).toFixed(2))
  return {
    looks: sorted.length,
    atOnce: sorted.filter((ms) => ms === 0).length,
    p50: at(0.5),
    p99: at(0.99),
    p999: at(0.999),
    max: Number((sorted.at(-1) ?? 0).toFixed(2)),
  }
}
