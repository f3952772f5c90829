/** `ringfs`: all commands, and what they have in common. */
import { Command, Help, Option } from 'commander'
import { VERSION } from '../main/version.js'
import { registerFileCommands } from './files/index.js'
import type { CommonOptions, Surroundings } from './surroundings.js'

type Make = (surroundings: Surroundings) => Command

/** Loaded when they are asked for: half a second goes into loading all that a mount needs, and `ringfs down` needs none of it. */
const COMMANDS: Readonly<Record<string, () => Promise<Make>>> = {
  up: async () => (await import('./up.js')).upCommand,
  down: async () => (await import('./down.js')).downCommand,
  format: async () => (await import('./format.js')).formatCommand,
  node: async () => (await import('./node.js')).nodeCommand,
  mount: async () => (await import('./mount.js')).mountCommand,
  umount: async () => (await import('./umount.js')).umountCommand,
  status: async () => (await import('./status.js')).statusCommand,
  stats: async () => (await import('./stats/index.js')).statsCommand,
  bench: async () => (await import('./bench/index.js')).benchCommand,
  key: async () => (await import('./key.js')).keyCommand,
  'install-mount-helper': async () => (await import('./install-mount-helper.js')).installMountHelperCommand,
  systemd: async () => (await import('./systemd.js')).systemdCommand,
  scrub: async () => (await import('./scrub.js')).scrubCommand,
  fsck: async () => (await import('./fsck.js')).fsckCommand,
  backup: async () => (await import('./backup.js')).backupCommand,
  restore: async () => (await import('./restore.js')).restoreCommand,
  rebuild: async () => (await import('./rebuild.js')).rebuildCommand,
  'redis-cluster': async () => (await import('./redis-cluster.js')).redisClusterCommand,
  rebalance: async () => (await import('./rebalance.js')).rebalanceCommand,
}

const EXAMPLES = `
Examples:
  $ ringfs up                                      everything on this machine, mounted at ./mnt
  $ ringfs up --nodes 3 --replicas 3 --detach      three nodes, every byte on each, in the background
  $ ringfs put -r photos /                         copy a folder into it without mounting
  $ ringfs status                                  nodes, queues, sessions
  $ ringfs down                                    unmount and stop; the data stay

A command that needs a volume takes a META_URL, or --data DIR of a ringfs up, or finds the one that runs here.
Environment: RINGFS_META (META_URL), RINGFS_META_PASSWORD, RINGFS_KEY_FILE, RINGFS_LOG (level).`

const VERSION_WORDS: ReadonlySet<string> = new Set(['-V', '--version'])

const LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']

/** The program that understands `words`: with the command that they begin with, or, if it is none, with all of them. */
export async function buildProgram(surroundings: Surroundings, words: readonly string[]): Promise<Command> {
  const program = new Command('ringfs')
    .description('A distributed filesystem that mounts like a disk.')
    .version(VERSION, '-V, --version')
    .addOption(new Option('--log-level <level>', 'log on standard error').choices(LEVELS))
    .option('--debug', 'log everything; show stacks of failures')
    .option('--key-file <file>', 'cluster key, for nodes that listen to other machines')
    .addHelpText('after', EXAMPLES)
  for (const make of await commandsFor(words)) program.addCommand(make(surroundings))
  registerFileCommands(program, {
    openVfs: async (selector) => {
      const { openVfs } = await import('./open-vfs.js')
      return openVfs(surroundings, program.opts<CommonOptions>(), selector)
    },
    stdout: surroundings.stdout,
    stderr: surroundings.stderr,
    isTerminal: surroundings.stderr.isTTY,
    caller: { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0, pid: process.pid },
    machine: surroundings.environment.machine,
  })
  for (const command of [program, ...program.commands.flatMap((one) => [one, ...one.commands])]) quiet(command)
  return program
}

async function commandsFor([first = '']: readonly string[]): Promise<readonly Make[]> {
  if (FILE_COMMANDS.has(first) || VERSION_WORDS.has(first)) return []
  const one = Object.hasOwn(COMMANDS, first) ? COMMANDS[first] : undefined
  return one === undefined ? Promise.all(Object.values(COMMANDS).map((load) => load())) : [await one()]
}

/** Failures are thrown, and told in one place and one form: src/main/ringfs.ts. */
function quiet(command: Command): void {
  command.exitOverride()
  command.configureOutput({ outputError: () => undefined })
  command.showSuggestionAfterError(true)
  command.configureHelp({
    showGlobalOptions: true,
    visibleGlobalOptions: globalOptions,
    optionDescription: (option) =>
      new Help().optionDescription(hasEmptyDefault(option) ? withoutDefault(option) : option),
  })
}

function hasEmptyDefault({ defaultValue }: Option): boolean {
  return defaultValue === '' || (Array.isArray(defaultValue) && defaultValue.length === 0)
}

/** `(default: [])` tells nobody anything. */
function withoutDefault({ flags, description, argChoices = [] }: Option): Option {
  const option = new Option(flags, description)
  return argChoices.length === 0 ? option : option.choices(argChoices)
}

/** Those of `ringfs` itself: what a command between has says what that one is to do. */
function globalOptions(command: Command): Option[] {
  let root = command
  while (root.parent !== null) root = root.parent
  return root === command ? [] : root.options.filter(({ hidden }) => !hidden)
}

/** Commands that take the volume as an option take a META_URL among their words, too, as `mount` and `status` do: it means --meta. */
export function withMetaOption(words: readonly string[]): readonly string[] {
  const [name, ...rest] = words
  const at = rest.findIndex((word) => /^rediss?:\/\//.test(word))
  if (name === undefined || !TAKES_META.has(name) || at < 0 || rest[at - 1] === '--meta') return words
  return [name, ...rest.slice(0, at), '--meta', ...rest.slice(at)]
}

const FILE_COMMANDS = new Set(['put', 'get', 'ls', 'cat', 'rm', 'mkdir', 'mv', 'stat', 'df'])
const TAKES_META = new Set([...FILE_COMMANDS, 'node', 'rebalance'])
