/** `ringfs`: all commands, and what they have in common. */
import { Command, Option } from 'commander'
import { VERSION } from '../main/version.js'
import { backupCommand } from './backup.js'
import { benchCommand } from './bench/index.js'
import { downCommand } from './down.js'
import { registerFileCommands } from './files/index.js'
import { formatCommand } from './format.js'
import { fsckCommand } from './fsck.js'
import { installMountHelperCommand } from './install-mount-helper.js'
import { keyCommand } from './key.js'
import { mountCommand } from './mount.js'
import { nodeCommand } from './node.js'
import { openVfs } from './open-vfs.js'
import { rebalanceCommand } from './rebalance.js'
import { redisClusterCommand } from './redis-cluster.js'
import { restoreCommand } from './restore.js'
import { scrubCommand } from './scrub.js'
import { statsCommand } from './stats/index.js'
import { statusCommand } from './status.js'
import type { CommonOptions, Surroundings } from './surroundings.js'
import { systemdCommand } from './systemd.js'
import { umountCommand } from './umount.js'
import { upCommand } from './up.js'

const COMMANDS = [
  ...[upCommand, downCommand, formatCommand, nodeCommand, mountCommand, umountCommand, statusCommand],
  ...[statsCommand, benchCommand, keyCommand, installMountHelperCommand, systemdCommand],
  ...[scrubCommand, fsckCommand, backupCommand, restoreCommand, rebalanceCommand, redisClusterCommand],
]

const EXAMPLES = `
Examples:
  $ ringfs up                                      everything on this machine, mounted at ./mnt
  $ ringfs up --nodes 3 --replicas 3 --detach      three nodes, every byte on each, in the background
  $ ringfs put -r photos /                         copy a folder into it without mounting
  $ ringfs status                                  nodes, queues, sessions
  $ ringfs down                                    unmount and stop; the data stay

A command that needs a volume takes a META_URL, or --data DIR of a ringfs up, or finds the one that runs here.
Environment: RINGFS_META (META_URL), RINGFS_META_PASSWORD, RINGFS_KEY_FILE, RINGFS_LOG (level).`

const LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']

export function buildProgram(surroundings: Surroundings): Command {
  const program = new Command('ringfs')
    .description('A distributed filesystem that mounts like a disk.')
    .version(VERSION, '-V, --version')
    .addOption(new Option('--log-level <level>', 'log on standard error').choices(LEVELS))
    .option('--debug', 'log everything; show stacks of failures')
    .option('--key-file <file>', 'cluster key, for nodes that listen to other machines')
    .addHelpText('after', EXAMPLES)
  for (const make of COMMANDS) program.addCommand(make(surroundings))
  registerFileCommands(program, {
    openVfs: (selector) => openVfs(surroundings, program.opts<CommonOptions>(), selector),
    stdout: surroundings.stdout,
    stderr: surroundings.stderr,
    isTerminal: surroundings.stderr.isTTY,
    caller: { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0, pid: process.pid },
  })
  for (const command of [program, ...program.commands.flatMap((one) => [one, ...one.commands])]) quiet(command)
  return program
}

/** Failures are thrown, and told in one place and one form: src/main/ringfs.ts. */
function quiet(command: Command): void {
  command.exitOverride()
  command.configureOutput({ outputError: () => undefined })
  command.showSuggestionAfterError(true)
  command.configureHelp({ showGlobalOptions: true })
}

/** The file commands take a META_URL before their paths too: it means --meta. */
export function withMetaOption(words: readonly string[]): readonly string[] {
  const [name, ...rest] = words
  const at = rest.findIndex((word) => /^rediss?:\/\//.test(word))
  if (name === undefined || !FILE_COMMANDS.has(name) || at < 0 || rest[at - 1] === '--meta') return words
  return [name, ...rest.slice(0, at), '--meta', ...rest.slice(at)]
}

const FILE_COMMANDS = new Set(['put', 'get', 'ls', 'cat', 'rm', 'mkdir', 'mv', 'stat', 'df'])
