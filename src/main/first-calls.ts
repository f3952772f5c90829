/**
 * What V8 does about code that runs for the first time. Of a mount nearly all code runs for every request, and what people see of it first are the first
 * calls of each kind. What each setting is worth, and what was tried: docs/performance.md, "The first calls".
 *
 * - V8 notes what a function's operations have met (the shapes of objects, the targets of calls) only once the function has run for a while, for most of a
 *   page's code runs once. Until then each property is looked up anew, and nothing is compiled. So notes are taken from the first call on; the
 *   price is room for them.
 * - A function is compiled together with those that it calls, up to so many bytes of bytecode. With fewer of them all is compiled sooner, by threads
 *   that take less of the processors from the mount.
 */
import { setFlagsFromString } from 'node:v8'

/** Of V8's own choice it is 920. */
const INLINED_BYTES = 400

/** For functions that run for the first time after this, in all threads. */
export function hastenFirstCalls(): void {
  setFlagsFromString('--no-lazy-feedback-allocation')
  setFlagsFromString(`--max-inlined-bytecode-size-cumulative=${INLINED_BYTES}`)
}
