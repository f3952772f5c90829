/**
 * Hosts as network namespaces (ip-netns(8)) on a switch of our own (c/wire.c), which loses, delays, doubles and reorders what one host sends
 * to another, each way by itself. The test's own process, and what it starts without more ado, is on port 0. Needs root.
 *
 * As `Network` in network.ts, with faults that a cable does not have.
 */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface, type Interface } from 'node:readline'
import type { Test } from 'tap'
import { compiled } from './compiled.js'
import { within } from './deadline.js'
import type { Place, Places } from './network.js'
import { runIn, sh } from './ringfs.js'

const ANSWER_TIMEOUT_MS = 90_000

/** What happens to what one host sends to another. */
export interface Rule {
  readonly delayMs?: number
  /** Up to so much more: frames overtake each other. */
  readonly jitterMs?: number
  /** Shares of all frames, 0 to 1. */
  readonly loss?: number
  readonly doubled?: number
}

const CUT: Rule = { loss: 1 }
const CLEAR: Rule = {}

export class Wire implements Places {
  readonly #name = `rw${process.pid}`
  /** Its own for each process, so that two tests do not meet. */
  readonly #prefix = `10.214.${1 + (process.pid % 250)}`
  readonly #child: ChildProcessWithoutNullStreams
  readonly #lines: Interface
  #turn: Promise<unknown> = Promise.resolve()
  readonly #hosts: WireHost[] = []

  private constructor(program: string, ports: number, seed: number) {
    this.#child = spawn(program, [this.#name, String(ports), String(seed)], { stdio: 'pipe' })
    this.#child.stderr.pipe(process.stderr)
    this.#child.stdin.on('error', () => undefined)
    this.#lines = createInterface({ input: this.#child.stdout })
  }

  /** `hosts`: as many as will be added. */
  static async of(t: Pick<Test, 'teardown'>, hosts: number, seed = 1): Promise<Wire> {
    const wire = new Wire(await compiled('wire.c'), hosts + 1, seed)
    t.teardown(() => wire.#end())
    await wire.#answer()
    await wire.#dress(`${wire.#name}0`, [], 0)
    return wire
  }

  /** Of this process. */
  get address(): string {
    return `${this.#prefix}.1`
  }

  get hosts(): readonly WireHost[] {
    return this.#hosts
  }

  async addHost(): Promise<WireHost> {
    const number = this.#hosts.length + 1
    const namespace = `${this.#name}-${number}`
    await sh('ip', 'netns', 'add', namespace)
    await sh('ip', 'link', 'set', `${this.#name}${number}`, 'netns', namespace, 'name', 'eth0')
    const inside = ['-netns', namespace]
    await sh('ip', ...inside, 'link', 'set', 'lo', 'up')
    await this.#dress('eth0', inside, number)
    const host = new WireHost(this, number, namespace, `${this.#prefix}.${1 + number}`)
    this.#hosts.push(host)
    return host
  }

  numberOf({ address }: Place): number {
    return Number(address.split('.').at(-1)) - 1
  }

  /** From and to: numbers of hosts, 0 this process, '*' all of them. */
  rule(
    from: number | '*',
    to: number | '*',
    { delayMs = 0, jitterMs = 0, loss = 0, doubled = 0 }: Rule,
  ): Promise<void> {
    const shares = [loss, doubled].map((share) => Math.round(share * 1000))
    this.#turn = this.#turn.then(async () => {
      this.#child.stdin.write(`rule ${[from, to, delayMs, jitterMs, ...shares].join(' ')}\n`)
      await this.#answer()
    })
    return this.#turn.then(() => undefined)
  }

  async #dress(device: string, words: readonly string[], number: number): Promise<void> {
    const mac = `02:00:00:00:00:${number.toString(16).padStart(2, '0')}`
    await sh('ip', ...words, 'link', 'set', device, 'address', mac, 'mtu', '9000', 'up')
    await sh('ip', ...words, 'address', 'add', `${this.#prefix}.${1 + number}/24`, 'dev', device)
  }

  async #answer(): Promise<void> {
    await within(ANSWER_TIMEOUT_MS, once(this.#lines, 'line'), 'the switch')
  }

  async #end(): Promise<void> {
    for (const { namespace } of this.#hosts) await runIn('/', 'ip', ['netns', 'delete', namespace])
    this.#child.kill('SIGKILL')
  }
}

export class WireHost implements Place {
  readonly #wire: Wire
  readonly number: number
  readonly namespace: string
  readonly address: string

  constructor(wire: Wire, number: number, namespace: string, address: string) {
    this.#wire = wire
    this.number = number
    this.namespace = namespace
    this.address = address
  }

  /** Put before a command so that it runs there; its mounts are seen everywhere (ip netns exec would hide them). */
  get words(): readonly string[] {
    return ['nsenter', `--net=/run/netns/${this.namespace}`]
  }

  async cutOff(): Promise<void> {
    await this.impair(CUT)
  }

  async plugIn(): Promise<void> {
    await this.impair(CLEAR)
  }

  /** What it sends to the other is lost; what the other sends arrives. */
  async loseTo(other: Place): Promise<void> {
    await this.#wire.rule(this.number, this.#wire.numberOf(other), CUT)
  }

  async reachAgain(other: Place): Promise<void> {
    await this.#wire.rule(this.number, this.#wire.numberOf(other), CLEAR)
  }

  /** Both ways, with everybody. */
  async impair(rule: Rule): Promise<void> {
    await this.impairSent(rule)
    await this.impairReceived(rule)
  }

  async impairSent(rule: Rule): Promise<void> {
    await this.#wire.rule(this.number, '*', rule)
  }

  async impairReceived(rule: Rule): Promise<void> {
    await this.#wire.rule('*', this.number, rule)
  }
}
