import type { Command } from 'commander'
import { PosixError } from '../../base/errno.js'
import type { CliContext, VolumeSelector } from '../context.js'
import { inVolume, named, textOf, withVolume } from './session.js'

interface MvOptions extends VolumeSelector {
  readonly clobber: boolean
}

export function register(program: Command, context: CliContext): void {
  withVolume(program.command('mv'))
    .summary('rename, or move into a directory; at once, whatever the size')
    .description('Renames, or moves into a directory; at once, whatever the size.')
    .argument('<from>', 'path in the volume')
    .argument('<to>', 'new path, or a directory to move it into')
    .option('-n, --no-clobber', 'fail if the new path exists')
    .addHelpText('after', '\nExample:\n  $ ringfs mv /drafts/report.odt /done/')
    .action((from: string, to: string, options: MvOptions) =>
      inVolume(context, options, async (session) => {
        const source = await session.existing(from)
        const folder = await session.statOrNull(to, 'always')
        const into = folder?.type === 'directory' && folder.ino !== source.attr.ino
        const target = into ? { parent: folder.ino, name: source.name, trailingSlash: false } : await session.place(to)
        if (target.trailingSlash && source.attr.type !== 'directory')
          throw new PosixError('ENOTDIR', `${to}: is not a directory`)
        const flags = { noReplace: !options.clobber }
        const shown = into ? `${to.replace(/\/+$/, '')}/${textOf(source.name)}` : to
        const { vfs, caller } = session
        await named(shown, vfs.rename(caller, source.parent, source.name, target.parent, target.name, flags))
      }),
    )
}
