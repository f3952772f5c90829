/** What a rebuild could do and could not know, in words. */
import type { RebuildResult } from './rebuild.js'
import type { RestoredFile } from './restore-file.js'

/** Exit code of `ringfs rebuild`: there may be more. */
export const INCOMPLETE = 4
const GAPS_TOLD = 3

export function linesOf(file: RestoredFile, bytesIn: (bytes: number) => string): readonly string[] {
  const { name, what, of, sizeBytes, bytes, chunks, writtenMs, moved, damaged, senseless } = file
  const written = new Date(writtenMs).toISOString()
  const lines = [`${name}: ${bytesIn(sizeBytes)}, ${counted(chunks, 'chunk')}, last written ${written}`]
  if (what === 'pieces') {
    lines.push(`  only ${bytesIn(bytes)} that inode ${of ?? 0} lacks, in their places: what it has is a hole here`)
  }
  if (what === 'former') lines.push('  another file has its number by now')
  lines.push(...gapLines(file, bytesIn))
  if (moved > 0) {
    lines.push(`  ${counted(moved, 'appended piece')} put behind others in the order of their writing: a guess`)
  }
  if (damaged.length > 0)
    lines.push(`  no good copy of chunk ${damaged.join(', ')}: reading there fails, where it is damaged`)
  if (senseless.length > 0) lines.push(`  the headers of chunk ${senseless.join(', ')} make no sense: left out`)
  return lines
}

function gapLines({ gaps }: RestoredFile, bytesIn: (bytes: number) => string): readonly string[] {
  if (gaps.length === 0) return []
  const some = gaps.slice(0, GAPS_TOLD).map(({ start, end }) => `${start} to ${end}`)
  const more = gaps.length > GAPS_TOLD ? ', …' : ''
  const sum = gaps.reduce((bytes, { start, end }) => bytes + end - start, 0)
  return [`  nothing tells of ${bytesIn(sum)} of it (${some.join(', ')}${more}): holes, or chunks that are gone`]
}

/** What the chunks do not tell, whatever was found. `isAnew`: all metadata were lost. */
export function unknownOf(result: RebuildResult, isAnew: boolean, inlineBytes: number): readonly string[] {
  const { away, young, deleted, hidden, headless, files } = result
  const told: string[] = []
  if (files.length > 0) {
    told.push(
      'names, folders, owners, modes and attributes stand in the metadata only: the files are called by their old numbers and belong to root',
      'where a file ended: a hole at its end is missing, and what was cut off within the last minutes is there again',
    )
    if (isAnew) told.push('what was deleted within the last minutes, and not freed yet, is there again')
    told.push('files that were copied without moving bytes (cp --reflink) are restored once: as the first of them')
  }
  if (isAnew) {
    told.push('empty files, folders, symlinks and the like have no chunks')
    if (inlineBytes > 0) {
      told.push(
        `files up to ${inlineBytes} bytes were kept on Redis: only a backup (ringfs restore) has those of them that had no chunk`,
      )
    }
  } else if (files.length > 0 && inlineBytes > 0) {
    told.push(`files up to ${inlineBytes} bytes were kept on Redis: what it has lost of these is not on the nodes`)
  }
  if (deleted > 0) told.push(`${counted(deleted, 'chunk')} of deleted or overwritten files not freed yet: left alone`)
  if (hidden > 0) told.push(`${counted(hidden, 'chunk')} older than what their files have: left alone`)
  if (young > 0) {
    told.push(
      `${counted(young, 'chunk')} may be uploads under way: run it again a quarter of an hour later, or when nobody uses the volume`,
    )
  }
  for (const [chunk, nodes] of headless) {
    told.push(`chunk ${chunk} on node ${nodes.join(', ')} has no readable header: what it belonged to is not known`)
  }
  for (const [node, why] of away) {
    told.push(`node ${node} is not there, or not all of it: what only it has is not restored: ${why}`)
  }
  return told
}

function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`
}
