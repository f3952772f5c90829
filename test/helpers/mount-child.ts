/**
 * The process that mounts, for tests; it must not be the test's own, which waits for the mount:
 *
 *     node mount-child.js --driver NAME --mountpoint FOLDER --backend BACKEND [--delay-ms N] [--option O]…
 *         [--session-ttl-ms N] [--listen-ms N] [--chunks FOLDER] [--eager]
 *
 * --eager: delegations are asked for soon after others' changes, and granted again soon after a recall.
 *
 * Backends: see mount-backend.ts. Says `mounted` on stdout, unmounts on SIGTERM, and ends when the mount does.
 */
import { parseArgs } from 'node:util'
import { createLog } from '../../src/base/log.js'
import { messageOf, RingfsError } from '../../src/base/errors.js'
import type { DriverName } from '../../src/fuse/driver.js'
import { pickDriver } from '../../src/fuse/drivers.js'
import { withDelay, withFaults } from './faulty-vfs.js'
import type { DelegationFigures } from '../../src/meta/contract.js'
import { openBackend, type RedisBackendOptions } from './mount-backend.js'

const KEPT_AFTER_MS = 5_000

interface ChildOptions {
  readonly driver: DriverName
  readonly mountpoint: string
  readonly backend: string
  readonly delayMs: number
  readonly redis: RedisBackendOptions
  readonly extra: readonly string[]
}

async function main({ driver, mountpoint, backend, delayMs, redis, extra }: ChildOptions): Promise<void> {
  const log = createLog('warn')
  const opened = await openBackend(backend, log, redis)
  const bent = withFaults(delayMs > 0 ? withDelay(opened.vfs, delayMs, Math.random) : opened.vfs)
  const options = { mountpoint, fsName: 'ringfs-test', readOnly: false, allowOther: true, extra }
  const mounted = await pickDriver(driver).mount(bent, options, log)
  process.on('SIGTERM', () => {
    mounted.unmount(false).catch((error: unknown) => process.stdout.write(`${messageOf(error)}\n`))
  })
  // The test has died and nobody will tear this down.
  process.stdin.once('end', () => void mounted.unmount(true).finally(() => process.exit(1)))
  process.stdin.resume().unref()
  process.stdout.write('mounted\n')
  await mounted.ended
  if (opened.figures !== undefined) process.stdout.write(`delegations ${JSON.stringify(summary(opened.figures()))}\n`)
  process.stdout.write(`ended with ${await opened.close()}\n`)
  // Only when something keeps this process: nothing should.
  setTimeout(() => {
    process.stdout.write(`kept by ${process.getActiveResourcesInfo().join(' ')}\n`)
  }, KEPT_AFTER_MS).unref()
}

function summary({ opens, waitedMs }: DelegationFigures): object {
  const sorted = [...waitedMs].sort((x, y) => x - y)
  const at = (share: number): number => Number((sorted[Math.floor(sorted.length * share)] ?? 0).toFixed(2))
  return { opens, waits: sorted.length, p50: at(0.5), p99: at(0.99), max: at(0.9999) }
}

function parseOptions(args: readonly string[]): ChildOptions {
  const { values } = parseArgs({
    args: [...args],
    options: {
      driver: { type: 'string' },
      mountpoint: { type: 'string' },
      backend: { type: 'string' },
      'delay-ms': { type: 'string', default: '0' },
      'session-ttl-ms': { type: 'string' },
      'listen-ms': { type: 'string' },
      chunks: { type: 'string' },
      eager: { type: 'boolean', default: false },
      option: { type: 'string', multiple: true, default: [] },
    },
  })
  const { driver, mountpoint, backend, option } = values
  const isDriver = driver === 'kernel' || driver === 'fuse-native'
  if (!isDriver || !mountpoint || !backend) throw new RingfsError('USAGE', 'driver, mountpoint and backend are needed')
  const redis = {
    ...(values['session-ttl-ms'] === undefined ? {} : { sessionTtlMs: Number(values['session-ttl-ms']) }),
    ...(values['listen-ms'] === undefined ? {} : { listenMs: Number(values['listen-ms']) }),
    ...(values.chunks === undefined ? {} : { chunksFolder: values.chunks }),
    ...(values.eager ? { delegations: { quietMs: 0, restMs: 1 } } : {}),
  }
  return { driver, mountpoint, backend, delayMs: Number(values['delay-ms']), redis, extra: option }
}

try {
  await main(parseOptions(process.argv.slice(2)))
} catch (error) {
  process.stdout.write(`${error instanceof RingfsError ? error.code : 'ERROR'}: ${messageOf(error)}\n`)
  process.exitCode = 1
}
