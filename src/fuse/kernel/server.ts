/**
 * The protocol: bytes of requests in, bytes of answers out. It knows neither the device nor the kernel, so it is tested
 * without them.
 *
 * Invariant: every request that wants an answer gets exactly one, whatever its handler does; none gets two.
 */
import { systemClock, type Clock } from '../../base/clock.js'
import { leavesDoubt } from '../../base/doubt.js'
import { ERRNO, PosixError, errnoOf, isErrno } from '../../base/errno.js'
import { messageOf } from '../../base/errors.js'
import { invariant } from '../../base/invariant.js'
import { giveBack } from '../../base/lent.js'
import type { Log } from '../../base/log.js'
import { Metrics, type Timer } from '../../base/metrics.js'
import { Repeats } from '../../base/repeats.js'
import type { Caller, VfsContract } from '../../vfs/contract.js'
import { isDying } from './dying.js'
import { Handlers, type Answer, type AtOnce, type AtOnceTable, type Handler, type Request } from './handlers.js'
import { InUse, askedNodes, heldNodes } from './in-use.js'
import { DIRECT_IO_ALLOW_MMAP, agreedFlags, agreedFlags2, negotiate } from './init.js'
import { KernelCache } from './kernel-cache.js'
import { Notifier, type StartThreads } from './notifier.js'
import { EPOCH_MINOR } from './notify.js'
import { goneInstead, staleInstead } from './stale.js'
import { touchedBy } from './touched.js'
import { BY_CODE, OPCODES, type Opcode } from './opcodes.js'
import { RunningRequest, RunningRequests, type InterruptMode, type RunningOptions } from './running.js'
import { HIGH, IN_HEADER_BYTES, decodeHeader, encodeHeader, readName, readU64, type RequestHeader } from './wire.js'

export interface ServerOptions {
  readonly vfs: VfsContract
  readonly log: Log
  /** One answer, its parts in order. Must not throw, nor use them afterwards. */
  readonly send: (parts: readonly Buffer[]) => void
  /** The kernel is too old, or speaks no FUSE. */
  readonly onRefused: () => void
  /** The mount is ready for requests. */
  readonly onReady?: () => void
  /** How many requests are under way. */
  readonly onUnderWay?: (count: number) => void
  /** Threads that write notifications; without them the kernel keeps nothing. */
  readonly startThreads?: StartThreads
  readonly clock?: Clock
  readonly metrics?: Metrics
  /** Whether anything is mounted below this mount. */
  readonly hasNested?: () => boolean
  /** For tests: running.ts. */
  readonly running?: Partial<RunningOptions>
  /** For tests: kernel-cache.ts. */
  readonly pagesMax?: number
}

const RECHECK_MS = 250
/** What is answered in the turn in which it was read cannot be interrupted. */
const NOBODY_WAITS = new RunningRequest(0, 'never', () => undefined)
const O_TRUNC = 0o1000
/** Handled by the server itself. */
const OWN: ReadonlySet<string> = new Set(['init', 'interrupt'])

/** After these the kernel asks anew, but takes an answer to an earlier question all the same: kernel-cache.ts. */
const OVERTAKING: ReadonlySet<string> = new Set(['setxattr', 'removexattr'])
/** The same for the attributes of directories. */
const NAMING: ReadonlySet<string> = new Set([
  ...['create', 'mknod', 'mkdir', 'symlink', 'link', 'unlink', 'rmdir', 'rename', 'rename2'],
])

export class FuseServer {
  readonly #options: ServerOptions
  readonly #clock: Clock
  readonly #handlers: Handlers
  readonly #table: Readonly<Record<string, Handler>>
  /** By the number of the opcode. */
  readonly #atOnce: readonly (AtOnce | undefined)[]
  readonly #requests: RunningRequests
  /** By the number of the opcode. */
  readonly #timers: readonly (Timer | undefined)[]
  readonly #inUse: InUse
  readonly #asked: InUse
  readonly #notifier: Notifier | null
  readonly #failures: Repeats
  /** What the kernel keeps of this mount. */
  readonly cache: KernelCache
  #isReady = false
  #agreed = 0
  #running = 0
  #idle: (() => void) | undefined

  constructor(options: ServerOptions) {
    this.#options = options
    const { vfs, clock = systemClock, metrics = new Metrics() } = options
    this.#timers = timersOf(metrics)
    this.#clock = clock
    this.#failures = new Repeats(clock)
    this.#inUse = new InUse(clock, (node) => this.#notifier?.free(node))
    this.#asked = new InUse(clock)
    this.#notifier = this.#startNotifier(clock, metrics)
    const { hasNested = () => false, pagesMax } = options
    const isAsked = (node: number): boolean => this.#asked.has(node)
    this.cache = new KernelCache({
      coherence: vfs.coherence,
      pins: vfs,
      clock,
      notifier: this.#notifier,
      isAsked,
      hasNested,
      ...(pagesMax === undefined ? {} : { pagesMax }),
    })
    this.#handlers = new Handlers(vfs, this.cache)
    this.#table = this.#handlers.table
    this.#atOnce = atOnceOf(this.#handlers.atOnce)
    this.#requests = new RunningRequests({ isDying, recheckMs: RECHECK_MS, ...options.running })
    for (const { name } of OPCODES) {
      invariant(OWN.has(name) || this.#table[name] !== undefined, `opcode ${name} has a handler`)
    }
  }

  #startNotifier(clock: Clock, metrics: Metrics): Notifier | null {
    const { startThreads, log } = this.#options
    if (startThreads === undefined) return null
    try {
      return new Notifier({ start: startThreads, clock, log, metrics, isInUse: (node) => this.#inUse.hadLately(node) })
    } catch (error) {
      log.warn({ error: messageOf(error) }, 'no threads for notifications: the kernel caches nothing')
      return null
    }
  }

  /**
   * One request, as it was read. Resolves when its handler is done with the bytes, and the answer is sent, null: that is now; never rejects.
   * What is no request at all is dropped, as the kernel never sends it. `isLent`: the bytes are others' when this returns.
   */
  handle(bytes: Buffer, isLent = false): Promise<void> | null {
    const header = decodeHeader(bytes)
    if (header === null) {
      this.#options.log.error({ bytes: bytes.length }, 'bytes that are no FUSE request')
      return null
    }
    const opcode = BY_CODE.get(header.opcode)
    if (opcode === undefined) {
      this.#fail(header, ERRNO.ENOSYS)
      return null
    }
    const body = bytes.subarray(IN_HEADER_BYTES)
    if (opcode.name === 'init') {
      this.#init(header, body)
      return null
    }
    if (opcode.name === 'interrupt') {
      if (body.length >= opcode.bodyBytes) this.#requests.interrupt(readU64(body, 0))
      return null
    }
    if (this.#runAtOnce(header, opcode, body)) return null
    return this.#run(header, opcode, isLent ? Buffer.from(body) : body)
  }

  /** The kernel has let go. Waits for what is under way (not for what was abandoned: it may hang for ever), then closes what it did not close itself. */
  async end(): Promise<void> {
    this.#requests.abortWaiting()
    this.cache.close()
    if (this.#running > 0) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve
      })
    }
    await this.#handlers.releaseAll(this.#options.log)
  }

  #init(header: RequestHeader, body: Buffer): void {
    const reply = negotiate(body)
    if (reply === null) {
      this.#fail(header, ERRNO.EINVAL)
      this.#options.onRefused()
      return
    }
    this.cache.hasEpoch = body.readUInt32LE(4) >= EPOCH_MINOR
    this.#isReady = true
    this.#agreed = agreedFlags(reply)
    this.cache.canReadPast = (agreedFlags2(reply) & DIRECT_IO_ALLOW_MMAP) !== 0
    this.#options.send([encodeHeader(header, 0, reply.length), reply])
    this.#options.onReady?.()
  }

  /**
   * Answers what needs no waiting; nothing can come between, so nothing is noted of it. false: it is for #run. A request that
   * makes no sense is, too, and there found to make none.
   */
  #runAtOnce(header: RequestHeader, opcode: Opcode, body: Buffer): boolean {
    const answer = this.#atOnce[header.opcode]
    if (answer === undefined || !this.#isReady) return false
    const startMs = performance.now()
    let reply: Buffer | number | undefined
    try {
      reply = answer(parse(header, opcode, body, this.#agreed, NOBODY_WAITS, undefined))
    } catch {
      return false
    }
    if (reply === undefined) return false
    if (opcode.replies) this.#reply(header, reply)
    this.#timers[header.opcode]?.record(performance.now() - startMs)
    return true
  }

  async #run(header: RequestHeader, opcode: Opcode, body: Buffer): Promise<void> {
    this.#count(1)
    const startMs = performance.now()
    const askedMs = this.#clock.monotonicMs()
    const held = heldNodes(header, opcode, body)
    const asked = askedNodes(header, opcode)
    this.#inUse.begin(held)
    this.#asked.begin(asked)
    const unique = header.uniqueLow + header.uniqueHigh * HIGH
    const running = this.#requests.begin(unique, header.pid, interruptMode(opcode, body), () => {
      this.#fail(header, ERRNO.EINTR)
      this.#done()
    })
    let request: Request | undefined
    try {
      if (!this.#isReady) throw new PosixError('EIO', 'a request before INIT')
      const handler = this.#table[opcode.name]
      invariant(handler !== undefined, 'checked at the start')
      request = parse(header, opcode, body, this.#agreed, running, askedMs)
      const answer = await handler(request)
      if (OVERTAKING.has(opcode.name)) await this.cache.overtook(header.node)
      if (NAMING.has(opcode.name)) for (const node of held.nodes) this.cache.namesChanged(node, header.pid)
      if (!running.isAbandoned && opcode.replies) {
        this.#answer(header, answer)
      } else {
        giveAllBack(answer)
        if (running.isAbandoned) await this.#handlers.drop(opcode.name, request, answer)
      }
    } catch (thrown) {
      if (request !== undefined && leavesDoubt(thrown)) this.cache.doubt(touchedBy(opcode.name, request))
      const error = await this.#staleInstead(thrown, opcode, header)
      this.#report(opcode, error)
      if (opcode.replies && !running.isAbandoned) this.#fail(header, errnoOf(error))
    } finally {
      this.#inUse.end(held)
      this.#asked.end(asked)
      this.#requests.end(unique, running)
      this.#timers[header.opcode]?.record(performance.now() - startMs)
      if (!running.isAbandoned) this.#done()
    }
  }

  /** ESTALE only once: after the second walk there is no other. An open sees to that itself. */
  async #staleInstead(thrown: unknown, { name }: Opcode, header: RequestHeader): Promise<unknown> {
    // Other errors end no walk: on its way the kernel asks for ACLs, and mostly there are none.
    if (!isErrno(thrown, 'ENOENT') && !isErrno(thrown, 'ESTALE')) return thrown
    const { secondWalks } = this.cache
    if (name !== 'open' && secondWalks.ledTo(header.pid, header.node)) {
      secondWalks.end(header.pid)
      return await goneInstead(thrown, this.#options.vfs, name, header, header.node)
    }
    const error = await staleInstead(thrown, this.#options.vfs, name, header, header.node)
    if (name !== 'open' && isErrno(error, 'ESTALE')) secondWalks.begin(header.pid, header.node)
    return error
  }

  #count(change: 1 | -1): void {
    this.#running += change
    this.#options.onUnderWay?.(this.#running)
  }

  #done(): void {
    this.#count(-1)
    if (this.#running === 0) this.#idle?.()
  }

  #answer(header: RequestHeader, answer: Answer): void {
    if (answer === undefined) {
      this.#options.send([encodeHeader(header, 0, 0)])
    } else if (Buffer.isBuffer(answer)) {
      this.#options.send([encodeHeader(header, 0, answer.length), answer])
    } else {
      const bytes = answer.reduce((sum, part) => sum + part.length, 0)
      this.#options.send([encodeHeader(header, 0, bytes), ...answer])
    }
    giveAllBack(answer)
  }

  #reply(header: RequestHeader, reply: Buffer | number): void {
    if (typeof reply !== 'number') this.#answer(header, reply)
    else if (reply === 0) this.#answer(header, undefined)
    else this.#fail(header, reply)
  }

  #fail(header: RequestHeader, errno: number): void {
    const timer = this.#timers[header.opcode]
    if (timer !== undefined) timer.errors++
    this.#options.send([encodeHeader(header, errno, 0)])
  }

  #report(opcode: Opcode, error: unknown): void {
    if (error instanceof PosixError && error.code !== 'EIO') return
    const message = messageOf(error)
    const times = this.#failures.times(`${opcode.name} ${message}`)
    if (times > 0) this.#options.log.error({ operation: opcode.name, error: message, times }, 'a request failed')
  }
}

/** Its memory is others' from now on, if it was lent. */
function giveAllBack(answer: Answer): void {
  if (Buffer.isBuffer(answer)) giveBack(answer)
  else for (const part of answer ?? []) giveBack(part)
}

function atOnceOf(table: AtOnceTable): readonly (AtOnce | undefined)[] {
  const byCode: (AtOnce | undefined)[] = []
  for (const { code, name } of OPCODES) byCode[code] = table[name]
  return byCode
}

function timersOf(metrics: Metrics): readonly (Timer | undefined)[] {
  const timers: (Timer | undefined)[] = []
  for (const { code, name } of OPCODES) timers[code] = metrics.timer('fuse', name)
  return timers
}

/** An open that cuts the file changes it. */
function interruptMode(opcode: Opcode, body: Buffer): InterruptMode {
  const cuts = opcode.name === 'open' && body.length >= opcode.bodyBytes && (body.readUInt32LE(0) & O_TRUNC) !== 0
  return cuts ? 'never' : opcode.interrupt
}

function parse(
  header: RequestHeader,
  opcode: Opcode,
  body: Buffer,
  agreed: number,
  running: RunningRequest,
  askedMs: number | undefined,
): Request {
  const { extended } = opcode
  const isExtended = extended !== undefined && (agreed & extended.flag) !== 0
  const bodyBytes = isExtended ? extended.bodyBytes : opcode.bodyBytes
  if (body.length < bodyBytes) throw new PosixError('EINVAL', `a ${opcode.name} request is too short`)
  const names: Buffer[] = []
  let rest = bodyBytes
  for (let i = 0; i < opcode.names; i++) {
    const one = readName(body, rest)
    if (one === null) throw new PosixError('EINVAL', `a name in a ${opcode.name} request has no end`)
    names.push(one.name)
    rest = one.next
  }
  return new ParsedRequest(header, body, names, rest, agreed, running, askedMs)
}

class ParsedRequest implements Request {
  readonly node: number
  readonly caller: Caller
  readonly askedMs: number | undefined
  readonly body: Buffer
  readonly names: readonly Buffer[]
  readonly rest: number
  readonly agreed: number
  readonly #running: RunningRequest

  constructor(
    { node, uid, gid, pid }: RequestHeader,
    body: Buffer,
    names: readonly Buffer[],
    rest: number,
    agreed: number,
    running: RunningRequest,
    askedMs: number | undefined,
  ) {
    this.node = node
    this.caller = { uid, gid, pid }
    this.askedMs = askedMs
    this.body = body
    this.names = names
    this.rest = rest
    this.agreed = agreed
    this.#running = running
  }

  get signal(): AbortSignal {
    return this.#running.signal
  }
}
