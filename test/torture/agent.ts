/** The caller's side of test/helpers/c/ringfs-syscalls.c: a process that does system calls as it is told. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { once } from 'node:events'
import { constants } from 'node:os'
import { createInterface } from 'node:readline'
import { compiled } from '../helpers/compiled.js'
import { within } from '../helpers/deadline.js'

/** Of one system call, an outage of Redis or of a chunk node in the middle of it included. */
const CALL_TIMEOUT_MS = 120_000
const ERRNO_NAMES = new Map(Object.entries(constants.errno).map(([name, value]) => [value, name]))

/** One command: its words, names escaped. */
export type Words = readonly string[]

export interface Reply {
  /** `OK`, with what the call answered and its lines; or the errno's name. Without what is the file system's own affair. */
  readonly text: string
  readonly isOk: boolean
  readonly lines: readonly string[]
  /** What stands after `#`. */
  readonly own: readonly string[]
}

/** Answers the agent's path. */
export function compileAgent(): Promise<string> {
  return compiled('ringfs-syscalls.c')
}

/** The agent has ended, or was ended. */
export class AgentGone extends Error {}

export class Agent {
  readonly #child: ChildProcessWithoutNullStreams
  readonly #gone: Promise<unknown>
  readonly #waiting: ((reply: Reply) => void)[] = []
  #lines: string[] = []

  constructor(program: string) {
    this.#child = spawn(program, [], { cwd: '/', stdio: 'pipe' })
    this.#gone = once(this.#child, 'close').catch((error: unknown) => error)
    this.#child.stdin.on('error', () => undefined)
    createInterface({ input: this.#child.stdout }).on('line', (line) => this.#onLine(line))
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  /** Rejects with AgentGone when the agent ends first, and when the call takes longer than any should. */
  async call(words: Words): Promise<Reply> {
    const answered = new Promise<Reply>((resolve) => this.#waiting.push(resolve))
    this.#child.stdin.write(`${words.join(' ')}\n`)
    const gone = this.#gone.then(() => {
      throw new AgentGone(`the agent ended during ${words.join(' ')}`)
    })
    return within(CALL_TIMEOUT_MS, Promise.race([answered, gone]), words.join(' '))
  }

  /** A call that must succeed. */
  async must(words: Words): Promise<Reply> {
    const reply = await this.call(words)
    if (!reply.isOk) throw new Error(`${words.join(' ')}: ${reply.text}`)
    return reply
  }

  async end(): Promise<void> {
    this.#child.kill('SIGKILL')
    await this.#gone
  }

  #onLine(line: string): void {
    if (line.startsWith('|') || line === '') {
      this.#lines.push(line)
      return
    }
    const lines = this.#lines
    this.#lines = []
    this.#waiting.shift()?.(parseReply(line, lines))
  }
}

function parseReply(last: string, lines: readonly string[]): Reply {
  const [told = '', own = ''] = last.split('#')
  const [verdict, ...rest] = told.trim().split(' ')
  const isOk = verdict === 'OK'
  const end = isOk ? told.trim() : (ERRNO_NAMES.get(Number(rest[0])) ?? told)
  return { text: [...lines.map(withoutOwn), end].join('\n'), isOk, lines, own: own.split(' ') }
}

function withoutOwn(line: string): string {
  return line.replace(/ #.*$/, '')
}
