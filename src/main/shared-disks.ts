/** What a `ringfs up` says of its disks: its nodes are processes of one machine, and choose among the same folders. */

export interface FolderOn {
  readonly folder: string
  /** Number of its file system. */
  readonly device: number
}

/** Sentences for people; none if one copy is all that is wanted, or no two folders are one disk. */
export function diskWarnings(folders: readonly FolderOn[], replicas: number): readonly string[] {
  const disks = new Set(folders.map(({ device }) => device)).size
  return [...twins(folders), ...sharedCopies(disks, folders.length, replicas)]
}

function twins(folders: readonly FolderOn[]): readonly string[] {
  return folders.flatMap(({ folder, device }, index) => {
    const twin = folders.slice(0, index).find((one) => one.device === device)
    return twin === undefined ? [] : [`${twin.folder} and ${folder} are on one disk: they die together`]
  })
}

function sharedCopies(disks: number, folders: number, replicas: number): readonly string[] {
  if (replicas < 2) return []
  const rest =
    'they outlive the death of a node, not that of a disk. For that, run nodes that have a disk each (ringfs node)'
  if (disks < 2) return [`all ${replicas} copies of each chunk are on one disk: ${rest}`]
  const why =
    disks < replicas ? `${replicas} copies, and ${disks} disks` : `each node chooses by itself among ${folders} folders`
  return [`all copies of a chunk may be on one disk (${why}): ${rest}`]
}
