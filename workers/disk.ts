/**
 * Runs in Piscina threads: synchronous disk work, one hop a job. What nobody waits for (walks and checks of all chunks) runs at the
 * usual priority, however readily the process serves others.
 */
import { atUsualPriority } from '../src/base/priority.js'
import { writeBootNote, type BootNoteTask } from '../src/chunk/node/boot-note.js'
import {
  hashAndStoreChunkFile,
  prepareChunkFile,
  readChecked,
  storeChunkFile,
  takeChunkFile,
  verifyChunkFile,
} from '../src/chunk/node/chunk-file.js'
import { existingFiles, moveFile, removeFiles, syncFiles } from '../src/chunk/node/files.js'
import { probeDisk, type ProbeTask } from '../src/chunk/node/disk-probe.js'
import { readLeafOfEach } from '../src/chunk/node/leaf-reads.js'
import { changedFiles, countChunks, listChunks, type ChangedFile, type ChangedTask } from '../src/chunk/node/list.js'
import { lookNear as look, type NearFound, type NearTask } from '../src/chunk/node/near-look.js'
import { roomOf, type Room } from '../src/chunk/node/space.js'
import type {
  CountResult,
  CountTask,
  FilesTask,
  HashStoreResult,
  HashStoreTask,
  LeavesResult,
  LeavesTask,
  ListResult,
  ListTask,
  MoveTask,
  PrepareResult,
  PrepareTask,
  ReadResult,
  ReadTask,
  StoreResult,
  StoreTask,
  SyncTask,
  SyncResult,
  TakeResult,
  TakeTask,
  VerifyTask,
  Verdict,
} from '../src/chunk/node/tasks.js'
import {
  dropRemoved as drop,
  noteRemoved as note,
  readRemoved as noted,
  type DropTask,
  type NoteTask,
  type NotedTask,
} from '../src/chunk/node/removed-file.js'
import {
  createJournal,
  findLogs,
  keepPlaces,
  leftBehind,
  putLogAside,
  settleFiles,
  writeJournal,
  type FoundLogs,
  type JournalTask,
  type JournalWriteTask,
  type KeepTask,
  type LeftBehind,
  type PutAsideTask,
} from '../src/chunk/node/journal-file.js'
import { compact } from '../src/chunk/jobs.js'
import { attempt, type Outcome } from '../src/chunk/outcome.js'

export function store(task: StoreTask): Outcome<StoreResult> {
  return attempt(() => storeChunkFile(task))
}

export function hashAndStore(task: HashStoreTask): Outcome<HashStoreResult> {
  return attempt(() => hashAndStoreChunkFile(task))
}

export function prepare(task: PrepareTask): Outcome<PrepareResult> {
  return attempt(() => prepareChunkFile(task))
}

export function take(task: TakeTask): Outcome<TakeResult> {
  return attempt(() => takeChunkFile(task))
}

export function read(task: ReadTask): Outcome<ReadResult> {
  return attempt(() => readChecked(task))
}

export function readLeaves(task: LeavesTask): Outcome<LeavesResult> {
  return attempt(() => readLeafOfEach(task))
}

export function verify(task: VerifyTask): Outcome<Verdict> {
  return attempt(() => atUsualPriority(() => verifyChunkFile(task)))
}

/** Answers for each file whether it was there. */
export function remove(task: FilesTask): Outcome<readonly boolean[]> {
  return attempt(() => removeFiles(task.files))
}

/** Answers for each file whether it is there. */
export function exist(task: FilesTask): Outcome<readonly boolean[]> {
  return attempt(() => existingFiles(task))
}

export function sync(task: SyncTask): Outcome<readonly SyncResult[]> {
  return attempt(() => syncFiles(task))
}

export function list(task: ListTask): Outcome<ListResult> {
  return attempt(() => atUsualPriority(() => listChunks(task)))
}

export function changed(task: ChangedTask): Outcome<readonly ChangedFile[] | null> {
  return attempt(() => atUsualPriority(() => changedFiles(task)))
}

export function noteBoot(task: BootNoteTask): Outcome<void> {
  return attempt(() => writeBootNote(task))
}

export function probe(task: ProbeTask): Outcome<void> {
  return attempt(() => probeDisk(task))
}

/** Answers whether it was there. */
export function move(task: MoveTask): Outcome<boolean> {
  return attempt(() => moveFile(task))
}

export function room(folder: string): Outcome<Room> {
  return attempt(() => roomOf(folder))
}

/** A structured clone carries all that lies behind a view. */
export function lookNear(task: NearTask): Outcome<readonly (NearFound | null)[]> {
  return attempt(() =>
    look(task).map((found) => {
      return found && { ...found, records: found.records.map(({ kind, body }) => ({ kind, body: compact(body) })) }
    }),
  )
}

export function count(task: CountTask): Outcome<CountResult> {
  return attempt(() => atUsualPriority(() => countChunks(task)))
}

export function createJournalLogs(task: JournalTask): Outcome<void> {
  return attempt(() => createJournal(task))
}

export function appendJournal(task: JournalWriteTask): Outcome<readonly boolean[]> {
  return attempt(() => writeJournal(task))
}

export function findJournal(task: JournalTask): Outcome<FoundLogs> {
  return attempt(() => findLogs(task))
}

export function keepOfJournal(task: KeepTask): Outcome<void> {
  return attempt(() => keepPlaces(task))
}

export function putJournalAside(task: PutAsideTask): Outcome<void> {
  return attempt(() => putLogAside(task))
}

export function leftInJournal(task: JournalTask): Outcome<LeftBehind> {
  return attempt(() => leftBehind(task))
}

/** Chunk files of chunks that are in the journal; not yet on disk. */
export function settle(tasks: readonly StoreTask[]): Outcome<readonly boolean[]> {
  return attempt(() => settleFiles(tasks))
}

export function noteRemoved(task: NoteTask): Outcome<readonly boolean[]> {
  return attempt(() => note(task))
}

export function readRemoved(task: NotedTask): Outcome<Float64Array> {
  return attempt(() => noted(task))
}

export function dropRemoved(task: DropTask): Outcome<void> {
  return attempt(() => drop(task))
}
