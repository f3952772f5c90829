/**
 * META_URL: `redis://[:password@]host:port[,host:port…]/VOLUME`. The hosts are where to ask first; the rest of the cluster
 * is found from any of them. WHATWG's URL knows no host lists, so this is a parser of its own.
 */
import { RingfsError } from '../base/errors.js'

export interface MetaHost {
  /** Name, IPv4 address, or IPv6 address without its brackets. */
  readonly host: string
  readonly port: number
}

export interface MetaUrl {
  readonly hosts: readonly MetaHost[]
  readonly password?: string
  readonly volume: string
}

const DEFAULT_PORT = 6379
const VOLUME_NAME = /^[A-Za-z0-9_.-]{1,64}$/
const SHAPE = 'redis://[:password@]host:port[,host:port…]/VOLUME'
const HOST_NAME = /^[A-Za-z0-9_.-]+$/
const IPV6 = /^[0-9A-Fa-f:.]+$/

function usage(message: string): RingfsError {
  return new RingfsError('USAGE', `${message}; a META_URL looks like ${SHAPE}`)
}

/** Names are part of Redis hash tags and of paths: no braces, no slashes. */
export function isVolumeName(name: string): boolean {
  return VOLUME_NAME.test(name)
}

/** Throws RingfsError USAGE. The text of the error never holds the password. */
export function parseMetaUrl(text: string): MetaUrl {
  const scheme = 'redis://'
  if (text.startsWith('rediss://')) throw usage('rediss:// (TLS) is not supported')
  if (!text.startsWith(scheme)) throw usage('the URL does not begin with redis://')
  const rest = text.slice(scheme.length)
  // The last @ before the path: a password may hold one, a host cannot.
  const slash = rest.indexOf('/', rest.lastIndexOf('@') + 1)
  if (slash < 0) throw usage('the URL names no volume')
  const volume = rest.slice(slash + 1)
  if (!isVolumeName(volume)) {
    throw usage(`'${volume}' is not a volume name (1 to 64 of A-Z a-z 0-9 _ . -)`)
  }
  const authority = rest.slice(0, slash)
  const at = authority.lastIndexOf('@')
  const hosts = authority
    .slice(at + 1)
    .split(',')
    .map(parseHost)
  const password = at < 0 ? '' : parsePassword(authority.slice(0, at))
  return { hosts, volume, ...(password === '' ? {} : { password }) }
}

function parsePassword(userInfo: string): string {
  const colon = userInfo.indexOf(':')
  // Without its colon it may be a password that was mistyped: it is not shown.
  if (colon < 0) throw usage('the password lacks its colon')
  const user = userInfo.slice(0, colon)
  if (user !== '' && user !== 'default')
    throw usage(`the URL names the Redis user '${user}', only a password is supported`)
  const encoded = userInfo.slice(colon + 1)
  try {
    return decodeURIComponent(encoded)
  } catch {
    throw usage('the password has a % that does not begin an escape (write it as %25)')
  }
}

/** `host`, `host:port`, `[ipv6]` or `[ipv6]:port`. */
export function parseHost(text: string): MetaHost {
  const match = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::(.*))?$/.exec(text)
  const host = match?.[1] ?? match?.[2] ?? ''
  const isValid = match?.[1] === undefined ? HOST_NAME.test(host) : IPV6.test(host)
  if (match === null || !isValid) throw usage(`'${text}' is not a host:port`)
  const portText = match[3] ?? String(DEFAULT_PORT)
  const port = Number(portText)
  if (!/^\d+$/.test(portText) || port < 1 || port > 65_535) throw usage(`'${text}' has no port from 1 to 65535`)
  return { host, port }
}

/** `host:port`, an IPv6 address in brackets: the form in which addresses are compared and shown. */
export function formatHost({ host, port }: MetaHost): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

/** The URL with its password: for a child's stdin or a file of mode 0600, never for a log or argv. */
export function formatMetaUrl(url: MetaUrl): string {
  return format(url, url.password === undefined ? '' : `:${encodeURIComponent(url.password)}@`)
}

/** For logs and messages. */
export function formatMetaUrlRedacted(url: MetaUrl): string {
  return format(url, url.password === undefined ? '' : ':***@')
}

function format(url: MetaUrl, userInfo: string): string {
  return `redis://${userInfo}${url.hosts.map(formatHost).join(',')}/${url.volume}`
}
