/**
 * V8 notes what a function's operations have met (the shapes of objects, the targets of calls) only once the function has run for a
 * while, for most of a page's code runs once. Until then each property is looked up anew, and nothing is compiled. Of a mount nearly
 * all code runs for every request, and what people see of it first are the first ten calls of each kind: so notes are taken from
 * the first call on. What that costs is room for them: docs/performance.md, "The first calls".
 */
import { setFlagsFromString } from 'node:v8'

/** For functions that run for the first time after this. */
export function learnFromFirstCalls(): void {
  setFlagsFromString('--no-lazy-feedback-allocation')
}
