import type { Command } from 'commander'
import { PosixError, isErrno } from '../../base/errno.js'
import type { Attr } from '../../vfs/contract.js'
import type { CliContext, VolumeSelector } from '../context.js'
import { inVolume, named, textOf, withVolume, type Session } from './session.js'
import { each } from './parallel.js'

const PARALLEL = 16

interface RmOptions extends VolumeSelector {
  readonly recursive?: boolean
  readonly force?: boolean
}

export function register(program: Command, context: CliContext): void {
  withVolume(program.command('rm'))
    .summary('remove files, and with -r directories')
    .description('Removes files, and with -r directories.')
    .argument('<path...>', 'paths in the volume')
    .option('-r, --recursive', 'directories with all that is in them')
    .option('-f, --force', 'no error for what is not there')
    .addHelpText('after', '\nExample:\n  $ ringfs rm -r /tmp/old')
    .action((paths: string[], options: RmOptions) =>
      inVolume(context, options, async (session) => {
        for (const path of paths) await rm(session, path, options)
      }),
    )
}

async function rm(session: Session, path: string, options: RmOptions): Promise<void> {
  const place = await session.existing(path).catch((error: unknown) => {
    if (options.force === true && (isErrno(error, 'ENOENT') || isErrno(error, 'ENOTDIR'))) return null
    throw error
  })
  if (place === null) return
  const { parent, name, attr } = place
  if (attr.type === 'directory' && options.recursive !== true) {
    throw new PosixError('EISDIR', `${path}: is a directory (remove it with -r)`)
  }
  await named(path, remove(session, parent, name, attr))
}

/** What others removed meanwhile is removed. */
async function remove(session: Session, parent: number, name: Buffer, attr: Pick<Attr, 'type' | 'ino'>): Promise<void> {
  const { vfs, caller } = session
  try {
    if (attr.type !== 'directory') {
      await vfs.unlink(caller, parent, name)
      return
    }
    await removeContents(session, attr.ino)
    await vfs.rmdir(caller, parent, name)
  } catch (error) {
    if (!(error instanceof PosixError)) throw error
    if (error.code !== 'ENOENT') throw new PosixError(error.code, `${textOf(name)}: ${error.code}`, { cause: error })
  }
}

/** Files many at once, directories one after the other: so the number of removals under way stays the same at any depth. */
async function removeContents(session: Session, ino: number): Promise<void> {
  const folders: { readonly name: Buffer; readonly attr: Attr }[] = []
  await each(session.entries(ino, true), PARALLEL, async (entry) => {
    const attr = await session.attrOf(ino, entry)
    if (attr?.type === 'directory') folders.push({ name: entry.name, attr })
    else if (attr !== null) await remove(session, ino, entry.name, attr)
  })
  for (const { name, attr } of folders) await remove(session, ino, name, attr)
}
