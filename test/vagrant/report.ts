/** What a run finds: told while it goes on, and all of it again at the end, with what failed. */
import type { Writable } from 'node:stream'

interface Step {
  readonly name: string
  readonly facts: string[]
  result: 'ok' | 'FAILED' | 'NOT TRIED' | 'NOT FINISHED'
}

export class Report {
  readonly #out: Writable
  readonly #nowMs: () => number
  readonly #beganMs: number
  readonly #steps: Step[] = []

  constructor(out: Writable, nowMs: () => number) {
    this.#out = out
    this.#nowMs = nowMs
    this.#beganMs = nowMs()
  }

  begin(name: string): void {
    this.#steps.push({ name, facts: [], result: 'NOT FINISHED' })
    this.#say(name)
  }

  /** Of the step that has begun last. */
  found(fact: string): void {
    this.#steps.at(-1)?.facts.push(fact)
    this.#say(`  ${fact}`)
  }

  end(isOk: boolean): void {
    const step = this.#steps.at(-1)
    if (step !== undefined) step.result = isOk ? 'ok' : 'FAILED'
  }

  notTried(name: string): void {
    this.#steps.push({ name, facts: [], result: 'NOT TRIED' })
    this.#say(`not tried: ${name}`)
  }

  /** What was found, for people. `isOk` also knows of what failed outside of the steps. */
  text(isOk: boolean): string {
    const lines = this.#steps.flatMap(({ name, facts, result }) => [
      `${result}: ${name}`,
      ...facts.map((fact) => `  ${fact}`),
    ])
    return [...lines, `test:vagrant: ${this.#verdict(isOk)}, after ${this.#minutes()} minutes`, ''].join('\n')
  }

  #verdict(isOk: boolean): string {
    const results = new Set(this.#steps.map(({ result }) => result))
    if (!isOk || results.has('FAILED') || results.has('NOT FINISHED')) return 'FAILED'
    return results.has('NOT TRIED') ? 'passed as far as it was tried' : 'passed'
  }

  #minutes(): string {
    return ((this.#nowMs() - this.#beganMs) / 60_000).toFixed(1)
  }

  #say(text: string): void {
    this.#out.write(`[${this.#minutes().padStart(5)} min] ${text}\n`)
  }
}
