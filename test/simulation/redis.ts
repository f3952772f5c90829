/**
 * A Redis in memory that knows what membership and the replication queues ask of it. It carries out one script after the other, as
 * the real one does, and tells the checker what each of them changed.
 */
import { RingfsError } from '../../src/base/errors.js'
import type { RedisArg, RedisValue } from '../../src/cluster/contract.js'
import {
  beat,
  leave,
  parseMember,
  register,
  transition,
  view,
  type Call,
  type Hash,
  type StoredMember,
} from './redis-members.js'
import { Streams } from './redis-streams.js'

export interface MemberChange {
  readonly id: string
  readonly before: StoredMember | undefined
  readonly after: StoredMember
}

export interface RedisObserver {
  /** After a script that wrote members. */
  onMembers?(script: string, changes: readonly MemberChange[], epochBefore: number, epochAfter: number): void
  onQueued?(key: string, tasks: readonly string[]): void
  /** Before entries are deleted: their texts. */
  onDone?(key: string, tasks: readonly string[]): void
}

const SCRIPTS = { register, beat, leave, transition }

function isMembership(name: string): name is keyof typeof SCRIPTS {
  return Object.hasOwn(SCRIPTS, name)
}

function epochOf({ options }: Call): number {
  return Number(options.get('epoch') ?? 0)
}

export class SimulatedRedis {
  readonly hashes = new Map<string, Hash>()
  readonly queues = new Streams()
  readonly #nowMs: () => number
  readonly #observer: RedisObserver
  calls = 0

  /** `nowMs`: since 1970, whole. */
  constructor(nowMs: () => number, observer: RedisObserver = {}) {
    this.#nowMs = nowMs
    this.#observer = observer
  }

  hash(key: string): Hash {
    let hash = this.hashes.get(key)
    if (hash === undefined) this.hashes.set(key, (hash = new Map<string, string>()))
    return hash
  }

  run(name: string, keys: readonly string[], args: readonly RedisArg[]): RedisValue {
    this.calls++
    if (isMembership(name) || name === 'view') return this.#membership(name, keys, args)
    return name === 'queue-add' ? this.#add(keys, args) : this.#queue(name, keys[0] ?? '', args)
  }

  #membership(name: keyof typeof SCRIPTS | 'view', keys: readonly string[], args: readonly RedisArg[]): RedisValue {
    const [members = '', beats = '', options = '', reports = '', ...queues] = keys
    const changes: MemberChange[] = []
    const call: Call = {
      members: this.hash(members),
      beats: this.hash(beats),
      options: this.hash(options),
      reports: this.hash(reports),
      nowMs: this.#nowMs(),
      onWrite: (id, before, after) => changes.push({ id, before, after }),
    }
    const before = epochOf(call)
    const reply =
      name === 'view'
        ? view(
            call,
            args,
            queues.map((key) => this.queues.length(key)),
          )
        : SCRIPTS[name](call, args)
    const after = epochOf(call)
    if (changes.length > 0 || after !== before) this.#observer.onMembers?.(name, changes, before, after)
    return reply
  }

  #add([key = '', members = '']: readonly string[], [id, ...tasks]: readonly RedisArg[]): number {
    const member = this.hash(members).get(String(id))
    if (member !== undefined && parseMember(member).state === 'gone') return 0
    this.#observer.onQueued?.(key, tasks.map(String))
    return this.queues.add(key, tasks, this.#nowMs())
  }

  #queue(name: string, key: string, args: readonly RedisArg[]): RedisValue {
    const nowMs = this.#nowMs()
    switch (name) {
      case 'queue-take':
        return this.queues.take(key, args, nowMs)
      case 'queue-done':
        this.#observer.onDone?.(key, this.#textsOf(key, args))
        return this.queues.done(key, args)
      case 'queue-retry':
        return this.queues.retry(key, args, nowMs)
      case 'queue-mark':
        return this.queues.mark(key)
      case 'queue-inherit':
        return this.queues.inherit(key, args, nowMs)
      case 'queue-prune':
        return this.queues.prune(key, args, nowMs)
      case 'queue-steady':
        return this.queues.steady(key, args, nowMs)
      default:
        throw new RingfsError('INTERNAL', `the simulated Redis does not know the script ${name}`)
    }
  }

  #textsOf(key: string, ids: readonly RedisArg[]): readonly string[] {
    return ids.flatMap((id) => this.queues.streams.get(key)?.entries.get(String(id)) ?? [])
  }

  command(name: string, key: string, args: readonly RedisArg[]): RedisValue {
    this.calls++
    switch (name) {
      case 'HSET':
        return this.#hset(key, args)
      case 'HINCRBY': {
        const hash = this.hash(key)
        const value = Number(hash.get(String(args[0])) ?? 0) + Number(args[1])
        hash.set(String(args[0]), String(value))
        return value
      }
      case 'XLEN':
        return this.queues.length(key)
      case 'UNLINK':
        return this.queues.unlink(key)
      default:
        throw new RingfsError('INTERNAL', `the simulated Redis does not know ${name}`)
    }
  }

  #hset(key: string, args: readonly RedisArg[]): number {
    const hash = this.hash(key)
    let added = 0
    for (let at = 0; at + 1 < args.length; at += 2) {
      const field = String(args[at])
      if (!hash.has(field)) added++
      hash.set(field, String(args[at + 1]))
    }
    return added
  }
}
