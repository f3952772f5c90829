/**
 * A process of its own for tests that kill one: `server ADDRESS` serves a MemoryVfs, `client ADDRESS PATH` opens the file
 * and keeps it open. Prints one line when it is so far. A read of /stuck is never answered.
 */
import { connectClient } from '../../src/rpc/file-client.js'
import { RpcServer } from '../../src/rpc/server.js'
import { FileService } from '../../src/service/file-service.js'
import { MemoryVfs } from './memory-vfs.js'

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}

class StuckVfs extends MemoryVfs {
  override async read(handle: number, offset: number, lengthBytes: number): Promise<Buffer> {
    const data = await super.read(handle, offset, lengthBytes)
    if (!data.toString().startsWith('stuck')) return data
    say('reading')
    return new Promise(() => undefined)
  }
}

async function serve(address: string): Promise<void> {
  const server = new RpcServer()
  new FileService(new StuckVfs(), { identity: { uid: 0, gid: 0 } }).register(server)
  say(await server.listen(address))
}

async function hold(address: string, path: string): Promise<void> {
  const client = await connectClient(address, '')
  const file = await client.open(path, 'a+')
  await file.write(0, Buffer.from('held'))
  say('open')
  await file.read(0, 1)
  setInterval(() => undefined, 60_000)
}

const [role, address = '', path = ''] = process.argv.slice(2)
await (role === 'server' ? serve(address) : hold(address, path))
