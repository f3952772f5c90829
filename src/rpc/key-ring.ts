/**
 * The cluster keys that a process knows. The first is offered first, all are accepted: so a new key is put in front on one
 * machine after the other, in any order, and the old one is taken away when all have the new one. No connection fails
 * meanwhile: who is refused with the new key tries the older ones.
 *
 *     file       A        B A      B          a line each, the first is the newest
 *     offers     A        B, A     B
 *     accepts    A        A, B     B
 *
 * The id of a key is made from the key, tells nothing of it, and travels in the clear: it is how the two sides know which
 * of several keys is meant.
 */
import { hkdfSync } from 'node:crypto'
import { RingfsError } from '../base/errors.js'

/** Short keys can be guessed from one recorded handshake. */
const CLUSTER_KEY_MIN_BYTES = 16
/** More is no rotation. Each costs a refused handshake where it is not known. */
export const CLUSTER_KEYS_MAX = 8
const PSK_BYTES = 32
const ID_BYTES = 8

export interface ClusterKey {
  /** 16 hexadecimal digits. */
  readonly id: string
  readonly psk: Buffer
}

/** Errors: RingfsError KEY_REQUIRED for a key that is too short. */
export function clusterKey(secret: Buffer): ClusterKey {
  if (secret.length < CLUSTER_KEY_MIN_BYTES) {
    throw new RingfsError(
      'KEY_REQUIRED',
      `the cluster key has ${secret.length} bytes, at least ${CLUSTER_KEY_MIN_BYTES} are needed: make one with ringfs key new FILE`,
    )
  }
  return { id: derive(secret, 'ringfs key id v1', ID_BYTES).toString('hex'), psk: pskOf(secret) }
}

function pskOf(secret: Buffer): Buffer {
  return derive(secret, 'ringfs tls-psk v1', PSK_BYTES)
}

function derive(secret: Buffer, purpose: string, bytes: number): Buffer {
  return Buffer.from(hkdfSync('sha256', secret, Buffer.alloc(0), purpose, bytes))
}

/** The secrets of a key file, a line each; empty lines and those that begin with # say nothing. */
export function secretsIn(text: string): readonly string[] {
  const lines = text.split('\n').map((line) => line.trim())
  return lines.filter((line) => line !== '' && !line.startsWith('#'))
}

/** Errors: RingfsError KEY_REQUIRED for no key, too many, or one that is too short. */
export function parseKeys(text: string): readonly ClusterKey[] {
  const keys = new Map(secretsIn(text).map((secret) => keyEntry(Buffer.from(secret))))
  if (keys.size === 0) throw new RingfsError('KEY_REQUIRED', 'there is no key: make one with ringfs key new FILE')
  if (keys.size > CLUSTER_KEYS_MAX) {
    throw new RingfsError(
      'KEY_REQUIRED',
      `there are ${keys.size} keys, at most ${CLUSTER_KEYS_MAX} can be in use at once`,
    )
  }
  return [...keys.values()]
}

function keyEntry(secret: Buffer): [string, ClusterKey] {
  const key = clusterKey(secret)
  return [key.id, key]
}

export class KeyRing {
  #keys: readonly ClusterKey[]
  readonly #listeners = new Set<() => void>()

  /** At least one. */
  constructor(keys: readonly ClusterKey[]) {
    this.#keys = keys
  }

  /** Errors: RingfsError KEY_REQUIRED. */
  static of(...secrets: readonly Buffer[]): KeyRing {
    return new KeyRing(secrets.map(clusterKey))
  }

  /** In the order in which they are offered. */
  get keys(): readonly ClusterKey[] {
    return this.#keys
  }

  /** The one that is offered first: what new connections are to be made with. */
  get newest(): ClusterKey | undefined {
    return this.#keys[0]
  }

  find(id: string): ClusterKey | undefined {
    return this.#keys.find((key) => key.id === id)
  }

  /** Listeners hear of it only when something changed. */
  replace(keys: readonly ClusterKey[]): boolean {
    const isSame = keys.length === this.#keys.length && keys.every(({ id }, index) => id === this.#keys[index]?.id)
    if (isSame) return false
    this.#keys = keys
    for (const listener of [...this.#listeners]) listener()
    return true
  }

  /** Answers how to stop listening. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }
}
