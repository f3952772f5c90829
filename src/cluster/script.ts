/** Lua scripts are files beside the module that runs them; scripts/setup/build.mjs carries them into dist/. */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { join } from 'node:path'
import { BUILD_FOLDER } from '../base/places.js'
import type { Script } from './contract.js'

/** Those of the cluster. */
export const SCRIPTS = new URL('src/cluster/scripts/', BUILD_FOLDER)

/**
 * Reads `<directory>/<name>.lua`. `directory` is a path or a file: URL.
 * `prelude` is Lua text put before it: functions that several scripts share, since a script can load nothing.
 * Called when a module is loaded, so reading synchronously stalls nobody.
 */
export function loadScript(directory: string | URL, name: string, prelude = ''): Script {
  const folder = typeof directory === 'string' ? directory : fileURLToPath(directory)
  const body = readFileSync(join(folder, `${name}.lua`), 'utf8')
  return makeScript(name, prelude === '' ? body : `${prelude}\n${body}`)
}

export function makeScript(name: string, source: string): Script {
  return { name, source, sha1: createHash('sha1').update(source).digest('hex') }
}
