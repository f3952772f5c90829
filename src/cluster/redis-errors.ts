/**
 * What to do about an error of Redis. Error replies begin with a code in capitals (redis.io: RESP, "Simple errors").
 *
 *   lost      no reply came: it may or may not have run      -> again, on a new connection
 *   moved     the slot lives elsewhere for good              -> there, and fetch the slot map
 *   ask       this one call goes elsewhere                   -> there, after ASKING
 *   wait      the server cannot now, but will                -> again, after a pause
 *   noscript  the server does not know the script            -> SCRIPT LOAD there, and again
 *   full      out of memory, or of disk for its log          -> PosixError ENOSPC
 *   auth      wrong or missing password, or no permission    -> RingfsError REDIS_AUTH
 *   refused   anything else: a defect of ours, or of the set-up
 */
import { RingfsError, messageOf } from '../base/errors.js'
import { PosixError } from '../base/errno.js'

export type Verdict =
  | { readonly kind: 'moved' | 'ask'; readonly slot: number; readonly address: string }
  | { readonly kind: 'lost' | 'wait' | 'noscript' | 'full' | 'auth' | 'refused' }

/** The connection ended, could not be made, or was given up. Whatever was in flight on it may have been carried out. */
export class LinkLostError extends Error {
  override readonly name = 'LinkLostError'
}

/**
 * Replicas were asked about and nothing is known: a server, or we, stood still meanwhile, so that another one may be in its place
 * with less. Who only wants to know asks again; who rests something on the answer has none.
 */
export class UncountedError extends RingfsError {
  constructor(message: string) {
    super('REDIS_UNREACHABLE', message)
  }
}

const ABSENT_CODES = new Set(['ECONNREFUSED', 'ENOENT', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH'])

/** Nobody listens there, as the system says at once. One that takes connections and says nothing is slow, or hangs. */
export function isAbsent(error: unknown): boolean {
  if (!(error instanceof LinkLostError)) return false
  const { cause } = error
  return cause instanceof Error && 'code' in cause && ABSENT_CODES.has(String(cause.code))
}

/** UNBLOCKED: a WAIT on a master that became a replica. */
const WAIT_CODES = new Set([
  'UNBLOCKED',
  'TRYAGAIN',
  'CLUSTERDOWN',
  'LOADING',
  'READONLY',
  'MASTERDOWN',
  'BUSY',
  'NOREPLICAS',
])
const AUTH_CODES = new Set(['NOAUTH', 'WRONGPASS', 'NOPERM'])

export function classify(error: unknown): Verdict {
  if (error instanceof LinkLostError) return { kind: 'lost' }
  const text = messageOf(error)
  const [code = '', slot = '', address = ''] = text.split(' ', 3)
  if (code === 'MOVED' || code === 'ASK') {
    return { kind: code === 'MOVED' ? 'moved' : 'ask', slot: Number(slot), address }
  }
  if (code === 'NOSCRIPT') return { kind: 'noscript' }
  if (WAIT_CODES.has(code)) return { kind: 'wait' }
  if (code === 'OOM' || (code === 'MISCONF' && text.includes('No space left'))) return { kind: 'full' }
  // A disk that failed once is tried again by Redis every second (appendonly) or at the next save.
  if (code === 'MISCONF') return { kind: 'wait' }
  if (AUTH_CODES.has(code)) return { kind: 'auth' }
  return { kind: 'refused' }
}

/** The error that a caller sees for a verdict that is not retried. */
export function finalError(kind: 'full' | 'auth' | 'refused', error: unknown, address: string, what: string): Error {
  const text = messageOf(error)
  if (kind === 'full') return new PosixError('ENOSPC', `Redis at ${address} is full`, { cause: error })
  if (kind === 'auth') return authError(address, text, error)
  return new RingfsError('INTERNAL', `Redis at ${address} refused ${what}: ${text}`, { cause: error })
}

export function authError(address: string, text: string, cause: unknown): RingfsError {
  const advice = text.startsWith('NOAUTH')
    ? 'it wants a password: --password-file FILE, or password-file=FILE behind a ? in the URL'
    : text.startsWith('NOPERM')
      ? `its user may not do that (${text})`
      : 'user or password is wrong'
  return new RingfsError('REDIS_AUTH', `Redis at ${address} refused the connection: ${advice}`, { cause })
}

const NO_CERTIFICATE = /ALERT_(CERTIFICATE_REQUIRED|BAD_CERTIFICATE|UNKNOWN_CA|HANDSHAKE_FAILURE)/
const UNTRUSTED: ReadonlySet<string> = new Set([
  ...['DEPTH_ZERO_SELF_SIGNED_CERT', 'SELF_SIGNED_CERT_IN_CHAIN', 'UNABLE_TO_GET_ISSUER_CERT', 'CERT_HAS_EXPIRED'],
  ...['UNABLE_TO_GET_ISSUER_CERT_LOCALLY', 'UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'CERT_UNTRUSTED', 'CERT_NOT_YET_VALID'],
])

/** undefined: the handshake is not what went wrong. */
export function tlsError(address: string, cause: unknown): RingfsError | undefined {
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : ''
  const advice = tlsAdvice(code)
  if (advice === undefined) return undefined
  return new RingfsError('REDIS_TLS', `no TLS with Redis at ${address}: ${advice} (${code})`, { cause })
}

function tlsAdvice(code: string): string | undefined {
  if (UNTRUSTED.has(code))
    return 'its certificate is not trusted: give the authority that signed it as ?ca=FILE in the URL'
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    return 'its certificate is for another name: give that name as ?name=NAME in the URL'
  }
  if (code === 'ERR_SSL_WRONG_VERSION_NUMBER') return 'it speaks no TLS on that port: redis:// in place of rediss://?'
  if (NO_CERTIFICATE.test(code)) return 'it wants another certificate of ours: ?cert=FILE&key=FILE in the URL'
  return code.startsWith('ERR_SSL') || code.startsWith('ERR_OSSL') ? 'the handshake failed' : undefined
}
