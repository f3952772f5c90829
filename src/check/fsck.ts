/**
 * `ringfs fsck`: the metadata against themselves and against the chunks on the nodes, while the volume is in use.
 *
 * Mended is only what needs no guess, and never by deleting what could be somebody's data: counters and link counts are set to what
 * was counted, copies that lack are queued, bad copies replaced by their nodes, inodes without a name get one in /lost+found,
 * orphans are freed as orphans.ts allows. All of it may be interrupted and done again.
 */
import type { Clock } from '../base/clock.js'
import { RingfsError, messageOf } from '../base/errors.js'
import type { ChunkClient, ListedHeader } from '../chunk/contract.js'
import type { Enqueue } from '../chunk/replication.js'
import type { RedisStore, RingContract, VolumeSettings } from '../cluster/contract.js'
import { chunkPosition } from '../cluster/ring.js'
import type { MetaStore } from '../meta/contract.js'
import { VolumeKeys } from '../meta/keys.js'
import { SCRIPTS } from '../meta/scripts.js'
import { decodeInode } from '../meta/records.js'
import { areSame, recordOf, scanPartition, witnessIn } from '../meta/scan.js'
import { checkChunks, type ChunkProblem, type ChunksResult } from './chunks.js'
import type { Finding } from './finding.js'
import { withRebuildLease } from './lease.js'
import { lostAndFound, putUnder } from './lost-and-found.js'
import { headOf, holdersOf, type NodesParts } from './nodes.js'
import { isHeldBack, isMetadataOlder, ripeOrphans } from './orphans.js'
import { recount } from './recount.js'
import { checkTree, type Pass, type Suspect } from './tree.js'

const REPORT_DEADLINE_MS = 60_000
const REMOVE_BATCH = 500

export interface FsckParts extends NodesParts {
  readonly store: RedisStore
  readonly settings: VolumeSettings
  readonly ring: () => RingContract
  readonly clock: Clock
  readonly deep: boolean
  readonly onProgress: (what: string, done: number, all: number) => void
  /** Aborted: what was mended stays. */
  readonly signal?: AbortSignal
  /** Absent: nothing is changed. */
  readonly repair?: RepairParts
  /** Inodes that one script counts. Default: recount.ts. */
  readonly countedAtOnce?: number
}

export interface RepairParts {
  readonly meta: MetaStore
  readonly chunks: ChunkClient
  readonly enqueue: Enqueue
  readonly orphanGraceMs: number
}

export interface FsckResult {
  readonly inodes: number
  readonly chunks: number
  readonly copies: number
  readonly orphans: number
  readonly freedOrphans: number
  readonly findings: readonly Finding[]
}

/** Errors: CANCELLED. */
export async function fsck(parts: FsckParts): Promise<FsckResult> {
  const { signal } = parts
  if (signal === undefined) return await new Fsck(parts).run()
  let onAbort = (): void => undefined
  // It may be in the middle of anything that takes long.
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(stopped())
    signal.addEventListener('abort', onAbort, { once: true })
    if (signal.aborted) onAbort()
  })
  try {
    return await Promise.race([new Fsck(parts).run(), aborted])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}

function stopped(): RingfsError {
  return new RingfsError('CANCELLED', 'stopped before all was looked at: run it again; what was mended stays so')
}

class Fsck {
  readonly #parts: FsckParts
  readonly #keys: VolumeKeys
  readonly #findings: Finding[] = []

  constructor(parts: FsckParts) {
    this.#parts = parts
    this.#keys = new VolumeKeys(parts.settings.name, parts.settings.partitions)
  }

  #progress(what: string, done: number, all: number): void {
    if (this.#parts.signal?.aborted === true) throw stopped()
    this.#parts.onProgress(what, done, all)
  }

  async run(): Promise<FsckResult> {
    const { store } = this.#parts
    const {
      pass,
      findings: suspects,
      unjudged,
    } = await checkTree(store, this.#keys, (number, done, all) =>
      this.#progress(number === 1 ? 'metadata' : `metadata, pass ${number}`, done, all),
    )
    for (const suspect of suspects) await this.#treeFinding(suspect)
    if (unjudged > 0) {
      this.#note('leftover', `${unjudged} things changed all the time and could not be judged: run fsck again`)
    }
    const { settings, ring, deep, replicas } = { ...this.#parts, replicas: this.#parts.settings.replicas }
    const result = await checkChunks(
      {
        ...this.#parts,
        ...{ keys: this.#keys, ring, deep, replicas, volume: settings.uuid },
        onProgress: (done, all) => this.#progress('chunks', done, all),
      },
      pass.chunks,
    )
    for (const [node, why] of result.away) {
      this.#add({ kind: 'node-away', severity: 'wrong', text: `node ${node} does not answer: ${why}`, mended: false })
    }
    for (const [node, why] of result.short) {
      this.#note(
        'node-away',
        `node ${node} does not tell all that it has, on disks or in folders where more may be: ${why}`,
      )
    }
    const isAllThere = result.away.size + result.short.size === 0
    if (holdersOf(this.#parts.view()).length > 0) {
      for (const problem of result.problems) await this.#chunkFinding(problem, !isAllThere)
    } else if (pass.chunks.size > 0) this.#noNodes(pass.chunks.size)
    const freedOrphans = await this.#orphans(result)
    const paths = await this.#paths(pass)
    const findings = this.#findings.map((one) => withPath(one, paths))
    return {
      ...{ inodes: pass.inodes.size, chunks: pass.chunks.size, copies: result.copies },
      ...{ orphans: result.orphans.size, freedOrphans, findings },
    }
  }

  #add(finding: Finding): void {
    this.#findings.push(finding)
  }

  /** Right after a restore it is so: a line for each chunk would be as many false alarms. */
  #noNodes(chunks: number): void {
    const text = `no node is there: whether one has the ${chunks} chunks nobody can tell: start the nodes, then run fsck again`
    this.#add({ kind: 'node-away', severity: 'wrong', text, mended: false })
  }

  #note(kind: Finding['kind'], text: string): void {
    this.#add({ kind, severity: 'note', text, mended: false })
  }

  async #treeFinding(suspect: Suspect): Promise<void> {
    const { kind, severity, ino, text, partition } = suspect
    if (partition !== undefined) return await this.#counters(partition)
    const mended = await this.#mendInode(suspect)
    this.#add({ kind, severity, text, ino, mended })
  }

  /** Exactly, while it changes. */
  async #counters(partition: number): Promise<void> {
    const { store, repair, countedAtOnce: page } = this.#parts
    const onProgress = (done: number, all: number): void =>
      this.#progress(`inodes of partition ${partition}`, done, all)
    const result = await recount(store, this.#keys, partition, { mends: repair !== undefined, page, onProgress })
    if (result === null) {
      const why = 'Redis failed over, or another fsck or an older ringfs was at it'
      return this.#note('counters', `partition ${partition} could not be counted: ${why}: run fsck again`)
    }
    const { counted, actual } = result
    if (areSame(counted, actual)) return
    const text = `partition ${partition} counts ${JSON.stringify(counted)}, and has ${JSON.stringify(actual)}`
    this.#add({ kind: 'counters', severity: 'wrong', text, mended: repair !== undefined })
  }

  /** false: it is not to be, or has changed since it was judged: that may be minutes ago. */
  async #mendInode({ kind, ino, nlink, witness }: Suspect): Promise<boolean> {
    const { store, repair } = this.#parts
    if (repair === undefined) return false
    const record = await recordOf(store, this.#keys, ino)
    if (record === null || witnessIn(record) !== witness) return false
    if (kind === 'link-count' && nlink !== undefined) return await this.#setLinks(ino, record, nlink)
    if (kind !== 'nameless' || (await repair.meta.getattr(ino)).type === 'directory') return false
    await this.#giveName(repair.meta, ino)
    // It counted names that are lost: what it counts more now is there. Interrupted before this, the next fsck counts.
    const again = await recordOf(store, this.#keys, ino)
    return again !== null && (await this.#setLinks(ino, again, linksOf(ino, again) - linksOf(ino, record)))
  }

  async #giveName(meta: MetaStore, ino: number): Promise<void> {
    const folder = await lostAndFound(meta)
    const link = async (name: Buffer): Promise<number> => (await meta.link(ino, folder, name)).ino
    await putUnder(meta, folder, `inode-${ino}`, link, (attr) => (attr.ino === ino ? ino : null))
  }

  /** false: it has changed since. */
  async #setLinks(ino: number, record: Buffer, nlink: number): Promise<boolean> {
    const { inodes, channel } = this.#keys.of(ino)
    return (await this.#parts.store.run(SCRIPTS.recount, [inodes, channel], [ino, record, nlink])) === 1
  }

  /** For people: where the files are that findings are about. */
  async #paths(pass: Pass): Promise<ReadonlyMap<number, string>> {
    const wanted = new Set(this.#findings.flatMap(({ ino }) => ino ?? []))
    const paths = new Map<number, string>()
    const ignore = (): undefined => undefined
    if (wanted.size === 0) return paths
    for (let p = 0; p < this.#keys.partitions; p++) {
      await scanPartition(this.#parts.store, this.#keys, p, {
        name: (parent, name, ino) => {
          const folder = pass.pathOf(parent)
          if (wanted.has(ino)) paths.set(ino, `${folder === '/' ? '' : folder}/${name.toString()}`)
        },
        ...{ inode: ignore, unreadable: ignore, body: ignore, extents: ignore },
      })
    }
    return paths
  }

  async #chunkFinding(problem: ChunkProblem, isSomebodyAway: boolean): Promise<void> {
    const { kind, chunk, use, on, nodes, why } = problem
    const where = `chunk ${chunk} of inode ${use.ino}`
    if (kind === 'missing-chunk') {
      const text = isSomebodyAway
        ? `${where} is on none of the nodes and disks that answer`
        : `${where} is on no node: that part of the file is lost`
      // Who does not answer may have it.
      return this.#add({ kind, severity: isSomebodyAway ? 'wrong' : 'lost', text, ino: use.ino, chunk, mended: false })
    }
    if (kind === 'bad-copy') {
      const mended = await this.#replace(chunk, nodes)
      const text = `${where}: the copy on node ${nodes.join(', ')} is bad: ${why ?? ''}`
      return this.#add({ kind, severity: 'wrong', text, ino: use.ino, chunk, mended })
    }
    const mended = await this.#queue(chunk, on, nodes)
    const text = `${where} ${lackOf(on.length, this.#parts.settings.replicas, nodes)}`
    this.#add({ kind, severity: 'wrong', text, ino: use.ino, chunk, mended })
  }

  /** The node fetches a good copy, and sets the bad one aside. */
  async #replace(chunk: number, nodes: readonly string[]): Promise<boolean> {
    const { repair, node, settings } = this.#parts
    if (repair === undefined) return false
    await Promise.all(nodes.map((id) => node(id).reportBad(settings.uuid, chunk, { deadlineMs: REPORT_DEADLINE_MS })))
    return true
  }

  async #queue(chunk: number, sources: readonly string[], nodes: readonly string[]): Promise<boolean> {
    const { repair } = this.#parts
    if (repair === undefined) return false
    await Promise.all(nodes.map((id) => repair.enqueue(id, [{ kind: 'copy', chunk, root: null, sources }])))
    return true
  }

  async #orphans({ orphans, away, short }: ChunksResult): Promise<number> {
    const { store, repair } = this.#parts
    const some = `${orphans.size} chunks belong to no file`
    if (await isMetadataOlder(store, this.#keys, orphans.keys())) {
      const why = 'the metadata were restored, or may have lost their end (a failover), or a rebuild is not complete'
      if (orphans.size === 0)
        this.#note('orphans', `chunks of no file, if there were any, would wait for ringfs rebuild: ${why}`)
      else
        this.#add({
          kind: 'orphans',
          severity: 'wrong',
          text: `${some}; run ringfs rebuild, which makes files of them: ${why}`,
          mended: false,
        })
      return 0
    }
    if (orphans.size === 0 && repair === undefined) return 0
    if (repair === undefined || away.size + short.size > 0) {
      if (orphans.size > 0)
        this.#note('orphans', `${some}: uploads under way, of writers that died, or of metadata that were lost`)
      return 0
    }
    const headerOf = async (chunk: number): Promise<ListedHeader | null> =>
      this.#header(chunk, orphans.get(chunk) ?? [])
    const { ripe } = await ripeOrphans(
      { store, keys: this.#keys, graceMs: repair.orphanGraceMs, headerOf },
      orphans.keys(),
    )
    // Nobody makes files of them meanwhile: a rebuild that began first is asked for its mark once more.
    const isFreed = await withRebuildLease(store, this.#keys, async (check) => {
      if (await isHeldBack(store, this.#keys)) return false
      for (let at = 0; at < ripe.length; at += REMOVE_BATCH) {
        check()
        await repair.chunks.remove(ripe.slice(at, at + REMOVE_BATCH))
      }
      return true
    })
    if (isFreed !== true) {
      this.#note('orphans', `${some}: none was freed, as a rebuild or another client is at them: run it again`)
      return 0
    }
    if (orphans.size > 0)
      this.#note(
        'orphans',
        `${some}: ${ripe.length} of them were freed, the others have their grace or a living writer`,
      )
    return ripe.length
  }

  async #header(chunk: number, nodes: readonly string[]): Promise<ListedHeader | null> {
    for (const id of nodes) {
      try {
        const found = await headOf(this.#parts, id, chunk, chunkPosition(chunk) >>> 20)
        if (found?.header !== undefined) return found.header
      } catch (error) {
        this.#note('node-away', `node ${id} does not tell of chunk ${chunk}: ${messageOf(error)}`)
      }
    }
    return null
  }
}

function linksOf(ino: number, record: Buffer): number {
  return decodeInode(ino, record).attr.nlink
}

/** `nodes`: owners without a copy, which some other node may have in their place. */
function lackOf(copies: number, replicas: number, nodes: readonly string[]): string {
  const places = `${nodes.length === 1 ? 'node' : 'nodes'} ${nodes.join(', ')}`
  if (copies >= replicas)
    return `has ${copies === 1 ? 'its copy' : `${copies} copies`}, but none on ${places}, where one belongs`
  return `has ${copies} of its ${replicas} copies: none on ${places}`
}

function withPath(finding: Finding, paths: ReadonlyMap<number, string>): Finding {
  const path = finding.ino === undefined ? undefined : paths.get(finding.ino)
  return path === undefined ? finding : { ...finding, path }
}
