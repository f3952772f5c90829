/** Runs in Piscina threads: synchronous disk work, one hop a job. */
import { readRange, storeChunkFile, verifyChunkFile } from '../src/chunk/node/chunk-file.js'
import { countChunks, removeFiles, syncFiles } from '../src/chunk/node/files.js'
import type {
  CountTask,
  FilesTask,
  ReadResult,
  ReadTask,
  StoreResult,
  StoreTask,
  SyncTask,
  SyncResult,
  VerifyTask,
  Verdict,
} from '../src/chunk/node/tasks.js'
import { attempt, type Outcome } from '../src/chunk/outcome.js'

export function store(task: StoreTask): Outcome<StoreResult> {
  return attempt(() => storeChunkFile(task))
}

export function read(task: ReadTask): Outcome<ReadResult> {
  return attempt(() => readRange(task))
}

export function verify(task: VerifyTask): Outcome<Verdict> {
  return attempt(() => verifyChunkFile(task))
}

/** Answers for each file whether it was there. */
export function remove(task: FilesTask): Outcome<readonly boolean[]> {
  return attempt(() => removeFiles(task.files))
}

export function sync(task: SyncTask): Outcome<readonly SyncResult[]> {
  return attempt(() => syncFiles(task))
}

export function count(task: CountTask): Outcome<number> {
  return attempt(() => countChunks(task.folder))
}
