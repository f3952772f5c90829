/**
 * What a connection to Redis shows of itself: user and password, and with rediss:// the certificates. Files are read anew for
 * each connection, so that passwords and certificates are changed without a restart; where one cannot be read then, what was
 * read last is tried again.
 */
import { readFile, stat } from 'node:fs/promises'
import { isIP } from 'node:net'
import type { ConnectionOptions } from 'node:tls'
import { RingfsError, messageOf } from '../base/errors.js'
import type { Log } from '../base/log.js'
import type { MetaUrl, MetaTls } from './url.js'

export interface Credentials {
  readonly username?: string
  readonly password?: string
  /** Missing: no TLS. */
  readonly tls?: ConnectionOptions
}

const OTHERS = 0o007

export class CredentialSource {
  readonly #url: MetaUrl
  readonly #log: Log
  #last: Credentials | undefined

  constructor(url: MetaUrl, log: Log) {
    this.#url = url
    this.#log = log
  }

  /** Errors: RingfsError USAGE for a file that cannot be read, or is a secret that every user can read. */
  async load(): Promise<Credentials> {
    try {
      this.#last = await readCredentials(this.#url)
    } catch (error) {
      if (this.#last === undefined) throw error
      this.#log.warn({ reason: messageOf(error) }, 'Redis is connected to with what was read before')
    }
    return this.#last
  }
}

/** Errors: RingfsError USAGE for a file that cannot be read, or is a secret that every user can read. */
export async function readCredentials({ user, password, passwordFile, tls }: MetaUrl): Promise<Credentials> {
  const given = password ?? (passwordFile === undefined ? undefined : firstLine(await readSecret(passwordFile)))
  return {
    ...(user === undefined ? {} : { username: user }),
    ...(given === undefined ? {} : { password: given }),
    ...(tls === undefined ? {} : { tls: await readTls(tls) }),
  }
}

async function readTls({ caFile, certFile, keyFile, name }: MetaTls): Promise<ConnectionOptions> {
  return {
    minVersion: 'TLSv1.2',
    ...(caFile === undefined ? {} : { ca: await readAny(caFile) }),
    ...(certFile === undefined ? {} : { cert: await readAny(certFile) }),
    ...(keyFile === undefined ? {} : { key: await readSecret(keyFile) }),
    // An address is no name that could be asked for, but it is looked for in the certificate all the same.
    ...(name === undefined || isIP(name) !== 0 ? {} : { servername: name }),
  }
}

function firstLine(text: Buffer): string {
  return text.toString('utf8').replace(/\r?\n$/, '')
}

async function readSecret(file: string): Promise<Buffer> {
  const info = await stat(file).catch((error: unknown) => unreadable(file, error))
  if ((info.mode & OTHERS) !== 0) {
    if (!info.isFile()) throw new RingfsError('USAGE', `${file} is no file that only its owner can read`)
    throw new RingfsError('USAGE', `every user can get at the secret in ${file}: chmod 600 ${file}`)
  }
  return readAny(file)
}

function readAny(file: string): Promise<Buffer> {
  return readFile(file).catch((error: unknown) => unreadable(file, error))
}

function unreadable(file: string, error: unknown): never {
  throw new RingfsError('USAGE', `${file} cannot be read: ${messageOf(error)}`, { cause: error })
}
