/** A child process that holds a data folder until it is killed; says so over IPC. Argument: the folder. */
import { openDataFolder } from '../../src/chunk/node/identity.js'
import { VOLUME } from './chunks.js'

await openDataFolder(process.argv[2] ?? '', VOLUME)
process.send?.('open')
setInterval(() => undefined, 1000)
