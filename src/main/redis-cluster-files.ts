/** What `ringfs redis-cluster up` writes down of itself in its folder: redis-cluster.ts. */
import { join } from 'node:path'
import * as z from 'zod'
import { RingfsError, codeOf, messageOf } from '../base/errors.js'
import { PID_MAX } from '../base/processes.js'
import { readSmallFile } from '../base/small-file.js'
import { writePrivate } from '../cluster/private-redis-files.js'

export const PLAN_FILE = 'redis-cluster.json'
export const RUNNING_FILE = 'running.json'
/** 2: with TLS. */
export const PLAN_FORMAT = 2
const PORT_MAX = 65_535
/** Each is a process of its own. */
const SERVERS_MAX = 1_000

const formatSchema = z.object({ format: z.int() })

const portSchema = z.int().positive().max(PORT_MAX)

const planSchema = z
  .object({
    format: z.int().positive(),
    masters: z.int().positive(),
    replicas: z.int().min(0),
    nodeTimeoutMs: z.int().positive(),
    servers: z.array(z.object({ port: portSchema, busPort: portSchema })).max(SERVERS_MAX),
    isFormed: z.boolean(),
    tls: z.boolean().default(false),
  })
  .refine(
    ({ masters, replicas, servers }) => servers.length === masters * (1 + replicas),
    'the number of servers is wrong',
  )

export type Plan = z.infer<typeof planSchema>

const runningSchema = z.object({ pid: z.int().positive().max(PID_MAX), startedAt: z.string().nullable() })

export type Running = z.infer<typeof runningSchema>

/** undefined: it was never started here. Errors: RingfsError USAGE. */
export function readPlan(folder: string): Plan | undefined {
  const file = join(folder, PLAN_FILE)
  const text = textIn(file)
  if (text === undefined) return undefined
  const value = valueOf(text)
  const newer = formatSchema.safeParse(value)
  if (newer.success && newer.data.format > PLAN_FORMAT) {
    throw new RingfsError('USAGE', `${file} was written by a newer ringfs: use that one`)
  }
  const { success, data, error } = planSchema.safeParse(value)
  if (success) return data
  throw new RingfsError('USAGE', `${file} is damaged: restore it, or begin with another folder`, { cause: error })
}

export async function writePlan(folder: string, plan: Plan): Promise<void> {
  await writePrivate(join(folder, PLAN_FILE), `${JSON.stringify(plan, null, 2)}\n`)
}

/** The process that keeps it running, or did when it crashed. undefined: there is none. Errors: RingfsError USAGE. */
export function readRunning(folder: string): Running | undefined {
  const file = join(folder, RUNNING_FILE)
  const text = textIn(file)
  if (text === undefined) return undefined
  const { success, data } = runningSchema.safeParse(valueOf(text))
  if (success) return data
  const advice = `end the process of 'ringfs redis-cluster up ${folder}' if there is one, and remove the file`
  throw new RingfsError('USAGE', `${file} is damaged, so that it is not known who keeps the servers running: ${advice}`)
}

export async function writeRunning(folder: string, running: Running): Promise<void> {
  await writePrivate(join(folder, RUNNING_FILE), `${JSON.stringify(running)}\n`)
}

function textIn(file: string): string | undefined {
  try {
    return readSmallFile(file)
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined
    throw new RingfsError('USAGE', `${file} cannot be read: ${messageOf(error)}`)
  }
}

function valueOf(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
