/** The contract of MetaStore as claims, for one volume per claim on whatever store `open` puts below it. */
import type { Test } from 'tap'
import type { OpenVolume } from '../helpers/meta.js'
import { nameClaims } from './meta-suite-names.js'
import { renameClaims } from './meta-suite-rename.js'
import { xattrClaims } from './meta-suite-xattrs.js'

export function metaSuite(t: Test, open: OpenVolume): void {
  nameClaims(t, open)
  renameClaims(t, open)
  xattrClaims(t, open)
}
