/**
 * The Lua scripts, each with the libraries that its first line names: `-- include: inode locks freeze mutate`. A script marked
 * `-- oom: allowed` runs also when Redis has no memory left: what reads, deletes or ends something, or makes room, must still work then. One marked
 * `-- slots: several` may reach keys of other slots that it does not declare, where they are on the same server (lib/sides.lua).
 *
 * Of the libraries a script gets the functions that it calls, and those that these call: Redis makes each function of a script anew
 * whenever it runs it.
 */
import { readFileSync } from 'node:fs'
import { BUILD_FOLDER } from '../base/places.js'
import { makeScript } from '../cluster/script.js'
import type { Script } from '../cluster/contract.js'
import { Library, withConstants, withoutUnused } from './lua.js'

const FOLDER = new URL('src/meta/scripts/', BUILD_FOLDER)

const libraries = new Map<string, Library>()

function read(name: string): string {
  return readFileSync(new URL(`${name}.lua`, FOLDER), 'utf8')
}

function libraryOf(name: string): Library {
  let library = libraries.get(name)
  if (library === undefined) libraries.set(name, (library = new Library(read(`lib/${name}`))))
  return library
}

/**
 * Files are read when the program starts, for an upgrade may replace them while it runs. What is sent is put together when it is first
 * used: for all scripts together that takes longer than most commands use Redis.
 */
class FileScript implements Script {
  readonly name: string
  readonly #body: string
  readonly #libraries: readonly Library[]
  readonly #changes: boolean
  readonly #runsWhenFull: boolean | undefined
  #whole: Script | undefined

  /** `runsWhenFull`: default as it is marked; then one that is not marked may run if it removes something first. */
  constructor(name: string, runsWhenFull?: false) {
    this.name = name
    this.#body = read(name)
    this.#runsWhenFull = runsWhenFull ?? (/^-- oom: allowed$/m.test(this.#body) ? true : undefined)
    const names = /^-- include: (.+)$/m.exec(this.#body)?.[1]?.split(' ') ?? []
    this.#libraries = names.map(libraryOf)
    this.#changes = names.includes('mutate')
  }

  get source(): string {
    return this.#made().source
  }

  get sha1(): string {
    return this.#made().sha1
  }

  #made(): Script {
    return (this.#whole ??= makeScript(this.name, this.#put()))
  }

  #put(): string {
    const body = this.#body
    const names = [
      ...(this.#runsWhenFull === true ? ['allow-oom'] : []),
      ...(/^-- slots: several$/m.test(body) ? ['allow-cross-slot-keys'] : []),
    ]
    // With such a line, and without that flag, Redis looks at its memory before the script begins.
    const isJudged = names.length > 0 || this.#runsWhenFull === false
    const flags = isJudged ? [`#!lua flags=${names.join(',')}`] : []
    // What a changing script returns, wherever it returns, passes through settle() of lib/mutate.lua.
    const whole = this.#changes ? `local function script()\n${body}\nend\nreturn settle(script())` : body
    const all = withConstants(`${withoutUnused(this.#libraries, whole)}\n${whole}`)
    return [...flags, all].join('\n')
  }
}

function load(name: string): Script {
  return new FileScript(name)
}

/** The same script, but never when Redis has no memory left. */
function loadGrowing(name: string): Script {
  return new FileScript(name, false)
}

export const SCRIPTS = {
  lookup: load('lookup'),
  getattr: load('getattr'),
  readdir: load('readdir'),
  extents: load('extents'),
  getxattr: load('getxattr'),
  listxattr: load('listxattr'),
  create: load('create'),
  tmpfile: load('tmpfile'),
  unlink: load('unlink'),
  link: load('link'),
  rename: load('rename'),
  exchange: load('exchange'),
  setattr: load('setattr'),
  touch: load('touch'),
  truncate: load('truncate'),
  open: load('open'),
  close: load('close'),
  commit: load('commit'),
  commitInline: load('commit-inline'),
  spill: load('spill'),
  oldBodies: load('old-bodies'),
  moveBodies: load('move-bodies'),
  windows: load('windows'),
  punch: load('punch'),
  intend: load('intend'),
  hold: load('hold'),
  clone: load('clone'),
  compact: load('compact'),
  setxattr: load('setxattr'),
  setAcl: load('set-acl'),
  removexattr: load('removexattr'),
  lock: load('lock'),
  unlock: load('unlock'),
  lockCancel: load('lock-cancel'),
  lockDrop: load('lock-drop'),
  lockedBy: load('locked-by'),
  lockGet: load('lock-get'),
  lockAsk: load('lock-ask'),
  waitEdge: load('wait-edge'),
  waitOver: load('wait-over'),
  waitsDrop: load('waits-drop'),
  mkdir: load('mkdir'),
  born: load('born'),
  reserve: load('reserve'),
  unreserve: load('unreserve'),
  txPrepare: load('tx-prepare'),
  txCommit: load('tx-commit'),
  txFinish: load('tx-finish'),
  txDecide: load('tx-decide'),
  txWhole: load('tx-whole'),
  // For what makes more of the metadata.
  txPrepareGrowing: loadGrowing('tx-prepare'),
  txCommitGrowing: loadGrowing('tx-commit'),
  txWholeGrowing: loadGrowing('tx-whole'),
  forget: load('forget'),
  delegate: load('delegate'),
  register: load('register'),
  reap: load('reap'),
  openedBy: load('opened-by'),
  known: load('known'),
  sessionBegin: load('session-begin'),
  sessionRenew: load('session-renew'),
  sessionGone: load('session-gone'),
  sessionLost: load('session-lost'),
  sessionExpired: load('session-expired'),
  sessionEnd: load('session-end'),
  leaseTake: load('lease-take'),
  leaseGive: load('lease-give'),
  leaseBegin: load('lease-begin'),
  leaseRenew: load('lease-renew'),
  leaseDrop: load('lease-drop'),
  garbagePeek: load('garbage-peek'),
  garbageDone: load('garbage-done'),
  named: load('named'),
  fence: load('fence'),
  release: load('release'),
  bury: load('bury'),
  zombieFree: load('zombie-free'),
  janitor: load('janitor'),
  freeze: load('freeze'),
  thaw: load('thaw'),
  txInos: load('tx-inos'),
  recount: load('recount'),
  countBegin: load('count-begin'),
  countList: load('count-list'),
  countPage: load('count-page'),
  countEnd: load('count-end'),
  setCounts: load('set-counts'),
  orphans: load('orphans'),
  raise: load('raise'),
  now: load('now'),
  history: load('history'),
  beginHistory: load('begin-history'),
  takeBlock: load('take-block'),
  ownBlocks: load('own-blocks'),
  closeBlocks: load('close-blocks'),
  endBlocks: load('end-blocks'),
  format: load('format'),
  restoreClaim: load('restore-claim'),
  restoreFence: load('restore-fence'),
  restoreWrite: load('restore-write'),
  restoreEnd: load('restore-end'),
  restoreClear: load('restore-clear'),
  restoreClearWide: load('restore-clear-wide'),
  restoreDrop: load('restore-drop'),
  root: load('root'),
} as const
