/**
 * What may be asked of both sides. The oracle is asked what it has (a tmpfs of an old kernel has no user attributes). Of a
 * mount everything is expected but what its driver is documented to lack: docs/fuse-native.md.
 */
import type { DriverName } from '../../src/fuse/driver.js'
import type { Agent, Words } from './agent.js'

const FEATURES = [
  'users',
  'bytes',
  'nanoseconds',
  'one-time',
  'devices',
  'mmap',
  'user-xattr',
  'trusted-xattr',
  'acl',
  'fallocate',
  'copy',
  'noreplace',
  'exchange',
  'tmpfile',
] as const

export type Feature = (typeof FEATURES)[number]

const LACKS: Readonly<Record<DriverName, readonly Feature[]>> = {
  kernel: [],
  // "who calls", "names that are not UTF-8", "times", "setting one time only", "fallocate, RENAME_NOREPLACE, …, ACLs".
  // And fusermount3 mounts with nodev; and a mapping through O_APPEND.
  'fuse-native': [
    'devices',
    'users',
    'mmap',
    'bytes',
    'nanoseconds',
    'one-time',
    'acl',
    'fallocate',
    'copy',
    'noreplace',
    'exchange',
    'tmpfile',
  ],
}

/** Each asked in a new file of slot 0 named `probe`; the mount must do the same as the oracle does. */
const PROBES: Partial<Record<Feature, readonly Words[]>> = {
  devices: [['mknod', 'node', 'char', '600', '4095', '3']],
  'user-xattr': [['setx', 'probe', 'user.a', '1000', '1', '0']],
  'trusted-xattr': [['setx', 'probe', 'trusted.a', '1000', '1', '0']],
  acl: [
    ['setxhex', 'probe', 'system.posix_acl_access', '0200000001000600ffffffff04000400ffffffff20000400ffffffff', '0'],
  ],
  fallocate: ['-', 'keep', 'punch,keep', 'zero', 'zero,keep'].map((how) => ['fallocate', '0', how, '0', '8192']),
  copy: [['copy', '0', '0', '0', '8192', '4096']],
  noreplace: [['rename', 'probe', 'moved', 'noreplace']],
  exchange: [
    ['mkdir', 'other', '755'],
    ['rename', 'probe', 'other', 'exchange'],
  ],
  tmpfile: [['open', '1', '.', 'rw,tmpfile', '600']],
}

/** What stays in the tree, and is in the way of a driver that lacks it. */
const LASTING: readonly Feature[] = ['devices', 'bytes', 'acl']

/** `all`: the drivers of the run. */
export function featuresOf(
  driver: DriverName,
  all: readonly DriverName[],
  oracle: ReadonlySet<Feature>,
): ReadonlySet<Feature> {
  const inTheWay = LASTING.filter((feature) => all.some((other) => LACKS[other].includes(feature)))
  return new Set([...oracle].filter((feature) => !LACKS[driver].includes(feature) && !inTheWay.includes(feature)))
}

/** In an empty folder, which is the agent's, one folder for each. */
export async function probeOracle(agent: Agent, folder: string): Promise<ReadonlySet<Feature>> {
  const found = new Set<Feature>()
  for (const feature of FEATURES) {
    if (await has(agent, `${folder}/${feature}`, feature)) found.add(feature)
  }
  return found
}

async function has(agent: Agent, folder: string, feature: Feature): Promise<boolean> {
  if (feature === 'users') return process.getuid?.() === 0
  await agent.must(['mkdir', folder, '755'])
  await agent.must(['cd', folder])
  await agent.must(['open', '0', 'probe', 'rw,creat', '644'])
  await agent.must(['pwrite', '0', '0', '8192', '1'])
  for (const words of PROBES[feature] ?? []) {
    if (!(await agent.call(words)).isOk) return false
  }
  return true
}
