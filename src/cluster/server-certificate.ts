/**
 * A certificate for the servers of a private Redis Cluster: redis.pem and redis.key in a folder of mode 0700. It is signed by itself, so it
 * is at once the authority that clients are given, and no key is left with which others could be signed.
 *
 * It is made by openssl, which Debian has on every machine: Node makes keys, but no X.509.
 */
import { execFile } from 'node:child_process'
import { chmod, mkdir, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { RingfsError, codeOf, messageOf } from '../base/errors.js'

export interface ServerCertificate {
  readonly certFile: string
  readonly keyFile: string
}

/** For trials: nobody renews it. */
const DAYS = 3_650
const TIMEOUT_MS = 60_000
const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
const SUBJECT = ['-subj', '/CN=ringfs redis-cluster', '-addext', 'subjectAltName=IP:127.0.0.1,DNS:localhost']

const run = promisify(execFile)

export function certificateIn(folder: string): ServerCertificate {
  return { certFile: join(folder, 'redis.pem'), keyFile: join(folder, 'redis.key') }
}

/** Whole or not at all. Errors: PACKAGE_MISSING without openssl, INTERNAL with what openssl says. */
export async function makeCertificate(folder: string): Promise<void> {
  const unfinished = `${folder}.new`
  await rm(unfinished, { recursive: true, force: true })
  await mkdir(unfinished, { mode: 0o700 })
  const { certFile, keyFile } = certificateIn(unfinished)
  try {
    const files = ['-keyout', keyFile, '-out', certFile, '-days', String(DAYS)]
    await run('openssl', ['req', '-x509', ...KEY, ...SUBJECT, ...files], { timeout: TIMEOUT_MS })
  } catch (error) {
    if (codeOf(error) === 'ENOENT') throw missing()
    throw new RingfsError('INTERNAL', `openssl made no certificate: ${messageOf(error)}`, { cause: error })
  }
  await chmod(keyFile, 0o600)
  await rename(unfinished, folder)
}

/** Errors: USAGE where a file is missing. */
export async function checkCertificate(folder: string): Promise<void> {
  const { certFile, keyFile } = certificateIn(folder)
  for (const file of [certFile, keyFile]) {
    await stat(file).catch(() => {
      throw new RingfsError('USAGE', `${file} is missing: restore it; without it nobody can connect`)
    })
  }
}

function missing(): RingfsError {
  return new RingfsError(
    'PACKAGE_MISSING',
    'openssl is not installed, and makes the certificates; install it with: apt-get install -y openssl (as root, or with sudo)',
  )
}
