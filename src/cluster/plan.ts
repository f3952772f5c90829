/**
 * What is to be where: the same text at every node as long as the ring is the same, was the same all the time, and nobody has asked to look
 * again. A client may have seen a ring that was there for a moment, and have written by it: those who did not see it walk all the same.
 */
import { createHash } from 'node:crypto'
import type { ClusterView } from './contract.js'
import { ringMembers } from './watcher.js'

const DIGITS = 16

/** Views do not change, and are asked for their plan with every step of a walk. */
const plans = new WeakMap<ClusterView, string>()

export function planOf(view: ClusterView): string {
  const known = plans.get(view)
  if (known !== undefined) return known
  const plan = digestOf(view)
  plans.set(view, plan)
  return plan
}

function digestOf(view: ClusterView): string {
  const members = ringMembers(view).map(({ id, weight, zone }) => [id, weight, zone])
  const text = JSON.stringify([members, view.settings?.walks ?? 0, view.settings?.rings ?? 0])
  return createHash('sha256').update(text).digest('hex').slice(0, DIGITS)
}
