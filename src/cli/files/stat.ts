import type { Command } from 'commander'
import type { CliContext, VolumeSelector } from '../context.js'
import { inVolume, withVolume } from './session.js'
import { modeText, safe, shown, timeText } from './show.js'

interface StatOptions extends VolumeSelector {
  readonly dereference?: boolean
  readonly json?: boolean
}

export function register(program: Command, context: CliContext): void {
  withVolume(program.command('stat'))
    .summary('show the attributes of files')
    .description('Shows the attributes of files.')
    .argument('<path...>', 'paths in the volume')
    .option('-L, --dereference', 'follow a symbolic link at the end of a path')
    .option('--json', 'as a JSON array')
    .addHelpText('after', '\nExample:\n  $ ringfs stat /photos/cat.jpg')
    .action((paths: string[], options: StatOptions) =>
      inVolume(context, options, async (session) => {
        const follow = options.dereference === true ? 'always' : 'slash'
        const all = []
        for (const path of paths) all.push({ path, attr: await session.stat(path, follow) })
        if (options.json === true) {
          context.stdout.write(
            `${JSON.stringify(
              all.map(({ path, attr }) => shown(path, attr)),
              null,
              2,
            )}\n`,
          )
          return
        }
        for (const { path, attr } of all) {
          const lines = [
            `  path: ${safe(path)}`,
            `  type: ${attr.type}  ino: ${attr.ino}  links: ${attr.nlink}`,
            `  size: ${attr.sizeBytes} bytes, ${attr.allocatedBytes} stored`,
            `  mode: ${modeText(attr)}  uid: ${attr.uid}  gid: ${attr.gid}`,
            ` atime: ${timeText(attr.atime)}`,
            ` mtime: ${timeText(attr.mtime)}`,
            ` ctime: ${timeText(attr.ctime)}`,
            ` btime: ${timeText(attr.btime)}`,
          ]
          context.stdout.write(`${lines.join('\n')}\n`)
        }
      }),
    )
}
