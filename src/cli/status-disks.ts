/** The disks of nodes, as `ringfs status` shows them. */
import type { ClusterView, DiskReport, Member } from '../cluster/contract.js'
import { humanBytes, table } from './units.js'

/** A sentence for each disk that does not work, of a node that is there to say so, or was silent since. */
export function diskProblems({ members }: ClusterView): readonly string[] {
  return members.flatMap((member) => {
    const { id, state, report } = member
    const disks = report?.disks ?? []
    if (isThere(member)) return disks.flatMap((disk) => problemsOf(id, disk))
    return state === 'down' && isStuck(disks) ? disks.flatMap((disk) => problemOf(id, disk)) : []
  })
}

/** None of them answers: that is why it is silent. */
function isStuck(disks: readonly DiskReport[]): boolean {
  const live = disks.filter(({ state }) => state === 'up')
  return live.length > 0 && live.every(({ why }) => why !== '')
}

function problemsOf(node: string, disk: DiskReport): string[] {
  const problems = [problemOf, unlistedOn, damageOf, waitingOn, stuckOn]
  return problems.flatMap((problem) => problem(node, disk))
}

/** Until it is listed again: at the node's start, or when it is next walked. */
function unlistedOn(node: string, { folder, unlisted, unlistedWhy }: DiskReport): string[] {
  if (unlisted === 0) return []
  const what = unlisted === 1 ? 'a folder of chunks' : `${unlisted} folders of chunks`
  const state = 'what is in there is read, and neither offered to other nodes nor scrubbed'
  const advice =
    'stop the node, have its file system checked (fsck), and start it again: what is lost then is copied from others'
  return [`the disk ${folder} of node ${node} cannot list ${what} (${unlistedWhy}): ${state}; ${advice}`]
}

/** Until it has room, mostly. */
function waitingOn(node: string, { folder, waiting }: DiskReport): string[] {
  if (waiting === 0) return []
  const what = waiting === 1 ? 'a small chunk waits in its log' : `${waiting} small chunks wait in its logs`
  return [`the disk ${folder} of node ${node} takes no files: ${what}, and can be read; is it full?`]
}

function stuckOn(node: string, { folder, chunks, leaving }: DiskReport): string[] {
  if (leaving !== 'stuck') return []
  const why = 'no room on its other disks, bad copies (its log says which), or folders that cannot be listed'
  return [`the disk ${folder} of node ${node} does not get empty: ${why}; ${chunks} chunks are left`]
}

const LEAVING = { no: 'up', moving: 'leaving', stuck: 'leaving', empty: 'empty' } as const

function isThere({ state }: Member): boolean {
  return state !== 'down' && state !== 'gone'
}

/** Until the node is started again. */
function damageOf(node: string, { folder, damaged }: DiskReport): string[] {
  if (damaged === 0) return []
  const what = damaged === 1 ? 'a small chunk has' : `${damaged} small chunks, or more, have`
  return [
    `${what} gone bad on the disk ${folder} of node ${node}, found at its start: copied from others, as far as they have it`,
  ]
}

function problemOf(node: string, { folder, state, why }: DiskReport): string[] {
  const rest = 'what it had is made anew on other disks'
  if (state === 'failed') return [`the disk ${folder} of node ${node} has failed: ${why}; ${rest}`]
  if (state === 'missing') return [`the disk ${folder} of node ${node} is missing: ${why}; ${rest}`]
  return why === '' ? [] : [`the disk ${folder} of node ${node} is slow: ${why}`]
}

/** Of nodes with several; '' if there are none. */
export function diskTable({ members }: ClusterView): string {
  const rows = members
    .filter(isThere)
    .flatMap(({ id, report }) => (report !== undefined && report.disks.length > 1 ? rowsOf(id, report.disks) : []))
  return rows.length === 0 ? '' : `\n${table(['NODE', 'DISK', 'STATE', 'FREE', 'OF', 'CHUNKS'], rows)}`
}

function rowsOf(node: string, disks: readonly DiskReport[]): (string | number)[][] {
  return disks.map(({ folder, state, freeBytes, totalBytes, chunks, leaving }) => [
    ...[node, folder, state === 'up' ? LEAVING[leaving] : state],
    ...(state === 'up' ? [humanBytes(freeBytes), humanBytes(totalBytes), chunks] : ['-', '-', '-']),
  ])
}
