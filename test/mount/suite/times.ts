import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { sh } from '../../helpers/mount.js'
import type { Suite } from './suite.js'

export const times: readonly Suite[] = [
  {
    name: 'statx says when a file was made, however old its other times are',
    kernelOnly: true,
    async run(t, root) {
      const before = Math.floor(Date.now() / 1000) - 1
      const path = join(root, 'file')
      await writeFile(path, 'bytes')
      await sh('touch', '-d', '2001-01-01', path)
      const [birth, modified] = (await sh('stat', '-c', '%W %Y', path)).trim().split(' ').map(Number)
      t.ok(Number(birth) >= before && Number(birth) <= Date.now() / 1000 + 1, `born at ${birth}`)
      t.equal(modified, Date.parse('2001-01-01T00:00:00') / 1000)
    },
  },
]
