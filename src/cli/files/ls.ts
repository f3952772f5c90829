import type { Command } from 'commander'
import type { Attr } from '../../vfs/contract.js'
import type { CliContext, VolumeSelector } from '../context.js'
import { inVolume, textOf, withVolume, type Session } from './session.js'
import { longLine, safe, shown } from './show.js'

interface LsOptions extends VolumeSelector {
  readonly long?: boolean
  readonly all?: boolean
  readonly json?: boolean
}

interface Listed {
  readonly name: string
  readonly attr: Attr
}

export function register(program: Command, context: CliContext): void {
  withVolume(program.command('ls'))
    .summary('list directories of a volume')
    .description('Lists directories of a volume.')
    .argument('[path...]', 'paths in the volume (default: /)')
    .option('-l, --long', 'with mode, owner, size and time')
    .option('-a, --all', 'also names that begin with a dot')
    .option('--json', 'as a JSON array')
    .addHelpText('after', '\nExamples:\n  $ ringfs ls -l /photos\n  $ ringfs ls --json / | jq .[].name')
    .action((paths: string[], options: LsOptions) =>
      inVolume(context, options, (session) => ls(session, context, paths.length === 0 ? ['/'] : paths, options)),
    )
}

async function ls(session: Session, context: CliContext, paths: readonly string[], options: LsOptions): Promise<void> {
  const all: Listed[] = []
  for (const path of paths) {
    const listed = await list(session, path, options)
    if (options.json === true) for (const one of listed) all.push(one)
    else print(context, path, listed, paths.length > 1, options)
  }
  if (options.json !== true) return
  context.stdout.write(
    `${JSON.stringify(
      all.map(({ name, attr }) => shown(name, attr)),
      null,
      2,
    )}\n`,
  )
}

async function list(session: Session, path: string, options: LsOptions): Promise<readonly Listed[]> {
  const attr = await session.stat(path, options.long === true ? 'slash' : 'always')
  if (attr.type !== 'directory') return [{ name: path, attr }]
  const listed: Listed[] = []
  for await (const entry of session.entries(attr.ino, true)) {
    if (options.all !== true && entry.name[0] === 0x2e) continue
    const one = await session.attrOf(attr.ino, entry)
    if (one !== null) listed.push({ name: textOf(entry.name), attr: one })
  }
  return listed.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))
}

/** Not by Math.max(...): so many arguments as a folder has names no function takes. */
function widest(listed: readonly Listed[], figure: (attr: Attr) => number): number {
  return listed.reduce((width, { attr }) => Math.max(width, String(figure(attr)).length), 0)
}

function print(
  context: CliContext,
  path: string,
  listed: readonly Listed[],
  titled: boolean,
  options: LsOptions,
): void {
  if (titled) context.stdout.write(`${safe(path)}:\n`)
  const widths = {
    nlink: widest(listed, ({ nlink }) => nlink),
    size: widest(listed, ({ sizeBytes }) => sizeBytes),
  }
  for (const { name, attr } of listed) {
    context.stdout.write(`${options.long === true ? longLine(safe(name), attr, widths) : safe(name)}\n`)
  }
  if (titled) context.stdout.write('\n')
}
