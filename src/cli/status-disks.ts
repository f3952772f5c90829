/** The disks of nodes, as `ringfs status` shows them. */
import type { ClusterView, DiskReport, Member } from '../cluster/contract.js'
import { humanBytes, table } from './units.js'

/** A sentence for each disk that does not work, of a node that is there to say so. */
export function diskProblems({ members }: ClusterView): readonly string[] {
  return members
    .filter(isThere)
    .flatMap(({ id, report }) => (report?.disks ?? []).flatMap((disk) => problemOf(id, disk) ?? []))
}

function isThere({ state }: Member): boolean {
  return state !== 'down' && state !== 'gone'
}

function problemOf(node: string, { folder, state, why }: DiskReport): string | undefined {
  const rest = 'what it had is made anew on other disks'
  if (state === 'failed') return `the disk ${folder} of node ${node} has failed: ${why}; ${rest}`
  if (state === 'missing') return `the disk ${folder} of node ${node} is missing: ${why}; ${rest}`
  return why === '' ? undefined : `the disk ${folder} of node ${node} is slow: ${why}`
}

/** Of nodes with several; '' if there are none. */
export function diskTable({ members }: ClusterView): string {
  const rows = members
    .filter(isThere)
    .flatMap(({ id, report }) => (report !== undefined && report.disks.length > 1 ? rowsOf(id, report.disks) : []))
  return rows.length === 0 ? '' : `\n${table(['NODE', 'DISK', 'STATE', 'FREE', 'OF', 'CHUNKS'], rows)}`
}

function rowsOf(node: string, disks: readonly DiskReport[]): (string | number)[][] {
  return disks.map(({ folder, state, freeBytes, totalBytes, chunks }) => [
    ...[node, folder, state],
    ...(state === 'up' ? [humanBytes(freeBytes), humanBytes(totalBytes), chunks] : ['-', '-', '-']),
  ])
}
