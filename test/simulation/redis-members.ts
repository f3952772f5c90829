/**
 * The scripts of membership (src/cluster/scripts/{register,beat,leave,transition,view}.lua) over hashes in memory: the same
 * arguments, the same answers, the same state afterwards. test/cluster/simulated-redis plays both side by side.
 */
import type { RedisArg, RedisValue } from '../../src/cluster/contract.js'

export type Hash = Map<string, string>

/** As it stands in the hash of members; all are strings. */
export interface StoredMember {
  readonly address: string
  readonly zone: string
  readonly weight: string
  readonly pid: string
  readonly incarnation: string
  readonly state: string
  readonly left: string
  readonly out: string
}

/** One call of a script: its keys, and the time. */
export interface Call {
  readonly members: Hash
  readonly beats: Hash
  readonly options: Hash
  readonly reports: Hash
  readonly nowMs: number
  /** Told of every member that is written: as it was and as it is. */
  readonly onWrite: (id: string, before: StoredMember | undefined, after: StoredMember) => void
}

const parsed = new Map<string, StoredMember>()
const PARSED_MAX = 10_000

function isMember(value: unknown): value is StoredMember {
  return typeof value === 'object' && value !== null && 'state' in value
}

/** The same few texts are asked for again and again. */
export function parseMember(text: string): StoredMember {
  const known = parsed.get(text)
  if (known !== undefined) return known
  const value: unknown = JSON.parse(text)
  if (!isMember(value)) throw new Error(`no member: ${text}`)
  if (parsed.size >= PARSED_MAX) parsed.clear()
  parsed.set(text, value)
  return value
}

function readMember({ members }: Call, id: string): StoredMember | undefined {
  const text = members.get(id)
  return text === undefined ? undefined : parseMember(text)
}

function isOnRing({ state, out }: StoredMember): boolean {
  return hasPlace(state) && out !== '1'
}

function place(member: StoredMember | undefined): string {
  return member !== undefined && isOnRing(member) ? `${member.weight} ${member.zone}` : ''
}

function writeMember(call: Call, id: string, member: StoredMember): void {
  const old = readMember(call, id)
  call.onWrite(id, old, member)
  if (place(old) !== place(member))
    call.options.set('rings', String(Math.max(call.nowMs, option(call, 'rings', 0) + 1)))
  call.members.set(id, JSON.stringify(member))
}

function option({ options }: Call, name: string, byDefault: number): number {
  const text = options.get(name)
  return text === undefined ? byDefault : Number(text)
}

function raiseEpoch(call: Call): void {
  call.options.set('epoch', String(option(call, 'epoch', 0) + 1))
  call.options.set('changed', String(call.nowMs))
}

function beatMs({ beats }: Call, id: string): number {
  const beat = beats.get(id)
  // What stands first in it.
  return beat === undefined ? 0 : Number.parseInt(beat, 10)
}

function silenceMs(call: Call, id: string): number {
  return call.nowMs - Math.max(beatMs(call, id), option(call, 'resumed', 0))
}

function writeBeat(call: Call, id: string, figures: readonly RedisArg[]): void {
  call.beats.set(id, [call.nowMs, ...figures].join(' '))
}

/** Who gets them only reads them. */
const texts = new Map<string, Buffer>()
const TEXTS_MAX = 10_000

function text(value: string): Buffer {
  let known = texts.get(value)
  if (known !== undefined) return known
  if (texts.size >= TEXTS_MAX) texts.clear()
  texts.set(value, (known = Buffer.from(value)))
  return known
}

function arg(args: readonly RedisArg[], index: number): string {
  return String(args[index] ?? '')
}

function suspectMs(call: Call): number {
  return option(call, 'suspectMs', 4_000)
}

export function register(call: Call, args: readonly RedisArg[]): RedisValue {
  const [id, incarnation] = [arg(args, 0), arg(args, 1)]
  const old = readMember(call, id)
  if (old?.left === incarnation) return [text('left')]
  const isHeld = old !== undefined && old.state !== 'down' && old.state !== 'gone' && old.left !== old.incarnation
  if (isHeld && old.incarnation !== incarnation && silenceMs(call, id) <= suspectMs(call)) {
    return [text('claimed'), text(old.address), text(old.pid), beatMs(call, id), suspectMs(call)]
  }
  writeBeat(call, id, args.slice(6, 9))
  if (old?.incarnation === incarnation && old.state !== 'gone') return [text('ok')]
  writeMember(call, id, {
    ...{ address: arg(args, 2), zone: arg(args, 3), weight: arg(args, 4), pid: arg(args, 5), incarnation },
    ...{ state: registered(old), left: '', out: '' },
  })
  raiseEpoch(call)
  return [text('ok')]
}

function registered(old: StoredMember | undefined): string {
  if (old?.state === 'draining') return 'draining'
  return old !== undefined && isOnRing(old) ? 'suspect' : 'joining'
}

export function beat(call: Call, args: readonly RedisArg[]): RedisValue {
  const [id, incarnation, report] = [arg(args, 0), arg(args, 1), arg(args, 5)]
  const member = readMember(call, id)
  if (member === undefined) return [text('unknown')]
  if (member.incarnation !== incarnation) return [text('superseded'), text(member.address), text(member.pid)]
  if (member.left === incarnation) return [text('left')]
  if (member.state === 'gone') return [text('gone')]
  writeBeat(call, id, args.slice(2, 5))
  if (report !== '') call.reports.set(id, report)
  if (member.state === 'up' || member.state === 'draining') return [text('ok'), text(member.state), call.nowMs]
  writeMember(call, id, { ...member, state: 'up', out: '' })
  raiseEpoch(call)
  return [text('ok'), text('up'), call.nowMs]
}

export function leave(call: Call, args: readonly RedisArg[]): RedisValue {
  const [id, incarnation] = [arg(args, 0), arg(args, 1)]
  const member = readMember(call, id)
  if (member === undefined || member.incarnation !== incarnation || member.left === incarnation) return 0
  const state = member.state === 'gone' || member.state === 'draining' ? member.state : 'down'
  writeMember(call, id, { ...member, left: incarnation, state })
  raiseEpoch(call)
  return 1
}

export function transition(call: Call, args: readonly RedisArg[]): RedisValue {
  const [id, to] = [arg(args, 0), arg(args, 1)]
  const member = readMember(call, id)
  if (member === undefined) return [0, text('')]
  if (member.state === to) return [1, text(to)]
  if (!args.slice(2).map(String).includes(member.state)) return [0, text(member.state)]
  writeMember(call, id, { ...member, state: to, out: '' })
  raiseEpoch(call)
  return [1, text(to)]
}

function judged(state: string, silentMs: number, suspect: number, down: number): string {
  const isLiving = state === 'up' || state === 'suspect' || state === 'joining'
  if (isLiving && silentMs > down) return 'down'
  return state === 'up' && silentMs > suspect ? 'suspect' : state
}

function hasPlace(state: string): boolean {
  return state === 'up' || state === 'suspect' || state === 'down'
}

/** Whether it is time to judge. */
function tick(call: Call, suspect: number): boolean {
  const sinceMs = call.nowMs - option(call, 'tick', 0)
  if (sinceMs > suspect) call.options.set('resumed', String(call.nowMs))
  const isDue = sinceMs >= Math.min(1_000, suspect / 4) || sinceMs < 0
  if (isDue) call.options.set('tick', String(call.nowMs))
  return isDue
}

function forgetFuture(call: Call): void {
  const { nowMs, options, beats, members } = call
  if (option(call, 'resumed', 0) > nowMs) options.set('resumed', String(nowMs))
  for (const id of members.keys()) {
    if (beatMs(call, id) > nowMs) beats.set(id, (beats.get(id) ?? '').replace(/^\d+/, String(nowMs)))
  }
}

/** Who is silent for too long: written, and one new epoch for all. */
function judge(call: Call, suspect: number, down: number, out: number): void {
  const all = [...call.members].map(([id, member]) => ({ id, was: parseMember(member) }))
  const placed = all.filter(({ was }) => hasPlace(was.state)).length
  let inside = all.filter(({ was }) => hasPlace(was.state) && was.out !== '1').length
  let isChanged = false
  for (const { id, was } of all) {
    const silentMs = silenceMs(call, id)
    const state = judged(was.state, silentMs, suspect, down)
    const isOut = state === 'down' && was.out !== '1' && silentMs > out && (inside - 1) * 2 >= placed
    if (isOut) inside--
    if (state === was.state && !isOut) continue
    writeMember(call, id, { ...was, state, ...(isOut ? { out: '1' } : {}) })
    isChanged = true
  }
  if (isChanged) raiseEpoch(call)
}

/** Of a member text: what does not change with time. */
const shown = new WeakMap<StoredMember, readonly Buffer[]>()

function shownOf(member: StoredMember): readonly Buffer[] {
  const known = shown.get(member)
  if (known !== undefined) return known
  const { address, zone, weight, state, pid, incarnation } = member
  const fresh = [address, zone, weight, state, pid, incarnation].map(text)
  shown.set(member, fresh)
  return fresh
}

function told(call: Call): RedisValue {
  return [...call.members].map(([id, stored]): RedisValue => {
    const member = parseMember(stored)
    const silent = Math.max(0, call.nowMs - beatMs(call, id))
    const beat = text(call.beats.get(id) ?? '0 0 0 0')
    return [text(id), ...shownOf(member), beat, silent, text(member.out), text(call.reports.get(id) ?? '')]
  })
}

/** `lengths`: of the queues whose keys were given. */
export function view(call: Call, args: readonly RedisArg[], lengths: readonly number[]): RedisValue {
  const [suspect, down, out] = [suspectMs(call), option(call, 'downMs', 15_000), option(call, 'outMs', 300_000)]
  if (tick(call, suspect)) {
    forgetFuture(call)
    judge(call, suspect, down, out)
  }
  const changedMs = option(call, 'changed', 0)
  const isKnown = Number(args[0] ?? -1) === option(call, 'epoch', 0) && Number(args[1] ?? -1) === changedMs
  const list = isKnown ? null : told(call)
  const limits = [option(call, 'healBytesPerS', 0), option(call, 'walks', 0), option(call, 'surplusMs', 60_000)]
  const rings = option(call, 'rings', 0)
  const settings = [suspect, down, out, ...limits, rings, option(call, 'scrubMs', 604_800_000)].map(Math.trunc)
  return [option(call, 'epoch', 0), list, lengths, settings, call.nowMs, changedMs]
}
