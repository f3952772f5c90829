/** Addresses as users write them: `host:port`, `[v6]:port`, `unix:/path`. */
import { lookup } from 'node:dns/promises'
import { BlockList } from 'node:net'
import { RingfsError, messageOf } from '../base/errors.js'

/** sockaddr_un.sun_path (unix(7)) has 108 bytes, the last one NUL. */
export const UNIX_PATH_MAX_BYTES = 107

export type Address =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string }

/** Errors: RingfsError USAGE. */
export function parseAddress(text: string): Address {
  if (text.startsWith('unix:')) return parseUnix(text)
  const match = /^(?:\[([0-9a-fA-F:.%\w]+)\]|([^:[\]\s/]+)):(\d{1,5})$/.exec(text)
  const host = match?.[1] ?? match?.[2]
  const port = Number(match?.[3])
  if (host === undefined || !(port <= 65_535)) {
    throw new RingfsError('USAGE', `bad address '${text}': write HOST:PORT, [IPV6]:PORT or unix:/PATH`)
  }
  return { kind: 'tcp', host, port }
}

function parseUnix(text: string): Address {
  const path = text.slice('unix:'.length)
  if (!path.startsWith('/'))
    throw new RingfsError('USAGE', `bad address '${text}': a Unix socket needs an absolute path`)
  if (path.includes('\0')) throw new RingfsError('USAGE', 'bad address: a NUL byte in the path of a Unix socket')
  const bytes = Buffer.byteLength(path)
  if (bytes > UNIX_PATH_MAX_BYTES) {
    throw new RingfsError(
      'USAGE',
      `the path of a Unix socket has at most ${UNIX_PATH_MAX_BYTES} bytes, '${path}' has ${bytes}: choose a shorter folder`,
    )
  }
  return { kind: 'unix', path }
}

export function formatAddress(address: Address): string {
  if (address.kind === 'unix') return `unix:${address.path}`
  return address.host.includes(':') ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`
}

const LOOPBACK = new BlockList()
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4')
LOOPBACK.addAddress('::1', 'ipv6')
LOOPBACK.addSubnet('::ffff:127.0.0.0', 104, 'ipv6')

export interface ResolvedHost {
  /** The address to bind: listening on the name again could resolve to another one. */
  readonly ip: string
  /** Every address that the name stands for is loopback. */
  readonly loopback: boolean
}

/** Errors: RingfsError LISTEN_FAILED. */
export async function resolveListenHost(host: string): Promise<ResolvedHost> {
  const found = await lookup(host, { all: true }).catch((error: unknown) => {
    throw new RingfsError('LISTEN_FAILED', `cannot resolve the address to listen on, '${host}': ${messageOf(error)}`)
  })
  const [first] = found
  if (first === undefined) throw new RingfsError('LISTEN_FAILED', `'${host}' has no address`)
  const loopback = found.every(({ address, family }) => LOOPBACK.check(address, family === 6 ? 'ipv6' : 'ipv4'))
  return { ip: first.address, loopback }
}
