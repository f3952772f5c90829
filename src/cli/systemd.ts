import { Command } from 'commander'
import { installUnit, mountUnit, nodeUnit, rebuildUnits } from '../main/systemd.js'
import { parseMetaUrl } from '../cluster/url.js'
import { RingfsError } from '../base/errors.js'
import { collect } from './arguments.js'
import { isUrl } from './mount.js'
import { print, type Surroundings } from './surroundings.js'

const EXAMPLES = `
A node: its settings are in /etc/ringfs/node.env (mode 600), a line each:
  RINGFS_META=redis://10.0.0.1:6379/home?password-file=/etc/ringfs/redis.pw
  RINGFS_KEY_FILE=/etc/ringfs/ring.key
  RINGFS_DATA=/var/lib/ringfs
  RINGFS_LISTEN=0.0.0.0:7400
  RINGFS_ADVERTISE=10.0.0.7:7400
The files belong to the user of the service:
  # useradd --system ringfs
  # ringfs systemd node && systemctl daemon-reload && systemctl enable --now ringfs-node ringfs-rebuild.timer
Further disks are mounted, and have a folder of that user: ringfs systemd node --disk /mnt/disk2/ringfs --disk /mnt/disk3/ringfs

A mount:
  # ringfs install-mount-helper
  # ringfs systemd mount redis://10.0.0.1:6379/home /mnt/home -o password-file=/etc/ringfs/redis.pw,key-file=/etc/ringfs/ring.key
  # systemctl daemon-reload && systemctl enable --now mnt-home.mount`

interface NodeOptions {
  readonly user: string
  readonly disk: readonly string[]
  readonly prefix: string
}

export function systemdCommand(surroundings: Surroundings): Command {
  const command = new Command('systemd').summary('units for systemd').description('Puts units for systemd in place.')
  const tell = (file: string): void => print(surroundings, `${file} is in place: systemctl daemon-reload\n`)
  command
    .command('node')
    .description('ringfs-node.service, a chunk node, and ringfs-rebuild.timer')
    .option('--user <name>', 'who it runs as', 'ringfs')
    .option('--disk <dir>', 'a further data folder, on a disk of its own; may be repeated', collect, [])
    .option('--prefix <dir>', 'root of the system', '')
    .action(({ user, disk, prefix }: NodeOptions) => {
      for (const unit of [nodeUnit(user, disk), ...rebuildUnits(user)]) tell(installUnit(unit, prefix))
    })
  command
    .command('mount <source> <dir>')
    .description('a mount unit, as a line of /etc/fstab would be')
    .option('-o, --options <list>', 'mount options', '')
    .option('--prefix <dir>', 'root of the system', '')
    .action((source: string, dir: string, { options, prefix }: { options: string; prefix: string }) => {
      if (isUrl(source) && parseMetaUrl(source).password !== undefined) {
        throw new RingfsError('USAGE', 'every user can read a password in a unit: -o password-file=FILE')
      }
      tell(installUnit(mountUnit(source, dir, options), prefix))
    })
  return command.addHelpText('after', EXAMPLES)
}
