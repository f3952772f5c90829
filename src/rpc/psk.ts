/**
 * The cluster key as TLS 1.3 pre-shared key, with an ephemeral key exchange: no certificates, and a key that leaks later
 * does not open what was recorded. TLS 1.3 binds the handshake to the key, so a wrong one is noticed before any frame.
 */
import { hkdfSync } from 'node:crypto'
import type { ConnectionOptions, TlsOptions } from 'node:tls'
import { RingfsError } from '../base/errors.js'

/** Short keys can be guessed from one recorded handshake. */
export const CLUSTER_KEY_MIN_BYTES = 16
const PSK_BYTES = 32
const IDENTITY = 'ringfs'
const SUITE: Pick<TlsOptions, 'minVersion' | 'ciphers'> = { minVersion: 'TLSv1.3', ciphers: 'TLS_AES_128_GCM_SHA256' }

function pskOf(clusterKey: Buffer): Buffer {
  if (clusterKey.length < CLUSTER_KEY_MIN_BYTES) {
    throw new RingfsError(
      'KEY_REQUIRED',
      `the cluster key has ${clusterKey.length} bytes, at least ${CLUSTER_KEY_MIN_BYTES} are needed`,
    )
  }
  return Buffer.from(hkdfSync('sha256', clusterKey, Buffer.alloc(0), 'ringfs tls-psk v1', PSK_BYTES))
}

export function tlsServerOptions(clusterKey: Buffer): TlsOptions {
  const psk = pskOf(clusterKey)
  return { ...SUITE, pskCallback: (_socket, identity) => (identity === IDENTITY ? psk : null) }
}

export function tlsClientOptions(clusterKey: Buffer): ConnectionOptions {
  const psk = pskOf(clusterKey)
  return {
    ...SUITE,
    pskCallback: () => ({ identity: IDENTITY, psk }),
    // There is no certificate whose name could be checked: that the peer knows the key is its identity.
    checkServerIdentity: () => undefined,
  }
}

/** What a failed handshake means to the user. */
export function explainTlsFailure(code: string, peer: string): RingfsError | null {
  if (code === 'ERR_SSL_WRONG_VERSION_NUMBER' || code === 'ERR_SSL_PACKET_LENGTH_TOO_LONG') {
    return new RingfsError('KEY_REQUIRED', `${peer} has no cluster key, this side has one: give both the same`)
  }
  if (code.startsWith('ERR_SSL_')) {
    return new RingfsError('KEY_REQUIRED', `the cluster key of ${peer} is not the same as this side's (${code})`)
  }
  return null
}
