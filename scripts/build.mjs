// `npm run build`: asks the compiler whatever the stamp says.
import { ensureNodeModules } from './setup/npm.mjs'
import { ensureBuilt } from './setup/build.mjs'
import { ensureNative } from './setup/native.mjs'
import { say, SetupError } from './setup/say.mjs'

try {
  ensureNodeModules()
  ensureNative()
  ensureBuilt({ force: true })
} catch (error) {
  if (!(error instanceof SetupError)) throw error
  say(error.message)
  process.exitCode = 1
}
