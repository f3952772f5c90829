/** The contract of MetaStore as claims, for one volume per claim on whatever store `open` puts below it. */
import type { Test } from 'tap'
import type { OpenVolume } from '../helpers/meta.js'
import { accessTimeClaims } from './meta-suite-access-times.js'
import { attributeClaims } from './meta-suite-attributes.js'
import { bodyClaims } from './meta-suite-bodies.js'
import { contentClaims } from './meta-suite-contents.js'
import { cursorClaims } from './meta-suite-cursors.js'
import { dataClaims } from './meta-suite-data.js'
import { eventClaims } from './meta-suite-events.js'
import { exchangeClaims } from './meta-suite-exchange.js'
import { listingClaims } from './meta-suite-listing.js'
import { nameClaims } from './meta-suite-names.js'
import { openClaims } from './meta-suite-open.js'
import { raceClaims } from './meta-suite-races.js'
import { rangeClaims } from './meta-suite-ranges.js'
import { renameClaims } from './meta-suite-rename.js'
import { sessionClaims } from './meta-suite-sessions.js'
import { tmpfileClaims } from './meta-suite-tmpfile.js'
import { xattrClaims } from './meta-suite-xattrs.js'

/** `names`: in the large directory. */
export function metaSuite(t: Test, open: OpenVolume, names = 5_000): void {
  accessTimeClaims(t, open)
  attributeClaims(t, open)
  bodyClaims(t, open)
  contentClaims(t, open)
  cursorClaims(t, open)
  dataClaims(t, open)
  eventClaims(t, open)
  exchangeClaims(t, open)
  listingClaims(t, open, names)
  nameClaims(t, open)
  openClaims(t, open)
  raceClaims(t, open)
  rangeClaims(t, open)
  renameClaims(t, open)
  sessionClaims(t, open)
  tmpfileClaims(t, open)
  xattrClaims(t, open)
}
