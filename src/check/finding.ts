/** What fsck finds. */

export type FindingKind =
  | 'unreadable'
  | 'dangling-name'
  | 'nameless'
  | 'leftover'
  | 'link-count'
  | 'wrong-parent'
  | 'two-names'
  | 'lost-body'
  | 'stray-body'
  | 'counters'
  | 'reservation'
  | 'missing-chunk'
  | 'few-copies'
  | 'bad-copy'
  | 'orphans'
  | 'node-away'

/** How bad it is: data cannot be read; something is wrong, or too few copies; only to be known. */
export type Severity = 'lost' | 'wrong' | 'note'

export interface Finding {
  readonly kind: FindingKind
  readonly severity: Severity
  /** One line. */
  readonly text: string
  readonly ino?: number
  /** A name of the inode, where it has one. */
  readonly path?: string
  readonly chunk?: number
  /** Put right by this run. */
  readonly mended: boolean
}
