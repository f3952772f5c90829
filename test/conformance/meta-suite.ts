/** The contract of MetaStore as claims, for one volume per claim on whatever store `open` puts below it. */
import type { Test } from 'tap'
import type { OpenVolume } from '../helpers/meta.js'
import { attributeClaims } from './meta-suite-attributes.js'
import { dataClaims } from './meta-suite-data.js'
import { nameClaims } from './meta-suite-names.js'
import { openClaims } from './meta-suite-open.js'
import { renameClaims } from './meta-suite-rename.js'
import { sessionClaims } from './meta-suite-sessions.js'
import { xattrClaims } from './meta-suite-xattrs.js'

export function metaSuite(t: Test, open: OpenVolume): void {
  attributeClaims(t, open)
  dataClaims(t, open)
  nameClaims(t, open)
  openClaims(t, open)
  renameClaims(t, open)
  sessionClaims(t, open)
  xattrClaims(t, open)
}
