/** What a worker does: random operations on few names, so that they meet, and at offsets where something changes. */
import type { Words } from './agent.js'
import type { Feature } from './features.js'
import type { Random } from './random.js'
import { aclValue } from './acl-value.js'

export const SLOTS = 4
const KIB = 1024
const MIB = 1024 * KIB
const LONG = 'n'.repeat(255)

const FILES = ['a', 'b', 'c', 'd/a', 'd/b', 'd/e/a', 's/a', 's/b', 't/a', 't/b', '%C3%BC', LONG]
const FOLDERS = ['.', 'd', 'd/e', 's', 't', 'd/f', 'f', 't/f', 's/f']
const LINKS = ['l', 'd/l', 't/l']
/** What is spelled in another way, or wrongly. */
const ODD = ['./a', 'd/../a', 'd/./b', 'a/', 'd/', 'a/b', 'nope/a', 'l/a', `${LONG}n`, 'd/..', '%20x', 'x%0Ay']
const BYTES = ['%FF%FE', 'd/%80', '%EF%BF%BD']
/** None leads out of the worker's folder: its working directory is one below. */
const TARGETS = ['a', '../a', 'd', 'nowhere', 'l', 'd/l', 'x'.repeat(300), 'd/e']

export interface User {
  readonly uid: number
  readonly gid: number
  readonly groups: readonly number[]
}

export const ROOT: User = { uid: 0, gid: 0, groups: [] }
const USERS: readonly User[] = [
  ROOT,
  ROOT,
  { uid: 1000, gid: 1000, groups: [] },
  { uid: 1001, gid: 1001, groups: [1000] },
  { uid: 1002, gid: 1000, groups: [1001, 50] },
]

/** What every tree begins with: a sticky, a set-gid and a closed folder beside open ones. */
export const PRELUDE: readonly Words[] = [
  ['chmod', '.', '777'],
  ['mkdir', 'd', '755'],
  ['mkdir', 'd/e', '777'],
  ['chmod', 'd/e', '777'],
  ['mkdir', 's', '755'],
  ['chown', 's', '0', '1000'],
  ['chmod', 's', '2777'],
  ['mkdir', 't', '755'],
  ['chmod', 't', '1777'],
  ['open', '0', 'a', 'rw,creat', '666'],
  ['pwrite', '0', '0', '100000', '1'],
  ['open', '1', 'd/b', 'rw,creat', '644'],
  ['symlink', '../a', 'd/l'],
]

interface Row {
  readonly weight: number
  /** Left out where the file system lacks one of these. */
  readonly needs?: readonly Feature[]
  words(random: Random): Words
}

/** The users, the features and the random numbers decide: never what was answered. */
export class Operations {
  readonly #random: Random
  readonly #rows: readonly Row[]
  readonly #total: number

  constructor(random: Random, features: ReadonlySet<Feature>) {
    this.#random = random
    this.#rows = rows(features).filter(({ needs = [] }) => needs.every((feature) => features.has(feature)))
    this.#total = this.#rows.reduce((sum, { weight }) => sum + weight, 0)
  }

  next(): Words {
    let at = this.#random.below(this.#total)
    for (const row of this.#rows) {
      at -= row.weight
      if (at < 0) return row.words(this.#random)
    }
    throw new Error('the weights do not add up')
  }
}

export function asWords({ uid, gid, groups }: User): Words {
  return ['as', ...[uid, gid, ...groups].map(String)]
}

function rows(features: ReadonlySet<Feature>): readonly Row[] {
  const paths = new Paths(features)
  return [
    ...openRows(paths),
    ...dataRows(),
    ...nameRows(paths, features.has('devices')),
    ...attributeRows(paths, features),
    ...xattrRows(paths),
  ]
}

class Paths {
  readonly #odd: readonly string[]

  constructor(features: ReadonlySet<Feature>) {
    this.#odd = features.has('bytes') ? [...ODD, ...BYTES] : ODD
  }

  file(random: Random): string {
    return random.chance(0.04) ? this.any(random) : random.pick(FILES)
  }
  folder(random: Random): string {
    return random.chance(0.05) ? this.any(random) : random.pick(FOLDERS.slice(1))
  }
  any(random: Random): string {
    return random.pick(
      random.chance(0.12) ? this.#odd : random.chance(0.5) ? FILES : random.chance(0.7) ? FOLDERS : LINKS,
    )
  }
}

function openRows(paths: Paths): readonly Row[] {
  const open = (random: Random, flags: string): Words => [
    ...['open', slot(random), paths.file(random), flags],
    random.pick(['644', '666', '666', '777', '4777', '2777', '600']),
  ]
  const access = (random: Random): string => random.pick(['r', 'w', 'rw', 'rw', 'rw'])
  const further = ['', '', '', ',append', ',trunc', ',nofollow', ',sync', ',dsync', ',append,trunc']
  return [
    { weight: 90, words: (random) => open(random, `${access(random)},creat${random.pick(further)},nonblock`) },
    { weight: 20, words: (random) => open(random, `${access(random)}${random.pick(further)},nonblock`) },
    { weight: 15, words: (random) => open(random, `${access(random)},creat,excl${random.pick(further)},nonblock`) },
    { weight: 5, words: (random) => ['open', slot(random), paths.any(random), 'r,dir,nonblock', '0'] },
    {
      weight: 6,
      needs: ['tmpfile'],
      words: (random) => ['open', slot(random), paths.folder(random), 'rw,tmpfile', '640'],
    },
    { weight: 4, needs: ['tmpfile'], words: (random) => ['linkfd', slot(random), paths.file(random)] },
    { weight: 20, words: (random) => ['close', slot(random)] },
  ]
}

function dataRows(): readonly Row[] {
  const range = (random: Random): string[] => [offset(random), length(random)]
  return [
    { weight: 70, words: (random) => ['pwrite', slot(random), ...range(random), seed(random)] },
    { weight: 30, words: (random) => ['write', slot(random), length(random), seed(random)] },
    {
      weight: 10,
      words: (random) => {
        const pieces = Array.from({ length: random.between(1, 6) }, () => String(random.below(9000)))
        return ['pwritev', slot(random), offset(random), seed(random), ...pieces]
      },
    },
    { weight: 60, words: (random) => ['pread', slot(random), ...range(random)] },
    { weight: 15, words: (random) => ['read', slot(random), length(random)] },
    {
      weight: 10,
      words: (random) => {
        const whence = random.pick(['set', 'cur', 'end'])
        return ['seek', slot(random), String(random.below(100_000) - (whence === 'set' ? 0 : 50_000)), whence]
      },
    },
    { weight: 15, words: (random) => ['ftruncate', slot(random), offset(random)] },
    { weight: 12, words: (random) => ['sync', slot(random), random.pick(['full', 'full', 'data'])] },
    {
      weight: 12,
      needs: ['mmap'],
      words: (random) => ['mwrite', slot(random), ...mapRange(random), seed(random), random.pick(['sync', 'later'])],
    },
    { weight: 8, needs: ['mmap'], words: (random) => ['mread', slot(random), ...mapRange(random)] },
    { weight: 4, words: (random) => ['sparse', slot(random)] },
    {
      weight: 12,
      needs: ['fallocate'],
      words: (random) => {
        const how = random.pick(['-', 'keep', 'punch,keep', 'zero', 'zero,keep'])
        return ['fallocate', slot(random), how, ...range(random)]
      },
    },
    {
      weight: 8,
      needs: ['copy'],
      words: (random) => ['copy', slot(random), offset(random), slot(random), ...range(random)],
    },
  ]
}

function nameRows(paths: Paths, devices: boolean): readonly Row[] {
  const node = (random: Random): Words => {
    const type = random.pick(devices ? ['fifo', 'socket', 'file', 'char', 'block'] : ['fifo', 'socket', 'file'])
    // No such driver: some worker will open it as root.
    const device = type === 'char' || type === 'block' ? ['4095', String(random.below(300))] : ['0', '0']
    return ['mknod', paths.file(random), type, random.pick(['644', '600', '777']), ...device]
  }
  const any = (random: Random): string => paths.any(random)
  return [
    {
      weight: 16,
      words: (random) => ['mkdir', paths.folder(random), random.pick(['755', '777', '700', '2777', '1777'])],
    },
    { weight: 10, words: (random) => ['rmdir', paths.folder(random)] },
    { weight: 22, words: (random) => ['unlink', any(random)] },
    { weight: 30, words: (random) => ['rename', any(random), any(random), '-'] },
    { weight: 6, needs: ['noreplace'], words: (random) => ['rename', any(random), any(random), 'noreplace'] },
    { weight: 8, needs: ['exchange'], words: (random) => ['rename', any(random), any(random), 'exchange'] },
    { weight: 14, words: (random) => ['link', any(random), paths.file(random)] },
    { weight: 10, words: (random) => ['symlink', random.pick(TARGETS), random.pick([...LINKS, ...FILES])] },
    { weight: 4, words: (random) => ['readlink', any(random)] },
    { weight: 4, words: node },
    { weight: 8, words: (random) => ['list', random.pick(FOLDERS)] },
  ]
}

function attributeRows(paths: Paths, features: ReadonlySet<Feature>): readonly Row[] {
  const any = (random: Random): string => paths.any(random)
  const mode = (random: Random): string =>
    random.pick(['644', '666', '777', '777', '755', '0', '4755', '2755', '6777', '1777', '2777'])
  const time = timeIn(features.has('nanoseconds'))
  // Not both -1 as root, which the kernel driver cannot tell from a write that takes away capabilities.
  const ids = (random: Random): string[] =>
    random.pick([
      ['-1', id(random)],
      [id(random), '-1'],
      [id(random), id(random)],
    ])
  const id = (random: Random): string => random.pick(['0', '1000', '1001', '65534'])
  return [
    { weight: 12, words: (random) => ['chmod', any(random), mode(random)] },
    { weight: 5, words: (random) => ['fchmod', slot(random), mode(random)] },
    { weight: 5, words: (random) => ['chown', any(random), ...ids(random)] },
    { weight: 5, words: (random) => ['lchown', any(random), ...ids(random)] },
    { weight: 3, words: (random) => ['fchown', slot(random), ...ids(random)] },
    { weight: 10, words: (random) => ['truncate', any(random), offset(random)] },
    { weight: 15, words: (random) => [random.pick(['stat', 'lstat']), any(random)] },
    { weight: 8, words: (random) => ['fstat', slot(random)] },
    { weight: 4, words: (random) => ['access', any(random), String(random.below(8))] },
    { weight: 6, words: (random) => ['utimens', any(random), time(random), time(random)] },
    { weight: 3, needs: ['one-time'], words: (random) => ['utimens', any(random), 'omit', time(random)] },
    { weight: 3, needs: ['one-time'], words: (random) => ['futimens', slot(random), time(random), 'omit'] },
    {
      weight: 3,
      needs: ['one-time'],
      words: (random) => ['utimens', any(random), 'now', random.pick(['omit', 'now'])],
    },
    { weight: 10, needs: ['users'], words: (random) => asWords(random.pick(USERS)) },
    { weight: 3, words: (random) => ['umask', random.pick(['0', '22', '27', '67'])] },
  ]
}

function xattrRows(paths: Paths): readonly Row[] {
  const any = (random: Random): string => paths.any(random)
  const name = (random: Random): string => random.pick(['user.a', 'user.b', 'user.%C3%BC'])
  const bytes = (random: Random): string => String(random.pick([0, 1, 20, 300, 1000]))
  const flags = (random: Random): string => random.pick(['0', '0', '1', '2'])
  const set = (random: Random, attribute: string): Words => [
    ...['setx', any(random), attribute, bytes(random), seed(random), flags(random)],
  ]
  const acl = (random: Random): string => random.pick(['system.posix_acl_access', 'system.posix_acl_default'])
  return [
    { weight: 8, needs: ['user-xattr'], words: (random) => set(random, name(random)) },
    { weight: 4, needs: ['user-xattr'], words: (random) => ['getx', any(random), name(random)] },
    { weight: 3, needs: ['user-xattr'], words: (random) => ['rmx', any(random), name(random)] },
    { weight: 3, needs: ['user-xattr'], words: (random) => ['listx', any(random)] },
    { weight: 4, needs: ['trusted-xattr'], words: (random) => set(random, 'trusted.a') },
    { weight: 2, needs: ['trusted-xattr'], words: (random) => ['getx', any(random), 'trusted.a'] },
    { weight: 8, needs: ['acl'], words: (random) => ['setxhex', any(random), acl(random), aclValue(random), '0'] },
    { weight: 3, needs: ['acl'], words: (random) => ['getx', any(random), acl(random)] },
    { weight: 3, needs: ['acl'], words: (random) => ['rmx', any(random), acl(random)] },
  ]
}

function slot(random: Random): string {
  return String(random.below(SLOTS))
}

function seed(random: Random): string {
  return String(random.between(1, 99_999))
}

/** Around the borders of pages, leaves, requests, chunks and, rarely, windows. */
function offset(random: Random): string {
  if (random.chance(0.5)) return String(random.below(20_000))
  const border = random.pick(random.chance(0.03) ? [64 * MIB] : [4 * KIB, 64 * KIB, 128 * KIB, MIB, 4 * MIB])
  return String(border + random.between(-5000, 5000))
}

function length(random: Random): string {
  if (random.chance(0.45)) return String(random.below(5000))
  if (random.chance(0.1)) return String(random.pick([0, 1, 4096, 8192, 65_536]))
  if (random.chance(0.04)) return String(random.between(4 * MIB - 5000, 4 * MIB + 5000))
  return String(random.below(random.chance(0.2) ? 1_500_000 : 150_000))
}

function mapRange(random: Random): string[] {
  return [String(random.below(100_000)), String(random.between(1, 30_000))]
}

/** In nanoseconds, after 2106 included; or such that are whole milliseconds. */
function timeIn(exact: boolean): (random: Random) => string {
  const unit = exact ? 1 : 1_000_000
  return (random) => {
    const sec = random.pick([0, 1, 1_500_000_000, 4_294_967_296, 9_000_000_000, 1_700_000_000])
    const nanoseconds = random.below(1_000_000_000 / unit) * unit
    return `${sec + random.below(1000)}${String(nanoseconds).padStart(9, '0')}`
  }
}
