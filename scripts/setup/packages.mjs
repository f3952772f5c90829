// What the system must have. Looked for as programs and libraries in their usual folders, not asked of dpkg: that takes
// no process, and whatever the user built or installed another way counts too.
import { accessSync, constants, existsSync, readdirSync } from 'node:fs'
import { delimiter, join } from 'node:path'

const SYSTEM_BINS = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin']
const LIBRARY_ROOTS = ['/usr/local/lib', '/usr/lib', '/usr/lib64', '/lib', '/lib64']

function hasProgram(name) {
  const folders = [...(process.env.PATH ?? '').split(delimiter), ...SYSTEM_BINS]
  return folders.some((folder) => {
    try {
      accessSync(join(folder, name), constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}

/** Also in the folders of Debian's architectures (/usr/lib/x86_64-linux-gnu). */
function hasLibrary(file) {
  return LIBRARY_ROOTS.some((root) => {
    if (existsSync(join(root, file))) return true
    if (!existsSync(root)) return false
    return readdirSync(root).some((entry) => entry.includes('-linux-gnu') && existsSync(join(root, entry, file)))
  })
}

/** `packages`: Debian names in order of preference; libfuse2 is called libfuse2t64 since Debian 13. */
const NEEDS = [
  { what: 'redis-server', packages: ['redis-server'], there: () => hasProgram('redis-server') },
  { what: 'fusermount3', packages: ['fuse3'], there: () => hasProgram('fusermount3') },
  { what: 'libfuse.so.2', packages: ['libfuse2', 'libfuse2t64'], there: () => hasLibrary('libfuse.so.2') },
  { what: 'a C++ compiler', packages: ['g++'], there: () => hasProgram('g++') },
  { what: 'make', packages: ['make'], there: () => hasProgram('make') },
  { what: 'python3', packages: ['python3'], there: () => hasProgram('python3') },
]

/** For the tests: what people run on a mount, and networks. Who only runs ringfs needs none of it. */
const TEST_NEEDS = [
  ['setfattr', 'attr'],
  ['setfacl', 'acl'],
  ['git', 'git'],
  ['rsync', 'rsync'],
  ['sqlite3', 'sqlite3'],
  ['ip', 'iproute2'],
  ['iptables', 'iptables'],
].map(([program, name]) => ({ what: program, packages: [name], there: () => hasProgram(program) }))

/** The needs that are not met; `tests`: those of the tests, too. */
export function missingNeeds({ tests }) {
  return [...NEEDS, ...(tests ? TEST_NEEDS : [])].filter((need) => !need.there())
}

export { hasProgram }
