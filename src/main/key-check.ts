/**
 * Whether the nodes of a volume take this process's cluster key, asked before it begins to work: a wrong key would otherwise
 * show as files that cannot be read.
 *
 * Only a refusal counts, and only when no node has let us in: nodes that are away say nothing about the key, and while keys
 * are being changed one node may be behind.
 */
import { randomBytes } from 'node:crypto'
import { RingfsError, hasCode } from '../base/errors.js'
import type { Member } from '../cluster/contract.js'
import { RpcChannel } from '../rpc/channel.js'
import { KeyRing } from '../rpc/key-ring.js'
import { dial } from '../rpc/transport.js'

/** A node that is slower than this is not waited for. */
const ANSWER_MS = 2_000
/** With so many an answer is known; a cluster may have hundreds. */
const ASKED_MAX = 8

/** `self`: a node that is not asked. Errors: RingfsError KEY_REQUIRED. */
export async function checkKey(members: readonly Member[], key: KeyRing | undefined, self?: string): Promise<void> {
  const asked = members.filter(({ id, state, address }) => id !== self && state === 'up' && isTcp(address))
  const answers = await Promise.all(asked.slice(0, ASKED_MAX).map(({ address }) => ask(address, key)))
  if (answers.includes(null)) return
  const refusal = answers.find((answer) => answer !== 'away')
  if (refusal instanceof RingfsError) throw refusal
}

function isTcp(address: string): boolean {
  return !address.startsWith('unix:')
}

/** null: it let us in. */
async function ask(address: string, key: KeyRing | undefined): Promise<RingfsError | 'away' | null> {
  const limits = { connectTimeoutMs: ANSWER_MS }
  const channel = new RpcChannel(address, { limits, ...(key && { key }) })
  try {
    await channel.ping({ deadlineMs: ANSWER_MS })
    return null
  } catch (error) {
    if (error instanceof RingfsError && hasCode(error, 'KEY_REQUIRED')) return error
    return key === undefined && (await wantsKey(address)) ? keyWanted(address) : 'away'
  } finally {
    await channel.close()
  }
}

/** A listener with a key ends a connection without one and cannot say why. One with another key it tells. */
async function wantsKey(address: string): Promise<boolean> {
  try {
    const socket = await dial(address, { key: KeyRing.of(randomBytes(32)), timeoutMs: ANSWER_MS })
    socket.destroy()
    return true
  } catch (error) {
    return (
      error instanceof RingfsError && error.code === 'KEY_REQUIRED' && !error.message.includes('has no cluster key')
    )
  }
}

function keyWanted(address: string): RingfsError {
  return new RingfsError(
    'KEY_REQUIRED',
    `${address} wants the cluster key, and this side has none: copy the key file of that node here and give it with --key-file FILE`,
  )
}
