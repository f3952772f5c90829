/** What a node says of itself with each heartbeat, as JSON in {v}:c:reports. Written by other versions, too: unknown is ignored. */
import * as z from 'zod'
import type { NodeReport } from './contract.js'

/** Of a cluster in which nobody reaches anybody, the first so many are named. */
const UNREACHABLE_MAX = 32
/** Nor of a machine with more disks than this all of them. */
const DISKS_MAX = 128

const count = z.number().nonnegative().catch(0)

const reportSchema = z.object({
  clockOffsetMs: z.number().catch(0),
  unreachable: z
    .array(z.object({ id: z.string(), address: z.string(), why: z.string(), forMs: count }))
    .max(UNREACHABLE_MAX)
    .catch([]),
  heal: z
    .object({
      plan: z.string(),
      walked: count,
      isDone: z.boolean(),
      lacking: count,
      skipped: count,
      unlisted: count,
      surplus: count,
      copied: count,
      copiedBytes: count,
      retired: count,
      bytesPerS: count,
    })
    .catch(() => NOTHING_HEALED),
  disks: z
    .array(
      z.object({
        disk: z.string(),
        folder: z.string(),
        state: z.enum(['up', 'failed', 'missing']),
        why: z.string(),
        totalBytes: count,
        freeBytes: count,
        chunks: count,
        damaged: count,
        waiting: count,
        unlisted: count,
        unlistedWhy: z.string().catch(''),
        leaving: z.enum(['no', 'moving', 'stuck', 'empty']).catch('no'),
      }),
    )
    .max(DISKS_MAX)
    .catch([]),
})

export const NOTHING_HEALED: NodeReport['heal'] = {
  plan: '',
  walked: 0,
  isDone: false,
  lacking: 0,
  skipped: 0,
  unlisted: 0,
  surplus: 0,
  copied: 0,
  copiedBytes: 0,
  retired: 0,
  bytesPerS: 0,
}

export function encodeReport(report: NodeReport): string {
  const { unreachable, disks } = report
  return JSON.stringify({
    ...report,
    unreachable: unreachable.slice(0, UNREACHABLE_MAX),
    disks: disks.slice(0, DISKS_MAX),
  })
}

/** Of the reports decoded last: a node at rest says the same again and again. */
const DECODED_MAX = 1_024
const decoded = new Map<string, NodeReport | undefined>()

/** undefined: there is none, or none that can be read. */
export function decodeReport(text: string): NodeReport | undefined {
  if (text === '') return undefined
  if (!decoded.has(text)) {
    if (decoded.size >= DECODED_MAX) decoded.clear()
    decoded.set(text, decode(text))
  }
  return decoded.get(text)
}

function decode(text: string): NodeReport | undefined {
  try {
    const parsed = reportSchema.safeParse(JSON.parse(text))
    return parsed.success ? parsed.data : undefined
  } catch {
    return undefined
  }
}
