import { Command } from 'commander'
import { RingfsError } from '../base/errors.js'
import { resolveMountpoint } from '../fuse/mountpoint.js'
import { FS_TYPE, mountOn } from '../fuse/mounts.js'
import { unmountPath } from '../fuse/unmount.js'
import { untilEnded } from '../main/down.js'
import { readRunFiles } from '../main/runfiles.js'
import { print, type CommonOptions, type Surroundings } from './surroundings.js'

interface Options extends CommonOptions {
  readonly lazy?: boolean
}

const EXAMPLES = `
Waits until everything is written and the process that served the mount has ended. The mount of a ringfs up ends that.

Examples:
  $ ringfs umount /mnt/home
  $ ringfs umount --lazy /mnt/home`

export function umountCommand(surroundings: Surroundings): Command {
  return new Command('umount')
    .summary('unmount')
    .description('Unmounts a volume.')
    .argument('<mountpoint>')
    .option('--lazy', 'also while it is in use')
    .addHelpText('after', EXAMPLES)
    .action(async (path: string, options: Options) => {
      await unmount(surroundings, path, options.lazy === true)
    })
}

async function unmount(surroundings: Surroundings, path: string, lazy: boolean): Promise<void> {
  const mountpoint = await resolveMountpoint(path)
  const mount = await mountOn(mountpoint)
  if (mount?.fsType !== FS_TYPE) throw new RingfsError('NOT_RUNNING', `no ringfs is mounted on ${path}`)
  const owner = readRunFiles(surroundings.environment.runFolder).find((run) => run.mountpoint === mountpoint)
  await unmountPath(mountpoint, lazy)
  if (owner !== undefined && !lazy) await untilEnded(owner)
  print(surroundings, `${mountpoint} is unmounted\n`)
}
