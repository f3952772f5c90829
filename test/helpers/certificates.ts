/** Certificates for tests, made with openssl: an authority, and whom it vouches for. */
import { execFile } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)
const EC = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']

export interface Issued {
  readonly cert: Buffer
  readonly key: Buffer
  readonly certFile: string
  readonly keyFile: string
}

export interface Authority {
  /** File with its certificate. */
  readonly ca: string
  /** For an IP address, or for a name. */
  issue(subject: string): Promise<Issued>
}

/** Its files go into `folder`. `name` tells several in one folder apart. */
export async function makeAuthority(folder: string, name = 'ca'): Promise<Authority> {
  const [ca, caKey] = [join(folder, `${name}.pem`), join(folder, `${name}.key`)]
  const subject = ['-subj', `/CN=ringfs test ${name}`]
  await run('openssl', ['req', '-x509', ...EC, '-keyout', caKey, '-out', ca, '-days', '2', ...subject])
  return { ca, issue: (subject) => issue(folder, ca, caKey, subject) }
}

async function issue(folder: string, ca: string, caKey: string, subject: string): Promise<Issued> {
  const base = join(folder, `${subject.replace(/[^a-z0-9.]/gi, '-')}-${Math.random().toString(36).slice(2, 8)}`)
  const [certFile, keyFile, request, extensions] = ['.pem', '.key', '.csr', '.ext'].map((end) => base + end)
  if (!certFile || !keyFile || !request || !extensions) throw new Error('four names')
  const kind = /^[0-9.]+$|:/.test(subject) ? 'IP' : 'DNS'
  await writeFile(extensions, `subjectAltName=${kind}:${subject}\n`)
  await run('openssl', ['req', ...EC, '-keyout', keyFile, '-out', request, '-subj', `/CN=${subject}`])
  const by = ['-CA', ca, '-CAkey', caKey, '-CAcreateserial', '-days', '2', '-extfile', extensions]
  await run('openssl', ['x509', '-req', '-in', request, '-out', certFile, ...by])
  return { cert: await readFile(certFile), key: await readFile(keyFile), certFile, keyFile }
}
