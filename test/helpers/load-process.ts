/**
 * MountedLoad in a process of its own. Whoever starts processes must not have files open on a mount: between fork(2) and execve(2) the
 * new process closes them, which is a FUSE_FLUSH that waits for the mount; and spawn waits for the new process. So a test that is to
 * start a Redis again, for which that mount waits, would hang.
 */
import { fork, type ChildProcess } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { z } from 'zod'
import { messageOf } from '../../src/base/errors.js'
import { within } from './deadline.js'
import { MountedLoad } from './mounted-load.js'

const ANSWER_MS = 120_000
const ENTRY = fileURLToPath(import.meta.url)

const askSchema = z.object({
  number: z.number(),
  what: z.enum(['start', 'look', 'stop', 'check', 'excuse']),
  root: z.string(),
})
const answerSchema = z.object({
  number: z.number(),
  steps: z.number(),
  slowestMs: z.number(),
  /** What failed since the last answer; for 'check', what is wrong. */
  faults: z.array(z.string()),
})

type What = z.infer<typeof askSchema>['what']
type Answer = z.infer<typeof answerSchema>

export class LoadProcess {
  readonly #child: ChildProcess
  readonly #waiting = new Map<number, (answer: Answer) => void>()
  #numbers = 0

  constructor(t: Pick<Test, 'teardown'>, root: string, lanes: number, contentBytes?: number) {
    const length = contentBytes === undefined ? [] : [String(contentBytes)]
    this.#child = fork(ENTRY, ['load', root, String(lanes), ...length])
    t.teardown(() => void this.#child.kill('SIGKILL'))
    this.#child.on('message', (message) => {
      const answer = answerSchema.parse(message)
      this.#waiting.get(answer.number)?.(answer)
      this.#waiting.delete(answer.number)
    })
  }

  /** `root`: for 'check', another mount of the volume; for 'excuse', errnos with commas between them. 'look' and 'check' forget what they tell. */
  ask(what: What, root = ''): Promise<Answer> {
    const number = ++this.#numbers
    const answer = new Promise<Answer>((resolve) => this.#waiting.set(number, resolve))
    this.#child.send({ number, what, root })
    return within(ANSWER_MS, answer, `the workload's answer to ${what}`)
  }
}

const [, script, role, root, lanes, length] = process.argv
if (script === ENTRY && role === 'load' && root !== undefined) {
  serve(new MountedLoad(root, Number(lanes), length === undefined ? undefined : Number(length)))
}

function serve(load: MountedLoad): void {
  process.on('disconnect', () => process.exit())
  process.on('message', (message) => {
    const { number, what, root } = askSchema.parse(message)
    const tell = (faults: readonly string[]): void => {
      process.send?.({ number, steps: load.steps, slowestMs: load.takeSlowestMs(), faults })
    }
    work(load, what, root).then(tell, (error: unknown) => tell([messageOf(error)]))
  })
}

async function work(load: MountedLoad, what: What, root: string): Promise<readonly string[]> {
  if (what === 'check') return load.check(root)
  if (what === 'excuse') load.excused = root.split(',')
  if (what === 'start') await load.start()
  if (what === 'stop') await load.stop()
  return load.faults.splice(0)
}
