/** The end of a use of a log: nothing in it is wanted any more, but what is bad. */
import type { Job, WorkerPool } from '../pool.js'
import { logFile, type JournalTask, type JournalWriteTask, type KeepTask, type PutAsideTask } from './journal-file.js'
import { encodeLogHead } from './journal-format.js'
import type { JournalLog } from './journal-log.js'

const WRITE_JOB: Job<JournalWriteTask, readonly boolean[]> = { file: 'disk', name: 'appendJournal' }
const KEEP_JOB: Job<KeepTask, void> = { file: 'disk', name: 'keepOfJournal' }
const ASIDE_JOB: Job<PutAsideTask, void> = { file: 'disk', name: 'putJournalAside' }

/** A start finds nothing in it, and that is on disk, when it resolves. Answers what the log is then. Errors: what the disk says. */
export async function leaveLog(log: JournalLog, pool: WorkerPool, task: JournalTask): Promise<'idle' | 'missing'> {
  const { index, aside, generation, salt } = log
  if (aside === 'all') {
    await putAside(log, pool, task)
    return 'missing'
  }
  const use = { generation, salt }
  if (aside.length > 0) await pool.run(KEEP_JOB, { ...task, log: index, use, places: aside })
  const pieces = [{ bytes: encodeLogHead('settled', use) }]
  await pool.run(WRITE_JOB, { file: logFile(task.folder, index, task.place), position: 0, pieces })
  return 'idle'
}

/** Nothing is written into it meanwhile: it may have another name, or be another log. */
async function putAside(log: JournalLog, pool: WorkerPool, task: JournalTask): Promise<void> {
  log.state = 'leaving'
  try {
    await log.writing
    await pool.run(ASIDE_JOB, { ...task, log: log.index })
  } catch (error) {
    log.state = 'settling'
    throw error
  }
}
