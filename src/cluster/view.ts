/**
 * The reply of scripts/view.lua. Records of members are written by other processes, of other versions too: one that makes no sense is an
 * error that names the node, and never a ring of as many places as it may say.
 */
import { RingfsError } from '../base/errors.js'
import type { ClusterSettings, Member, NodeState, RedisValue } from './contract.js'
import { arrayOf, numberOf, textOf } from './reply.js'
import { decodeReport } from './report.js'
import { WEIGHT_MAX } from './ring.js'

export interface ViewReply {
  readonly epoch: number
  readonly changedMs: number
  /** By id, each with a queue of length 0; null: those of the epoch that was named. */
  readonly members: readonly Member[] | null
  /** Of the queues that were asked for. */
  readonly lengths: readonly number[]
  readonly settings: ClusterSettings
  readonly redisMs: number
}

/** Errors: RingfsError INTERNAL, VOLUME_CORRUPT, VOLUME_NEWER. */
export function decodeView(reply: RedisValue): ViewReply {
  const [epoch, members, lengths, settings, now, changed] = arrayOf(reply, 'view')
  return {
    epoch: finite(epoch),
    changedMs: finite(changed),
    members: members === null ? null : decodeMembers(arrayOf(members, 'view')),
    lengths: arrayOf(lengths, 'view').map(finite),
    settings: decodeSettings(settings),
    redisMs: finite(now),
  }
}

function finite(value: RedisValue | undefined): number {
  const number = numberOf(value, 'view')
  if (Number.isFinite(number)) return number
  throw new RingfsError('INTERNAL', `Redis answered view with ${number}, which is not a number of anything`)
}

function decodeSettings(value: RedisValue | undefined): ClusterSettings {
  const fields = arrayOf(value, 'view')
  const number = (index: number): number => finite(fields[index])
  return {
    ...{ suspectMs: number(0), downMs: number(1), outMs: number(2) },
    ...{ healBytesPerS: number(3), walks: number(4), surplusMs: number(5), rings: number(6) },
    scrubMs: number(7),
  }
}

function decodeMembers(list: readonly RedisValue[]): readonly Member[] {
  return list.map(decodeMember).sort((a, b) => (a.id < b.id ? -1 : 1))
}

const STATES: readonly NodeState[] = ['joining', 'up', 'suspect', 'down', 'draining', 'gone']

function decodeState(text: string): NodeState {
  const state = STATES.find((known) => known === text)
  if (state === undefined) throw new RingfsError('VOLUME_NEWER', `a node is in the state '${text}': update ringfs`)
  return state
}

function decodeMember(value: RedisValue): Member {
  const fields = arrayOf(value, 'view')
  const text = (index: number): string => textOf(fields[index], 'view')
  const id = text(0)
  const beat = text(7).split(' ').map(Number)
  const [, totalBytes = 0, freeBytes = 0, chunks = 0] = beat
  const weight = Number(text(3))
  const pid = Number(text(5))
  const isWeight = weight > 0 && weight <= WEIGHT_MAX
  if (!isWeight) throw damaged(id, `its weight is '${text(3)}'`)
  if (!Number.isSafeInteger(pid)) throw damaged(id, `its pid is '${text(5)}'`)
  if (!beat.every(Number.isFinite)) throw damaged(id, `its heartbeat is '${text(7)}'`)
  const report = decodeReport(text(10))
  return {
    ...{ id, weight, pid, totalBytes, freeBytes, chunks },
    address: text(1),
    zone: text(2),
    state: decodeState(text(4)),
    incarnation: text(6),
    silentMs: finite(fields[8]),
    queueLength: 0,
    isOut: text(9) === '1',
    ...(report === undefined ? {} : { report }),
  }
}

function damaged(id: string, why: string): RingfsError {
  const advice = 'stop that node and start it again, which writes it anew'
  return new RingfsError('VOLUME_CORRUPT', `the record of node ${id} on Redis is damaged (${why}): ${advice}`)
}
