// What npm runs when the package is installed: builds the kernel driver's addon, unless a prebuilt one came along. Without a
// compiler the installation goes on: everything but that driver works, and mounting says what is missing.
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ensureNative } from './setup/native.mjs'
import { say, SetupError } from './setup/say.mjs'

process.chdir(join(dirname(fileURLToPath(import.meta.url)), '..'))
try {
  ensureNative()
} catch (error) {
  if (!(error instanceof SetupError)) throw error
  say(error.message)
}
