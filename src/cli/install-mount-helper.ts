import { Command } from 'commander'
import { installMountHelper, removeMountHelper } from '../main/install-helper.js'
import { print, type Surroundings } from './surroundings.js'

interface Options {
  readonly prefix: string
  readonly remove?: boolean
}

const EXAMPLES = `
Afterwards, as root:
  # mount -t ringfs redis://10.0.0.1:6379/home /mnt/home -o password-file=/etc/ringfs.pw
  # mount -t ringfs /srv/ringfs-data /mnt/shared
or a line of /etc/fstab:
  redis://10.0.0.1:6379/home  /mnt/home  ringfs  noatime,password-file=/etc/ringfs.pw,_netdev,nofail  0  0`

export function installMountHelperCommand(surroundings: Surroundings): Command {
  return new Command('install-mount-helper')
    .summary('make mount -t ringfs and /etc/fstab lines work')
    .description(
      'Puts /sbin/mount.ringfs in place (as root), which starts this very program. Again after it was moved.',
    )
    .option('--prefix <dir>', 'put it into DIR/sbin', '')
    .option('--remove', 'take it away')
    .addHelpText('after', EXAMPLES)
    .action(({ prefix, remove }: Options) => {
      const text =
        remove === true
          ? `${removeMountHelper(prefix)} is removed`
          : `${installMountHelper(prefix)} is in place: mount -t ringfs SOURCE DIR and lines of /etc/fstab work now`
      print(surroundings, `${text}\n`)
    })
}
