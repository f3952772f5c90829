/**
 * Hosts as network namespaces on one bridge (ip-netns(8), veth(4)), each with an address of its own; this process is on the bridge, too.
 * Needs root. Everything is taken down with the test; what is left of a test that was killed has its pid in the name.
 */
import type { Test } from 'tap'
import { runIn, sh } from './ringfs.js'

/** Where a process runs. `Network` here and `Wire` in wire.ts make such places. */
export interface Place {
  readonly address: string
  /** Put before a command so that it runs there. */
  readonly words: readonly string[]
  cutOff(): Promise<void>
  plugIn(): Promise<void>
  loseTo(other: Place): Promise<void>
  reachAgain(other: Place): Promise<void>
}

export interface Places {
  /** Of this process. */
  readonly address: string
  addHost(): Promise<Place>
}

export class Network implements Places {
  readonly #name = `rf${process.pid}`
  /** Its own for each process, so that two tests do not meet. */
  readonly #prefix = `10.213.${1 + (process.pid % 250)}`
  #hosts = 0

  static async of(t: Pick<Test, 'teardown'>): Promise<Network> {
    const network = new Network()
    t.teardown(() => network.#end())
    await ip('link', 'add', network.#bridge, 'type', 'bridge')
    await ip('address', 'add', `${network.address}/24`, 'dev', network.#bridge)
    await ip('link', 'set', network.#bridge, 'up')
    return network
  }

  get #bridge(): string {
    return `${this.#name}b`
  }

  /** Of this process. */
  get address(): string {
    return `${this.#prefix}.1`
  }

  async addHost(): Promise<Host> {
    const number = ++this.#hosts
    const host = new Host(`${this.#name}-${number}`, `${this.#name}v${number}`, `${this.#prefix}.${10 + number}`)
    await ip('netns', 'add', host.namespace)
    await ip('link', 'add', host.port, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', host.namespace)
    await ip('link', 'set', host.port, 'master', this.#bridge, 'up')
    await host.ip('link', 'set', 'lo', 'up')
    await host.ip('address', 'add', `${host.address}/24`, 'dev', 'eth0')
    await host.ip('link', 'set', 'eth0', 'up')
    return host
  }

  async #end(): Promise<void> {
    for (let number = 1; number <= this.#hosts; number++) {
      await runIn('/', 'ip', ['link', 'delete', `${this.#name}v${number}`])
      await runIn('/', 'ip', ['netns', 'delete', `${this.#name}-${number}`])
    }
    await runIn('/', 'ip', ['link', 'delete', this.#bridge])
  }
}

class Host implements Place {
  readonly namespace: string
  /** Its cable's end on the bridge. */
  readonly port: string
  readonly address: string

  constructor(namespace: string, port: string, address: string) {
    this.namespace = namespace
    this.port = port
    this.address = address
  }

  /** What is put before a command so that it runs there. */
  get words(): readonly string[] {
    return ['ip', 'netns', 'exec', this.namespace]
  }

  async ip(...words: readonly string[]): Promise<void> {
    await ip('-netns', this.namespace, ...words)
  }

  /** Takes its cable out. */
  async cutOff(): Promise<void> {
    await ip('link', 'set', this.port, 'down')
  }

  async plugIn(): Promise<void> {
    await ip('link', 'set', this.port, 'up')
  }

  /** What it sends to the other is lost; what the other sends arrives. */
  async loseTo(other: Place): Promise<void> {
    await this.ip('route', 'add', 'blackhole', `${other.address}/32`)
  }

  async reachAgain(other: Place): Promise<void> {
    await this.ip('route', 'delete', 'blackhole', `${other.address}/32`)
  }
}

/** From now on packets that fit `rule` (iptables(8)) are lost where `words` run. Answers what takes it back. */
export async function losePackets(words: readonly string[], rule: readonly string[]): Promise<() => Promise<void>> {
  const iptables = async (action: string): Promise<void> => {
    const [program, ...rest] = [...words, 'iptables', '-w', action, ...rule, '-j', 'DROP']
    await sh(program, ...rest)
  }
  await iptables('-A')
  return () => iptables('-D')
}

async function ip(...words: readonly string[]): Promise<void> {
  await sh('ip', ...words)
}
