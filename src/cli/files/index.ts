/** The commands that work on files without a mount. */
import type { Command } from 'commander'
import type { CliContext } from '../context.js'
import * as cat from './cat.js'
import * as df from './df.js'
import * as get from './get.js'
import * as ls from './ls.js'
import * as mkdir from './mkdir.js'
import * as mv from './mv.js'
import * as put from './put.js'
import * as rm from './rm.js'
import * as stat from './stat.js'

export function registerFileCommands(program: Command, context: CliContext): void {
  for (const { register } of [ls, cat, put, get, mkdir, mv, rm, stat, df]) register(program, context)
}
