/** A child process that holds a data folder until it is killed; says so over IPC. Argument: the folder. */
import { openNodeFolders } from '../../src/chunk/node/node-folders.js'
import { VOLUME } from './chunks.js'

await openNodeFolders([process.argv[2] ?? ''], VOLUME)
process.send?.('open')
setInterval(() => undefined, 1000)
