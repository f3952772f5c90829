import type { Agent, Reply, Words } from './agent.js'

const OF_ATTRIBUTES = new Set(['fstat', 'fchmod', 'fchown', 'futimens'])
const GONE = new Set(['ESTALE', 'ENOENT'])

/**
 * Whether a mount may answer this of what a slot has open: the kernel opens a named pipe without a word to FUSE, so that it goes with its
 * last name (docs/posix.md). The oracle's agent tells what it is.
 */
export async function isNameless(oracle: Agent, words: Words, mounted: Reply): Promise<boolean> {
  const [call = '', slot = ''] = words
  if (!OF_ATTRIBUTES.has(call) || !GONE.has(mounted.text)) return false
  return /^OK fifo .* links=0 /.test((await oracle.call(['fstat', slot])).text)
}
