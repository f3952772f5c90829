/**
 * The key schema of the metadata. Everything of one partition carries the hash tag `{<volume>.<p>}` and so lies in one
 * slot; what is volume-wide carries `{<volume>}`. ino % partitions is the partition of an inode for ever.
 *
 *   {v.p}:i          hash    ino -> inode record; b<ino> -> body of a small file (both: records.ts)
 *   {v.p}:d:<ino>    zset    the names in directory ino: score = 52-bit hash of the name, member = name, 0, ino, type.
 *                            The score depends on the name alone, so a listing in score order meets every name that
 *                            stays exactly once, even when the name is replaced; equal scores are ordered by member.
 *   {v.p}:e:<ino>:<w> string generation (4 bytes) and the extents of window w, in commit order; window 0 of a small
 *                            file is in its inode record instead
 *   {v.p}:w:<ino>    zset    the windows that have a key :e:
 *   {v.p}:a:<ino>    hash    extended attributes: name -> value
 *   {v.p}:l          hash    POSIX ACLs as in their attributes: a<ino> access, if it says more than the mode; d<ino> default
 *   {v.p}:c          hash    counters: n (inode sequence), inodes, bytes, inline (bytes of bodies);
 *                            h (replication history of the server that gave the last number: scripts/lib/history.lua);
 *                            restore: "<number> <token>" of the restore that writes here, or "<number> closed" (backup/claim.ts)
 *   {v.p}:n          hash    numbers reserved for directories that are still to be made -> session (births.ts)
 *   {v.p}:o          hash    ino -> ids of the sessions that have it open, 4 bytes each
 *   {v.p}:z          hash    ino -> time of deletion, of inodes whose :e: :w: :a: keys and ACLs are still to be freed
 *   {v.p}:g          list    claims: what the janitor looks at after the grace period, u48 ms, u8 kind (0 the window names
 *                            these chunks no more, 1 it may hold them in vain), u56 ino, u32 window, extents
 *   {v.p}:u          hash    chunk id -> its holders (clone.ts), of chunks that were ever cloned: u56 ino, u32 window, u32 data
 *                            version each; empty while the chunk is being deleted. p: the id's block number modulo P
 *   {v.p}:x          hash    locks of prepared transactions: i<ino> | d<ino>/<name> -> tx; t<tx> -> what to do when it is
 *                            decided. b<ino> -> what makes the inode of a directory whose name is here (births.ts);
 *                            D: who holds the partition's delegation (lib/mutate.lua); F: freeze.ts;
 *                            B: last-backup.ts; C: who counts (scripts/lib/counts.lua)
 *   {v.p}:k          hash    ino -> file locks held and awaited (scripts/lib/filelocks.lua)
 *   {v.p}:t          hash    tx -> C (committed) or A (aborted): the commit point of transactions
 *   {v.p}:r:<sid>    hash    last replies of a session: sequence -> reply; w: lowest sequence still in use here; d: dead
 *   {v.p}:wait       string  empty; written before a WAIT (cluster/redis.ts)
 *   {v.p}:v          sharded channel: what changed, for the caches of other clients
 *
 *   {v}:m:settings   string  settings of the volume, JSON
 *   {v}:m:n          hash    counters: session, chunkBlock, token; h as above; r<p>, rw: src/check/histories.ts
 *   {v}:m:s          zset    session id -> end of its lease, ms of Redis time
 *   {v}:m:h          hash    session id -> who it is, JSON (docs/format.md)
 *   {v}:m:dead       zset    sessions that ran out and are being cleaned up -> when that began
 *   {v}:m:lease      hash    the lease for moving directories: token, tx, cp (its commit partition), until;
 *                            gave: the tx that had it last
 *   {v}:m:w          hash    who waits for whose file lock, for finding deadlocks (scripts/wait-edge.lua)
 *   {v}:m:j          string  lease of the janitor, which frees garbage
 *   {v}:m:bodies     string  lease of the one client that moves old bodies into chunks
 *   {v}:m:orphans    hash    chunk id -> ms of Redis time and newest session when fsck first saw that nothing names it
 *   {v}:m:restore    string  "<checksum> <number> <token>": the backup that is being restored, and by whom (backup/claim.ts)
 *   {v}:m:restorer   string  lease of the one process that restores
 *   {v}:m:blocks     hash    block of chunk ids -> session whose it is, and ms since when that is gone, or 'closed' (blocks.ts);
 *                            k<block>: a rebuild has named chunks of it
 *   {v}:m:rebuild    hash    while a rebuild is due or not complete: begun (ms); f<ino> -> the file that is being made of that one's chunks
 *   {v}:m:rebuilder  string  lease of the one process that rebuilds, or frees orphans
 */
export class VolumeKeys {
  readonly #volume: string
  readonly #parts: readonly PartitionKeys[]
  #everywhere: readonly string[] | undefined

  constructor(volume: string, partitions: number) {
    this.#volume = volume
    this.#parts = Array.from({ length: partitions }, (_, p) => new PartitionKeys(`{${volume}.${p}}`))
  }

  get partitions(): number {
    return this.#parts.length
  }

  /** A key of each partition: to reach all masters that have anything of the volume. */
  get everywhere(): readonly string[] {
    return (this.#everywhere ??= this.#parts.map(({ inodes }) => inodes))
  }

  home(ino: number): number {
    return ino % this.#parts.length
  }

  partition(p: number): PartitionKeys {
    const keys = this.#parts[p]
    if (keys === undefined) throw new RangeError(`no partition ${p}`)
    return keys
  }

  /** Where it is kept who holds a chunk. Chunks that one client made fall together: a batch of them asks few partitions. */
  holdersOf(chunkId: number): number {
    return Math.floor(chunkId / CHUNK_BLOCK) % this.#parts.length
  }

  of(ino: number): PartitionKeys {
    return this.partition(this.home(ino))
  }

  wide(
    name:
      | 'settings'
      | 'n'
      | 's'
      | 'h'
      | 'dead'
      | 'lease'
      | 'j'
      | 'bodies'
      | 'w'
      | 'orphans'
      | 'blocks'
      | 'rebuild'
      | 'rebuilder',
  ): string {
    return wideKey(this.#volume, name)
  }
}

/** Chunk ids come in blocks of 2^24, one Redis round trip a block; 2^29 blocks fit below 2^53. */
export const CHUNK_BLOCK = 2 ** 24

export function wideKey(volume: string, name: string): string {
  return `{${volume}}:m:${name}`
}

export class PartitionKeys {
  readonly #tag: string
  readonly inodes: string
  readonly locks: string
  readonly counters: string
  readonly channel: string
  readonly open: string
  readonly garbage: string
  readonly zombies: string
  readonly holders: string
  readonly decisions: string
  readonly fileLocks: string
  readonly acls: string
  readonly reserved: string

  constructor(tag: string) {
    this.#tag = tag
    this.inodes = `${tag}:i`
    this.locks = `${tag}:x`
    this.counters = `${tag}:c`
    this.channel = `${tag}:v`
    this.open = `${tag}:o`
    this.garbage = `${tag}:g`
    this.zombies = `${tag}:z`
    this.holders = `${tag}:u`
    this.decisions = `${tag}:t`
    this.fileLocks = `${tag}:k`
    this.acls = `${tag}:l`
    this.reserved = `${tag}:n`
  }

  names(ino: number): string {
    return `${this.#tag}:d:${ino}`
  }
  extents(ino: number, window: number): string {
    return `${this.#tag}:e:${ino}:${window}`
  }
  windows(ino: number): string {
    return `${this.#tag}:w:${ino}`
  }
  xattrs(ino: number): string {
    return `${this.#tag}:a:${ino}`
  }
  replies(session: number): string {
    return `${this.#tag}:r:${session}`
  }
}
