/**
 * Imports point one way:
 *   main, cli -> fuse, service -> vfs -> {meta, chunk/client} -> {cluster, rpc} -> base
 * and each heavy dependency has one home.
 */

/** Code in `from` must not import code in `to`. */
const forbid = (name, from, to, comment) => ({
  name,
  comment,
  severity: 'error',
  from: typeof from === 'string' ? { path: from } : from,
  to: typeof to === 'string' ? { path: to } : to,
})

const home = (dependency, ...places) =>
  forbid(
    `${dependency}-has-one-home`,
    { path: '^(src|workers)/', pathNot: places },
    `(^|/)node_modules/${dependency}/`,
    `${dependency} is imported only in ${places.join(', ')}`,
  )

/** The contracts are types that every layer may name. */
const CONTRACT = '/contract\\.ts$'

module.exports = {
  forbidden: [
    forbid(
      'no-cycles',
      { path: '^(src|workers)/' },
      { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    ),
    forbid('base-imports-nothing-of-ours', '^src/base/', '^(src/(?!base/)|workers/)'),
    forbid('rpc-is-low', { path: '^src/rpc/' }, { path: '^src/(?!rpc/|base/)', pathNot: CONTRACT }),
    forbid('cluster-is-low', { path: '^src/cluster/' }, { path: '^src/(?!cluster/|base/)', pathNot: CONTRACT }),
    forbid(
      'meta-stands-on-cluster',
      { path: '^src/meta/' },
      { path: '^src/(?!meta/|cluster/|base/)', pathNot: CONTRACT },
    ),
    forbid('chunk-stands-on-cluster-and-rpc', '^src/chunk/', '^src/(meta|vfs|fuse|service|cli|main)/'),
    forbid('chunk-client-does-not-know-nodes', '^src/chunk/client/', '^src/chunk/node/'),
    forbid('chunk-node-does-not-know-clients', '^src/chunk/node/', '^src/chunk/client/'),
    forbid(
      'vfs-sees-contracts-only',
      { path: '^src/vfs/' },
      { path: '^src/(?!vfs/|base/)', pathNot: CONTRACT },
      'the VFS knows neither Redis nor sockets',
    ),
    forbid('fuse-sees-the-vfs', { path: '^src/fuse/' }, { path: '^src/(?!fuse/|vfs/|base/)', pathNot: CONTRACT }),
    forbid(
      'service-sees-vfs-and-rpc',
      { path: '^src/service/' },
      { path: '^src/(?!service/|vfs/|rpc/|base/)', pathNot: CONTRACT },
    ),
    forbid('check-stands-on-meta-and-chunk', '^src/check/', '^src/(vfs|fuse|service|cli|main)/'),
    forbid('nobody-imports-the-top', { path: '^(src/(?!cli/|main/)|workers/)' }, '^src/(cli|main)/'),
    forbid('product-does-not-import-tests', '^(src|workers)/', '^(test|bench)/'),
    home('ioredis', '^src/cluster/', '^src/meta/'),
    home('piscina', '^src/chunk/pool\\.ts$'),
    home('protobufjs', '^src/rpc/'),
    home('fuse-native', '^src/fuse/fuse-native/'),
    home('node-gyp-build', '^src/base/addon\\.ts$'),
    home('commander', '^src/cli/', '^src/main/'),
    home('cli-progress', '^src/cli/'),
    home('pino', '^src/base/log\\.ts$'),
    forbid(
      'only-declared-packages',
      { path: '^(src|workers)/' },
      { dependencyTypes: ['npm-dev', 'npm-no-pkg', 'npm-unknown', 'unknown', 'undetermined'] },
    ),
    forbid('everything-resolves', { path: '^(src|workers|test|bench)/' }, { couldNotResolve: true }),
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'node', 'default', 'types'] },
  },
}
