/** Folders with all that is above them. */
import { mkdirSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { codeOf } from './errors.js'

/**
 * Makes a folder and what is missing above it; one that is there is good. Answers the uppermost that it has made, if any. Errors: what the
 * system says. Not mkdir(2) of Node with `recursive`: where the folder above is there and nothing can be made in it (ENOENT below /proc, in a folder
 * that was removed) that begins anew for ever.
 */
export function makeFolders(path: string, mode = 0o777): string | undefined {
  try {
    return makeOne(path, mode)
  } catch (error) {
    const above = dirname(path)
    if (codeOf(error) !== 'ENOENT' || above === path) throw error
    const first = makeFolders(above, mode)
    const own = makeOne(path, mode)
    return first ?? own
  }
}

function makeOne(path: string, mode: number): string | undefined {
  try {
    mkdirSync(path, { mode })
    return path
  } catch (error) {
    if (codeOf(error) === 'ENOENT' || !isFolder(path)) throw error
    return undefined
  }
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true
}
