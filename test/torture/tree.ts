/** Trees as the agents list them: one line for each entry, `#ino` at its end. */
import { join } from 'node:path'
import type { Agent } from './agent.js'

export interface TreeEntry {
  /** As the agent writes it: `./d/%C3%BC`. */
  readonly path: string
  /** What must be equal, without what an unsynced file may have otherwise. */
  readonly text: string
  readonly ino: string
}

export async function readTree(agent: Agent, folder: string): Promise<readonly TreeEntry[]> {
  await agent.must(['cd', folder])
  const reply = await agent.call(['tree', '.'])
  if (!reply.isOk) throw new Error(`the tree of ${folder} ends with ${reply.text}`)
  return reply.lines.map(parseEntry)
}

function parseEntry(line: string): TreeEntry {
  const [text = '', ino = ''] = line.slice(2).split(' #')
  return { path: text.split(' ')[0] ?? '', text, ino }
}

/** What differs, a line each; empty if nothing does. Of files in `loose` size and contents may, and if it says so the suid bits. */
export function differences(
  expected: readonly TreeEntry[],
  actual: readonly TreeEntry[],
  loose: ReadonlyMap<string, { readonly uncertain: boolean }>,
): readonly string[] {
  const found = new Map(actual.map((entry) => [entry.path, entry]))
  const complaints: string[] = []
  for (const { path, text, ino } of expected) {
    const other = found.get(path)
    found.delete(path)
    const how = loose.get(ino)
    if (other === undefined) complaints.push(`missing on the mount: ${text}`)
    else if (strict(text, how) !== strict(other.text, how)) complaints.push(`${text}\n  on the mount: ${other.text}`)
  }
  return [...complaints, ...[...found.values()].map(({ text }) => `only on the mount: ${text}`)]
}

function strict(text: string, loose: { readonly uncertain: boolean } | undefined): string {
  if (loose === undefined) return text
  const plain = text.replace(/ size=\d+ [0-9a-f]{16}/, '')
  return loose.uncertain ? plain.replace(/ file \d*(\d{3}) /, ' file $1 ') : plain
}

/** The real path of an entry: names are bytes. */
export function pathOf(folder: string, escaped: string): Buffer {
  const bytes: Buffer[] = []
  for (const [part] of escaped.matchAll(/%[0-9A-F]{2}|[^%]+/g)) {
    bytes.push(part.startsWith('%') ? Buffer.from(part.slice(1), 'hex') : Buffer.from(part))
  }
  return Buffer.concat([Buffer.from(join(folder, '/')), ...bytes])
}
