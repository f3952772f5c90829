/** What tests of backups need. */
import { join } from 'node:path'
import { systemClock } from '../../src/base/clock.js'
import { temporaryFolder, type Teardown } from './chunks.js'

export const BACKUP_OPTIONS = { version: '0.0.0', clock: systemClock, maxPauseMs: 60_000, onProgress: () => undefined }

/** Where there is none yet. */
export function backupFile(t: Teardown): string {
  return join(temporaryFolder(t), 'backup')
}
