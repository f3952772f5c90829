/** The public entry of the package: a typed client of a volume's files, for programs that do not mount. */
import { connector } from '../rpc/file-client.js'
import { readEnvironment } from './environment.js'

/**
 * Connects to the `ringfs up` or `ringfs mount` that runs on this machine, or to the address given.
 * Errors: RingfsError NOT_RUNNING, USAGE, NODE_UNREACHABLE, KEY_REQUIRED.
 */
export const connect = connector(readEnvironment().runFolder)

export { PosixError } from '../base/errno.js'
export { RingfsError, type ErrorCode } from '../base/errors.js'
export type {
  CallSettings,
  ConnectOptions,
  FileStat,
  FileType,
  FsStat,
  GetSettings,
  LinkSettings,
  ListedEntry,
  OpenSettings,
  Owner,
  PathLike,
  PutSettings,
  PutSource,
  ReaddirSettings,
  RemoteFile,
  RingfsClient,
  TimeChange,
  WriteDurability,
  WriteSettings,
} from '../rpc/file-client.js'
