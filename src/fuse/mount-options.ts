/**
 * The options of a mount, in the form of mount(8). Every way of mounting (mount -t ringfs, an /etc/fstab line, `ringfs mount`,
 * `ringfs up`) has its options judged here, once; behind this they travel as a MountOptionSet.
 *
 * Where the same thing is said twice, the later word wins, as everywhere in mount(8).
 */
import { RingfsError } from '../base/errors.js'
import { parseByteSize } from '../base/size.js'
import type { AtimePolicy, Durability } from '../vfs/contract.js'
import type { DriverName, StayAwakeMode } from './driver.js'
import { splitOptions, writeOption, type OptionText } from './option-text.js'

export interface MountOptionSet {
  readonly readOnly: boolean
  /** undefined: not said. */
  readonly allowOther: boolean | undefined
  readonly atime: AtimePolicy
  /** false: those of directories never change (nodiratime). */
  readonly dirAtime: boolean
  /** Which changes are durable when their call returns (dirsync, sync); see VfsOptions. */
  readonly durableChanges: 'none' | 'names' | 'all'
  /** A volume that is not there is no failure. */
  readonly noFail: boolean
  /** It needs the network: Redis may answer a little later at boot. */
  readonly netDev: boolean
  /** Change the options of a mount that is there. */
  readonly remount: boolean
  readonly driver?: DriverName
  readonly durability?: Durability
  /** How long Redis is waited for; undefined: as the way of mounting has it. */
  readonly retryMs?: number
  readonly sessionTtlMs?: number
  readonly readCacheBytes?: number
  readonly writeBufferBytes?: number
  readonly readAheadBytes?: number
  readonly packAfterMs?: number
  readonly spillAfterMs?: number
  readonly stayAwake?: StayAwakeMode
  /** Nice value of the process; undefined: as serveReadily has it. */
  readonly nice?: number
  readonly passwordFile?: string
  readonly keyFile?: string
  readonly logFile?: string
  readonly logLevel?: string
  /** What `mount` and `df` show as the source. */
  readonly fsName?: string
  /** For the driver: flags of mount(2) and options of the kernel or libfuse, one each, as they were written. */
  readonly extra: readonly string[]
  /** All that was taken, one each, to be given to another process. */
  readonly texts: readonly string[]
}

type Draft = { -readonly [K in keyof MountOptionSet]: MountOptionSet[K] }
type Take = (draft: Draft, value: string) => void

interface Rule {
  readonly value: 'none' | 'required' | 'optional'
  readonly take: Take
}

export interface OwnOption {
  readonly name: string
  /** What stands for its value in a help text. */
  readonly value: string
  readonly help: string
  readonly take: Take
}

const DRIVERS = ['kernel', 'fuse-native'] as const
const DURABILITIES = ['all', 'quorum', 'async'] as const
const STAY_AWAKE = ['auto', 'on', 'off'] as const
const LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const
const SESSION_TTL_MIN_S = 5
/** As LEASE_MAX_MS in meta/recovery.ts. */
const SESSION_TTL_MAX_S = 3_600
const RETRY_MAX_MIN = 24 * 60
/** A hundred years: never. */
const NEVER_S = 100 * 366 * 86_400

/** setpriority(2). */
export const NICE_MIN = -20
export const NICE_MAX = 19
export const NICE_HELP =
  'priority of the processes, -20 to 19; 0 is that of any program (default: -10, where rights allow it)'

/** ringfs's own. Each is a long option of `ringfs mount` too. */
export const OWN_OPTIONS: readonly OwnOption[] = [
  own('driver', 'name', `how to mount: ${DRIVERS.join(' or ')}`, (draft, value) => {
    draft.driver = oneOf('driver', value, DRIVERS)
  }),
  own('durability', 'level', 'owners that must have data before a sync or close succeeds', (draft, value) => {
    draft.durability = oneOf('durability', value, DURABILITIES)
  }),
  own('password-file', 'file', 'password of Redis', (draft, value) => {
    draft.passwordFile = value
  }),
  own('key-file', 'file', 'cluster key, for nodes that listen to other machines', (draft, value) => {
    draft.keyFile = value
  }),
  own('retry', 'minutes', 'how long Redis is waited for (default: 1 with _netdev, else 0)', (draft, value) => {
    draft.retryMs = number('retry', value, 0, RETRY_MAX_MIN) * 60_000
  }),
  own(
    'session-ttl',
    'seconds',
    'how long this client may be silent before others clean up after it',
    (draft, value) => {
      draft.sessionTtlMs = number('session-ttl', value, SESSION_TTL_MIN_S, SESSION_TTL_MAX_S) * 1_000
    },
  ),
  own('read-cache', 'size', 'memory for data that was read', (draft, value) => {
    draft.readCacheBytes = bytes('read-cache', value)
  }),
  own('write-buffer', 'size', 'memory for data that is not written to the nodes yet', (draft, value) => {
    draft.writeBufferBytes = bytes('write-buffer', value)
  }),
  own('read-ahead', 'size', 'how far ahead of a sequential reader is fetched', (draft, value) => {
    draft.readAheadBytes = bytes('read-ahead', value)
  }),
  ownRest(
    'pack-after',
    'packAfterMs',
    'files of many short chunks are packed when they are read and nobody has changed them for so long (default: 300)',
  ),
  ownRest(
    'spill-after',
    'spillAfterMs',
    'small files go from Redis to the nodes when there is little room for new ones and nobody has changed them for so long (default: 600)',
  ),
  own('nice', 'n', NICE_HELP, (draft, value) => {
    draft.nice = nice(value)
  }),
  own(
    'stay-awake',
    'when',
    'processors do not sleep while calls follow each other: auto (in small virtual machines; the default), on or off',
    (draft, value) => {
      draft.stayAwake = oneOf('stay-awake', value, STAY_AWAKE)
    },
  ),
  own('fsname', 'name', 'what mount and df show as the source', (draft, value) => {
    draft.fsName = value
  }),
  own('log-file', 'file', 'log of a mount in the background', (draft, value) => {
    draft.logFile = value
  }),
  own('log-level', 'level', `one of ${LEVELS.join(', ')}`, (draft, value) => {
    draft.logLevel = oneOf('log-level', value, LEVELS)
  }),
]

/** Of mount(8), systemd and boot scripts: no matter of a file system's. `user` and its like say who may mount. */
const NOT_OURS = [
  ...['defaults', 'auto', 'noauto', 'user', 'nouser', 'users', 'nousers', 'owner', 'noowner', 'group', 'nogroup'],
  ...['comment', 'helper', 'uhelper', 'silent', 'loud'],
]
const NOT_OURS_PREFIX = /^[xX]-/
/** Shown in /proc/mounts of every FUSE mount, and handed back by `mount -o remount`: set by the driver itself. */
const OF_THE_DRIVER = ['default_permissions', 'fd', 'rootmode', 'user_id', 'group_id', 'subtype']

/** Pairs that undo each other; only the first has a flag. */
const SWITCHES = [
  ['nosuid', 'suid'],
  ['nodev', 'dev'],
  ['noexec', 'exec'],
] as const

const LIBFUSE_FLAGS = ['direct_io', 'kernel_cache', 'auto_cache', 'noauto_cache', 'sync_read']
const LIBFUSE_VALUES = [
  ...['attr_timeout', 'entry_timeout', 'negative_timeout', 'ac_attr_timeout', 'umask', 'uid', 'gid'],
  ...['max_readahead', 'max_background', 'congestion_threshold'],
]
/** Of security modules: the kernel hands them on. */
const SECURITY = ['context', 'fscontext', 'defcontext', 'rootcontext']

const RULES: ReadonlyMap<string, Rule> = new Map([
  ...NOT_OURS.map((name) => rule(name, 'optional', () => undefined)),
  ...OF_THE_DRIVER.map((name) => rule(name, 'optional', () => undefined)),
  ...SWITCHES.flatMap(([no, yes]) => [
    rule(no, 'none', (draft) => keep(draft, no)),
    rule(yes, 'none', (draft) => drop(draft, no)),
  ]),
  rule('ro', 'none', (draft) => (draft.readOnly = true)),
  rule('rw', 'none', (draft) => (draft.readOnly = false)),
  ...(['relatime', 'noatime', 'strictatime'] as const).map((name) =>
    rule(name, 'none', (draft) => (draft.atime = name)),
  ),
  ...['atime', 'norelatime', 'nostrictatime'].map((name) => rule(name, 'none', (draft) => (draft.atime = 'relatime'))),
  rule('nodiratime', 'none', (draft) => (draft.dirAtime = false)),
  rule('diratime', 'none', (draft) => (draft.dirAtime = true)),
  rule('dirsync', 'none', (draft) => (draft.durableChanges = draft.durableChanges === 'all' ? 'all' : 'names')),
  rule('sync', 'none', (draft) => (draft.durableChanges = 'all')),
  rule('async', 'none', (draft) => (draft.durableChanges = 'none')),
  rule('allow_other', 'none', (draft) => (draft.allowOther = true)),
  rule('noallow_other', 'none', (draft) => (draft.allowOther = false)),
  rule('nofail', 'none', (draft) => (draft.noFail = true)),
  rule('fail', 'none', (draft) => (draft.noFail = false)),
  rule('_netdev', 'none', (draft) => (draft.netDev = true)),
  rule('remount', 'none', (draft) => (draft.remount = true)),
  rule('max_read', 'required', (draft, value) => keep(draft, `max_read=${String(bytes('max_read', value))}`)),
  ...SECURITY.map((name) =>
    // In quotes, since their values may have commas.
    rule(name, 'required', (draft, value) => keep(draft, `${name}="${value}"`)),
  ),
  ...LIBFUSE_FLAGS.map((name) => rule(name, 'none', (draft) => keep(draft, name))),
  ...LIBFUSE_VALUES.map((name) => rule(name, 'required', (draft, value) => keep(draft, `${name}=${value}`))),
  ...OWN_OPTIONS.map(({ name, take }) => rule(name, 'required', take)),
])

const DEFAULTS: MountOptionSet = {
  readOnly: false,
  allowOther: undefined,
  atime: 'relatime',
  dirAtime: true,
  durableChanges: 'none',
  noFail: false,
  netDev: false,
  remount: false,
  extra: [],
  texts: [],
}

/**
 * `texts`: as given to -o, each a list. With `sloppy`, unknown ones are left out in silence (mount -s).
 * Errors: RingfsError USAGE, which names the option.
 */
export function parseMountOptions(texts: readonly string[], sloppy = false): MountOptionSet {
  const draft: Draft = { ...DEFAULTS }
  const taken: string[] = []
  for (const option of texts.flatMap(splitOptions)) {
    if (takeOption(draft, option, sloppy)) taken.push(writeOption(option))
  }
  checkDriver(draft)
  return { ...draft, texts: taken, extra: [...flags(draft), ...draft.extra] }
}

/** false: unknown, and that is no matter. */
function takeOption(draft: Draft, { name, value }: OptionText, sloppy: boolean): boolean {
  const known = RULES.get(name)
  if (known === undefined) {
    if (NOT_OURS_PREFIX.test(name)) return true
    if (sloppy) return false
    throw usage(`unknown mount option '${name}'${alike(name)}`)
  }
  if (known.value === 'required' && (value === undefined || value === '')) {
    throw usage(`mount option ${name} needs a value: ${name}=…`)
  }
  if (known.value === 'none' && value !== undefined) throw usage(`mount option ${name} takes no value`)
  known.take(draft, value ?? '')
  return true
}

function alike(name: string): string {
  const plain = (text: string): string => text.replace(/[-_]/g, '').toLowerCase()
  const other = [...RULES.keys()].find((known) => plain(known) === plain(name))
  return other === undefined ? '' : ` (did you mean ${other}?)`
}

/** What the kernel is to know, and show in /proc/mounts, of what the VFS does. */
function flags({ atime, dirAtime, durableChanges }: Draft): readonly string[] {
  return [
    ...(atime === 'relatime' ? [] : [atime]),
    ...(dirAtime ? [] : ['nodiratime']),
    ...(durableChanges === 'none' ? [] : [durableChanges === 'all' ? 'sync' : 'dirsync']),
  ]
}

function checkDriver({ driver, extra }: Draft): void {
  if (driver === 'fuse-native') return
  const foreign = extra.map((text) => text.split('=', 1)[0] ?? '').find((name) => LIBFUSE.has(name))
  if (foreign === undefined) return
  throw usage(`mount option ${foreign} is for driver=fuse-native: the kernel driver does not need it`)
}

const LIBFUSE: ReadonlySet<string> = new Set([...LIBFUSE_FLAGS, ...LIBFUSE_VALUES])

function rule(name: string, value: Rule['value'], take: (draft: Draft, value: string) => unknown): [string, Rule] {
  return [name, { value, take }]
}

function own(name: string, value: string, help: string, take: Take): OwnOption {
  return { name, value, help, take }
}

/** How long a file must have been left alone before something is done with it. */
function ownRest(name: string, field: 'packAfterMs' | 'spillAfterMs', help: string): OwnOption {
  return own(name, 'seconds', help, (draft, value) => {
    draft[field] = Math.round(number(name, value, 1, NEVER_S) * 1_000)
  })
}

function keep(draft: Draft, text: string): void {
  drop(draft, text)
  draft.extra = [...draft.extra, text]
}

function drop(draft: Draft, text: string): void {
  draft.extra = draft.extra.filter((one) => one !== text)
}

function oneOf<T extends string>(name: string, value: string, values: readonly T[]): T {
  const found = values.find((one) => one === value)
  if (found !== undefined) return found
  throw usage(`${name}=${value}: give one of ${values.join(', ')}`)
}

function number(name: string, value: string, least: number, most: number): number {
  const found = Number(value)
  if (/^\d+(\.\d+)?$/.test(value) && found >= least && found <= most) return found
  throw usage(`${name}=${value}: give a number from ${least} to ${most}`)
}

function nice(value: string): number {
  const found = Number(value)
  if (/^-?\d+$/.test(value) && found >= NICE_MIN && found <= NICE_MAX) return found
  throw usage(`nice=${value}: give a whole number from ${NICE_MIN} to ${NICE_MAX}`)
}

function bytes(name: string, value: string): number {
  const found = parseByteSize(value)
  if (found !== undefined) return found
  throw usage(`${name}=${value}: give a size like 4M or 4194304`)
}

function usage(message: string): RingfsError {
  return new RingfsError('USAGE', message)
}
