/** A log whose lines a test can look at. */
import { pino } from 'pino'
import { z } from 'zod'
import type { Log } from '../../src/base/log.js'

const schema = z.record(z.string(), z.unknown())

export class CapturedLog {
  readonly lines: Record<string, unknown>[] = []
  readonly log: Log = pino({ level: 'debug', base: null, timestamp: false }, { write: (line) => this.#add(line) })

  #add(line: string): void {
    this.lines.push(schema.parse(JSON.parse(line)))
  }

  /** Whether some line has this text in a field. */
  tells(field: string, text: string): boolean {
    return this.lines.some((line) => String(line[field]).includes(text))
  }

  /** One field of all lines that have it. */
  all(field: string): readonly unknown[] {
    return this.lines.map((line) => line[field]).filter((value) => value !== undefined)
  }
}
