/** The version of this program, from its package.json. */
import { readFileSync } from 'node:fs'
import * as z from 'zod'
import { PACKAGE_FOLDER } from '../base/places.js'

const text = readFileSync(new URL('package.json', PACKAGE_FOLDER), 'utf8')

export const VERSION = z.object({ version: z.string() }).parse(JSON.parse(text)).version
