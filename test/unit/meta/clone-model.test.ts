/** Clones, compactions, truncations and janitors in any order, with crashes: no chunk that is named is ever deleted. */
import t from 'tap'
import { CloneModel, type ModelOptions, type Safeguard, type Steps } from '../../helpers/clone-model.js'
import { propertyRun } from '../../helpers/property.js'
import { randomFrom } from '../../helpers/random.js'

const STEPS = 400
const AT_ONCE = 8
const CRASH = 0.004
const SETTLE_ROUNDS = 2_000

/** Undefined, or what is wrong. */
function play(seed: number, options: Pick<ModelOptions, 'grace' | 'without'>): string | undefined {
  const random = randomFrom(seed)
  const model = new CloneModel({ ...options, random, files: 2 + (seed % 2), windows: 1 + ((seed >> 1) % 2) })
  const begin = (): Steps => {
    const kind = random()
    if (kind < 0.06) return model.write()
    if (kind < 0.52) return model.clone()
    if (kind < 0.54) return model.compact()
    if (kind < 0.59) return model.free()
    if (kind < 0.6) return model.unlink()
    return model.collect()
  }
  const running: Steps[] = []
  for (let step = 0; step < STEPS; step++) {
    if (running.length < AT_ONCE) running.push(begin())
    const at = Math.floor(random() * running.length)
    const one = running[at]
    if (one === undefined) continue
    if (random() < CRASH) one.return()
    else if (one.next().done !== true) continue
    running.splice(at, 1)
    const lost = [...model.named()].filter((chunk) => !model.chunks.has(chunk))
    if (lost.length > 0) return `step ${step}: chunk ${lost.join()} is named and gone`
  }
  for (const one of running) for (; one.next().done !== true;);
  for (let round = 0; model.claims > 0 && round < SETTLE_ROUNDS; round++)
    for (const end = model.collect(); end.next().done !== true;);
  const named = model.named()
  const lost = [...named].filter((chunk) => !model.chunks.has(chunk))
  if (lost.length > 0) return `at the end: chunk ${lost.join()} is named and gone`
  if (!options.grace) return undefined
  const kept = [...model.chunks].filter((chunk) => !named.has(chunk))
  if (model.claims > 0 || model.emptyRecords > 0)
    return `${model.claims} claims and ${model.emptyRecords} records are left`
  return kept.length > 0 ? `chunk ${kept.join()} is kept in vain` : undefined
}

function firstFailure(
  runs: number,
  seed: number,
  options: Pick<ModelOptions, 'grace' | 'without'>,
): string | undefined {
  for (let run = 0; run < runs; run++) {
    const wrong = play(seed + run, options)
    if (wrong !== undefined) return `seed ${seed + run}: ${wrong}`
  }
  return undefined
}

t.test('no chunk that is named is deleted, and none is kept in vain', (t) => {
  const { numRuns, seed } = propertyRun(t, 3_000)
  t.equal(firstFailure(numRuns, seed, { grace: true }), undefined)
  t.end()
})

t.test('without a grace period no chunk is lost either', (t) => {
  const { numRuns, seed } = propertyRun(t, 3_000)
  t.equal(firstFailure(numRuns, seed, { grace: false }), undefined)
  t.end()
})

/** Each with a seed from which a loss is found soon; the last is found once in thousands of plays. */
const SAFEGUARDS: readonly (readonly [Safeguard, number])[] = [
  ['verify', 1],
  ['fence', 1],
  ['compare', 1],
  ['look', 1],
  ['condition', 1],
  ['rising', 35_000],
]

for (const [without, seed] of SAFEGUARDS) {
  t.test(`the model loses a chunk without the safeguard: ${without}`, (t) => {
    t.not(firstFailure(1_000, seed, { grace: false, without }), undefined)
    t.end()
  })
}
