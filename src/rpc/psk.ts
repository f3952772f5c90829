/**
 * The cluster key as TLS 1.3 pre-shared key, with an ephemeral key exchange: no certificates, and a key that leaks later
 * does not open what was recorded. TLS 1.3 binds the handshake to the key, so a wrong one is noticed before any frame.
 *
 * Node has pskCallback only as TLS 1.2 knows it; OpenSSL uses it for TLS 1.3, too, with the one suite whose hash is SHA-256
 * and which it takes for such keys (SSL_CTX_set_psk_client_callback(3)). Key exchange without an ephemeral part (psk_ke) is
 * off in OpenSSL unless asked for.
 */
import { constants } from 'node:crypto'
import type { ConnectionOptions, TLSSocket, TlsOptions } from 'node:tls'
import { RingfsError } from '../base/errors.js'
import type { ClusterKey, KeyRing } from './key-ring.js'

const IDENTITY = /^ringfs\/([0-9a-f]{16})$/
const SUITE: Pick<TlsOptions, 'minVersion' | 'ciphers'> = { minVersion: 'TLSv1.3', ciphers: 'TLS_AES_128_GCM_SHA256' }

/** Which key a peer offered. */
export interface Offered {
  readonly id: string
  readonly isKnown: boolean
}

/** `onOffer`: hears of each handshake which key it names. Errors: none. */
export function tlsServerOptions(ring: KeyRing, onOffer: (socket: TLSSocket, offered: Offered) => void): TlsOptions {
  return {
    ...SUITE,
    // A ticket would let in who once knew a key, after that key was taken away.
    secureOptions: constants.SSL_OP_NO_TICKET,
    pskCallback: (socket, identity) => {
      const id = IDENTITY.exec(identity)?.[1] ?? 'of another form'
      const key = ring.find(id)
      onOffer(socket, { id, isKnown: key !== undefined })
      return key?.psk ?? null
    },
  }
}

export function tlsClientOptions(key: ClusterKey): ConnectionOptions {
  return {
    ...SUITE,
    pskCallback: () => ({ identity: `ringfs/${key.id}`, psk: key.psk }),
    // That the peer knows the key is its identity, and a peer that knows it shows no certificate. One that shows a
    // certificate, however good, is somebody else.
    ca: [],
    checkServerIdentity: () => new Error('it showed a certificate in place of the cluster key'),
  }
}

/** What a failed handshake means to the user on the dialling side. */
export function explainTlsFailure(code: string, peer: string, key: ClusterKey): RingfsError | null {
  if (code === 'ERR_SSL_WRONG_VERSION_NUMBER' || code === 'ERR_SSL_PACKET_LENGTH_TOO_LONG') {
    return new RingfsError('KEY_REQUIRED', `${peer} has no cluster key, this side has one: give both the same`)
  }
  if (code.startsWith('ERR_SSL_') || CERTIFICATE_CODES.has(code)) {
    return new RingfsError(
      'KEY_REQUIRED',
      `${peer} does not know the cluster key of this side: it is not the same there (key ${key.id}, ${code})`,
    )
  }
  return null
}

/** What Node says of a certificate that nobody has signed whom we trust: we trust none. */
const CERTIFICATE_CODES: ReadonlySet<string> = new Set([
  ...['DEPTH_ZERO_SELF_SIGNED_CERT', 'SELF_SIGNED_CERT_IN_CHAIN', 'UNABLE_TO_GET_ISSUER_CERT'],
  ...['UNABLE_TO_GET_ISSUER_CERT_LOCALLY', 'UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'CERT_UNTRUSTED'],
])

const NO_TLS: ReadonlySet<string> = new Set([
  ...['ERR_SSL_WRONG_VERSION_NUMBER', 'ERR_SSL_HTTP_REQUEST', 'ERR_SSL_PACKET_LENGTH_TOO_LONG'],
  ...['ERR_SSL_BAD_RECORD_TYPE', 'ERR_SSL_UNEXPECTED_MESSAGE', 'ERR_SSL_HTTPS_PROXY_REQUEST'],
])

/** The same for the log of the listening side. */
export function explainRefusal(code: string, offered: Offered | undefined): string {
  if (NO_TLS.has(code)) return 'it has no cluster key, or is something else than ringfs: this listener wants a key'
  if (offered?.isKnown === false) return `it offers the cluster key ${offered.id}, which is not in the key file here`
  if (code === 'ERR_SSL_BINDER_DOES_NOT_VERIFY') return 'it names a cluster key of this side and does not know it'
  if (code === 'ECONNRESET' || code === 'ERR_TLS_HANDSHAKE_TIMEOUT') return 'it gave up during the handshake'
  return `no handshake with the cluster key (${code})`
}
