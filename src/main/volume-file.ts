/**
 * `ringfs-volume.json` in the data folder of a node: the settings of the volume, as they were at the node's last start. Only `ringfs
 * rebuild` reads it, when Redis has lost them: everything else goes by what stands on Redis.
 */
import { readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { RingfsError, codeOf, messageOf } from '../base/errors.js'
import type { VolumeSettings } from '../cluster/contract.js'
import { checkSettings } from '../meta/format.js'

const FILE = 'ringfs-volume.json'

export async function writeVolumeFile(folder: string, settings: VolumeSettings): Promise<void> {
  const text = `${JSON.stringify(settings, null, 2)}\n`
  if ((await textIn(folder)) === text) return
  const file = join(folder, FILE)
  await writeFile(`${file}.new`, text, { mode: 0o600, flush: true })
  await rename(`${file}.new`, file)
}

/** null: there is none, of a node that has not been started since there are any. Errors: VOLUME_CORRUPT. */
export async function readVolumeFile(folder: string): Promise<VolumeSettings | null> {
  const text = await textIn(folder)
  if (text === null) return null
  try {
    return checkSettings(JSON.parse(text))
  } catch (error) {
    throw new RingfsError('VOLUME_CORRUPT', `${join(folder, FILE)} is damaged (${messageOf(error)}): remove it`)
  }
}

async function textIn(folder: string): Promise<string | null> {
  try {
    return await readFile(join(folder, FILE), 'utf8')
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return null
    throw error
  }
}
