import { once } from 'node:events'
import type { Command } from 'commander'
import { PosixError } from '../../base/errno.js'
import { MIB } from '../../base/limits.js'
import type { CliContext, VolumeSelector } from '../context.js'
import { inVolume, named, withVolume, type Session } from './session.js'

export function register(program: Command, context: CliContext): void {
  withVolume(program.command('cat'))
    .summary('write the contents of files to stdout')
    .description('Writes the contents of files to standard output.')
    .argument('<path...>', 'paths in the volume')
    .addHelpText('after', '\nExample:\n  $ ringfs cat /notes.txt | less')
    .action((paths: string[], options: VolumeSelector) =>
      inVolume(context, options, async (session) => {
        for (const path of paths) await named(path, cat(session, context, path))
      }),
    )
}

async function cat(session: Session, context: CliContext, path: string): Promise<void> {
  const { vfs, caller } = session
  const { ino, type } = await session.stat(path, 'always')
  if (type === 'directory') throw new PosixError('EISDIR')
  const { handle } = await vfs.open(caller, ino, 0)
  try {
    for (let offset = 0; ;) {
      const data = await vfs.read(handle, offset, MIB)
      if (data.length === 0) return
      offset += data.length
      if (!context.stdout.write(data)) await once(context.stdout, 'drain')
    }
  } finally {
    await vfs.release(handle)
  }
}
