/** The parent's side of crash-child.ts. */
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { PATIENCE_MS } from './deadline.js'
import { News, type Case, type Orders } from './meta-actions.js'
import { until } from './meta.js'
import type { TestRedis } from './redis.js'

export type Done = Extract<News, { kind: 'done' }>

export interface CrashChild {
  readonly process: ChildProcess
  readonly done: ReadonlyMap<number, Done>
  go(): void
  kill(): Promise<void>
}

/** Answers when every case is held up at its step. */
export async function startCases(
  t: Pick<Test, 'teardown'>,
  redis: TestRedis,
  cases: readonly Case[],
  intentTimeoutMs: number,
): Promise<CrashChild> {
  const child = fork(fileURLToPath(new URL('./crash-child.js', import.meta.url)))
  const gone = once(child, 'exit')
  let isGone = false
  child.on('exit', () => (isGone = true))
  const kill = async (): Promise<void> => {
    if (!isGone) child.kill('SIGKILL')
    await gone
  }
  t.teardown(kill)
  const halted = new Set<number>()
  const done = new Map<number, Done>()
  child.on('message', (message) => {
    const news = News.parse(message)
    if (news.kind === 'halted') halted.add(news.id)
    else done.set(news.id, news)
  })
  const send = (orders: Orders): void => {
    child.send(orders)
  }
  const { hosts, password = '' } = redis.url('any')
  send({ kind: 'begin', hosts: [...hosts], password, intentTimeoutMs, cases: [...cases] })
  const all = (): boolean => {
    if (isGone) throw new Error('the child ended before it reached its steps')
    return halted.size === cases.length
  }
  await until('every case is at its step', all, 2 * PATIENCE_MS)
  const go = (): void => {
    send({ kind: 'go' })
  }
  return { process: child, done, go, kill }
}
