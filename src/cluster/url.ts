/**
 * META_URL: `redis[s]://[[user]:password@]host:port[,host:port…]/VOLUME[?ca=FILE&cert=FILE&key=FILE&name=NAME&password-file=FILE]`.
 * The hosts are where to ask first; the rest of the cluster is found from any of them. WHATWG's URL knows no host lists, so
 * this is a parser of its own.
 */
import { isAbsolute } from 'node:path'
import { RingfsError } from '../base/errors.js'

export interface MetaHost {
  /** Name, IPv4 address, or IPv6 address without its brackets. */
  readonly host: string
  readonly port: number
}

/** rediss://. Files are absolute paths, in PEM. */
export interface MetaTls {
  /** Who signs for the servers; missing: whom the system trusts. */
  readonly caFile?: string
  /** Of this client, for servers that want one. */
  readonly certFile?: string
  readonly keyFile?: string
  /** What the certificates of all servers are for, where it is not the address that is dialled. */
  readonly name?: string
}

export interface MetaUrl {
  readonly hosts: readonly MetaHost[]
  /** Of Redis's ACL; missing: `default`. */
  readonly user?: string
  readonly password?: string
  /** In place of `password`. Absolute. */
  readonly passwordFile?: string
  readonly tls?: MetaTls
  readonly volume: string
}

const DEFAULT_PORT = 6379
const VOLUME_NAME = /^[A-Za-z0-9_.-]{1,64}$/
const SHAPE = 'redis://[user:password@]host:port[,host:port…]/VOLUME'
/** What may stand behind the `?`. Without an @, or it belongs to the password before one. */
const QUERY = /\?((?:(?:ca|cert|key|name|password-file)=[^&@]*(?:&|$))+)$/
const USER = /^\S+$/
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
  const scheme = /^rediss?:\/\//.exec(text)?.[0]
  if (scheme === undefined) throw usage('the URL does not begin with redis:// or rediss://')
  const whole = text.slice(scheme.length)
  const query = QUERY.exec(whole)
  const rest = query === null ? whole : whole.slice(0, query.index)
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
  const login = at < 0 ? {} : parseLogin(authority.slice(0, at))
  return { hosts, volume, ...login, ...parseQuery(query?.[1] ?? '', scheme === 'rediss://') }
}

function parseLogin(userInfo: string): Pick<MetaUrl, 'user' | 'password'> {
  const colon = userInfo.indexOf(':')
  // Without its colon it may be a password that was mistyped: it is not shown.
  if (colon < 0) throw usage('the password lacks its colon (USER:@ for a user whose password is elsewhere)')
  const user = decode(userInfo.slice(0, colon), 'the user name')
  const password = decode(userInfo.slice(colon + 1), 'the password')
  if (user !== '' && !USER.test(user)) throw usage('a user name has no spaces')
  return { ...(user === '' || user === 'default' ? {} : { user }), ...(password === '' ? {} : { password }) }
}

function decode(encoded: string, what: string): string {
  try {
    return decodeURIComponent(encoded)
  } catch {
    throw usage(`${what} has a % that does not begin an escape (write it as %25)`)
  }
}

function parseQuery(query: string, isTls: boolean): Pick<MetaUrl, 'tls' | 'passwordFile'> {
  const values = new Map(
    query
      .split('&')
      .filter((pair) => pair !== '')
      .map((pair) => [
        pair.slice(0, pair.indexOf('=')),
        decode(pair.slice(pair.indexOf('=') + 1), 'what follows the ?'),
      ]),
  )
  const file = (name: string): string | undefined => {
    const path = values.get(name)
    if (path !== undefined && !isAbsolute(path)) throw usage(`${name}=${path}: an absolute path is needed`)
    return path
  }
  const [caFile, certFile, keyFile, passwordFile] = ['ca', 'cert', 'key', 'password-file'].map(file)
  const name = values.get('name')
  const tls = {
    ...(caFile === undefined ? {} : { caFile }),
    ...(certFile === undefined ? {} : { certFile }),
    ...(keyFile === undefined ? {} : { keyFile }),
    ...(name === undefined ? {} : { name }),
  }
  if (!isTls && Object.keys(tls).length > 0) throw usage('ca, cert, key and name are for rediss:// (TLS)')
  if ((certFile === undefined) !== (keyFile === undefined)) throw usage('cert and key go together')
  return { ...(passwordFile === undefined ? {} : { passwordFile }), ...(isTls ? { tls } : {}) }
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

/** The URL with its password: for a pipe to a child or a file of mode 0600, never for a log, argv or environment. */
export function formatMetaUrl(url: MetaUrl): string {
  return format(url, url.password === undefined ? '' : encodeURIComponent(url.password))
}

/** For logs and messages. */
export function formatMetaUrlRedacted(url: MetaUrl): string {
  return format(url, url.password === undefined ? '' : '***')
}

function format(url: MetaUrl, password: string): string {
  const { user, tls, passwordFile } = url
  const login = user === undefined && password === '' ? '' : `${encodeURIComponent(user ?? '')}:${password}@`
  const pairs = Object.entries({
    ...{ ca: tls?.caFile, cert: tls?.certFile, key: tls?.keyFile, name: tls?.name },
    'password-file': passwordFile,
  }).flatMap(([name, value]) => (value === undefined ? [] : [`${name}=${escapeValue(value)}`]))
  const query = pairs.length === 0 ? '' : `?${pairs.join('&')}`
  return `redis${tls === undefined ? '' : 's'}://${login}${url.hosts.map(formatHost).join(',')}/${url.volume}${query}`
}

/** As little as reads back the same: paths stay readable. */
function escapeValue(value: string): string {
  return value.replace(/[%&?@\s]/g, encodeURIComponent)
}
