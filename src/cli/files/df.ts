import type { Command } from 'commander'
import type { CliContext, VolumeSelector } from '../context.js'
import { withVolume } from './session.js'
import { bytesText } from './show.js'
import { counted } from '../units.js'

interface DfOptions extends VolumeSelector {
  readonly json?: boolean
}

export function register(program: Command, context: CliContext): void {
  withVolume(program.command('df'))
    .summary('show the space of a volume: what files can still be stored, all copies counted')
    .description('Shows the space of a volume: what files can still be stored, all copies counted.')
    .option('--json', 'as JSON')
    .action(async (options: DfOptions) => {
      const volume = await context.openVfs(options)
      try {
        const fs = await volume.vfs.statfs()
        const totalBytes = fs.blocks * fs.blockBytes
        const freeBytes = fs.blocksFree * fs.blockBytes
        const usedBytes = totalBytes - freeBytes
        const files = fs.files - fs.filesFree
        const { name, replicas } = volume.settings
        if (options.json === true) {
          context.stdout.write(
            `${JSON.stringify({ volume: name, replicas, totalBytes, usedBytes, freeBytes, files }, null, 2)}\n`,
          )
          return
        }
        const share = totalBytes === 0 ? 0 : Math.ceil((usedBytes / totalBytes) * 100)
        context.stdout.write(
          `volume ${name}: ${bytesText(totalBytes)} in all, ${bytesText(usedBytes)} used (${share}%), ` +
            `${bytesText(freeBytes)} free, ${counted(files, 'file')}, ${replicas} ${replicas === 1 ? 'copy' : 'copies'} of each chunk\n`,
        )
      } finally {
        await volume.close()
      }
    })
}
