// In which order the test files run: the longest first, so that at the end no long one runs alone.

/** By wall-clock time, as `npm test -- --times` tells them; what is not here is short, and comes after them. */
export const LONGEST = [
  'mount/up',
  'mount/coherence',
  'mount/torture',
  'cluster/disks',
  'cluster/big-directory',
  'mount/vfs',
  'conformance/meta-late',
  'cluster/heal',
  'cluster/private-redis',
  'mount/mount-helper',
  'mount/unmounting',
  'conformance/vfs-real',
  'conformance/meta-twice',
  'conformance/meta-three-masters',
  'cluster/chaos',
  'scenario/up',
  'scenario/mounts',
  'mount/kernel',
  'cluster/meta-paused',
  'mount/unprivileged',
  'cluster/chunk-kill',
  'cluster/meta-crash',
  'cluster/hosts',
  'cluster/meta-locks',
  'cluster/heal-losses',
  'cluster/failover',
  'cluster/faults',
  'mount/dead-neighbours',
  'mount/differential',
  'mount/acl-differential',
  'conformance/meta-one-master',
  'scenario/secrets',
  'unit/chunk/client',
]

export function longestFirst(files) {
  const rank = (file) => {
    const at = LONGEST.findIndex((name) => file === `dist/test/${name}.test.js`)
    return at < 0 ? LONGEST.length : at
  }
  return files.toSorted((a, b) => rank(a) - rank(b))
}
