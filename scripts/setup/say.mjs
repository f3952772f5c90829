// How the set-up speaks: one line for each thing it does, nothing for what is there already.

export function say(text) {
  process.stderr.write(`setup: ${text}\n`)
}

/** A failure whose message is all that the user needs: printed without a stack. */
export class SetupError extends Error {}

export function secondsSince(startMs) {
  return `${((performance.now() - startMs) / 1000).toFixed(1)} s`
}
