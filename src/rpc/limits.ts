/** Bounds of one connection. Given in part, complete from then on. */
import { FRAME_PAYLOAD_MAX_BYTES, MIB } from '../base/limits.js'
import { invariant } from '../base/invariant.js'

export interface ClientLimits {
  /** Requests sent and not answered. */
  readonly maxInFlight: number
  /** Their payload. One request may go beyond it when it is alone. */
  readonly maxInFlightBytes: number
  /** Calls that wait for room in flight; one more is OVERLOADED. */
  readonly maxWaiting: number
  readonly connectTimeoutMs: number
  /** With calls outstanding and nothing received for this long the peer is pinged; after twice as long it is dead. */
  readonly keepAliveMs: number
  /** A peer that takes nothing for this long is given up, and one that leaves a frame half sent. */
  readonly stallMs: number
  /** After a failed dial none is tried for this long, doubling up to the maximum, with jitter. */
  readonly backoffMinMs: number
  readonly backoffMaxMs: number
  /** The same after the peer refused the cluster key: that does not change by itself. A new key ends the wait. */
  readonly keyBackoffMs: number
  /** How often a peer that did not know the newest key is asked again whether it does now. */
  readonly keyRetryMs: number
}

export const CLIENT_LIMITS: ClientLimits = {
  maxInFlight: 1024,
  maxInFlightBytes: 64 * MIB,
  maxWaiting: 16_384,
  connectTimeoutMs: 5000,
  keepAliveMs: 5000,
  stallMs: 30_000,
  backoffMinMs: 50,
  backoffMaxMs: 2000,
  keyBackoffMs: 15_000,
  keyRetryMs: 10_000,
}

export interface ServerLimits {
  /** Requests of one connection whose reply is not written out yet; one more is OVERLOADED. */
  readonly maxInFlight: number
  /** Payload of those requests; one that goes beyond it is OVERLOADED. */
  readonly maxInFlightBytes: number
  /** Payload of the requests of all connections together. */
  readonly maxTotalBytes: number
  /** Reply payload of one connection that handlers may have in the making; see CallContext.reserve. */
  readonly maxReplyBytes: number
  /** While more than this waits to be written to a peer nothing is read from it. */
  readonly pauseAboveBytes: number
  readonly maxConnections: number
  readonly stallMs: number
  /** How long close() waits for requests in work. */
  readonly drainMs: number
  /** How long connections live on that were made with a cluster key which is accepted no more. */
  readonly keyGraceMs: number
}

export const SERVER_LIMITS: ServerLimits = {
  maxInFlight: 2048,
  maxInFlightBytes: 128 * MIB,
  maxTotalBytes: 1024 * MIB,
  maxReplyBytes: 32 * MIB,
  pauseAboveBytes: 40 * MIB,
  maxConnections: 4096,
  stallMs: 30_000,
  drainMs: 5000,
  keyGraceMs: 20_000,
}

invariant(SERVER_LIMITS.maxInFlight > CLIENT_LIMITS.maxInFlight, 'a client within its limits is not refused')
invariant(SERVER_LIMITS.maxInFlightBytes > CLIENT_LIMITS.maxInFlightBytes, 'a client within its limits is not refused')
invariant(SERVER_LIMITS.maxReplyBytes >= FRAME_PAYLOAD_MAX_BYTES, 'the longest reply can be reserved')
invariant(SERVER_LIMITS.pauseAboveBytes > SERVER_LIMITS.maxReplyBytes, 'reserved replies do not stop cancels and pings')
