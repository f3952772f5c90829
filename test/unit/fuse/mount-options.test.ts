/** Mount options, as mount(8), /etc/fstab and the command line give them. */
import fc from 'fast-check'
import t from 'tap'
import { RingfsError } from '../../../src/base/errors.js'
import { OWN_OPTIONS, parseMountOptions } from '../../../src/fuse/mount-options.js'
import { splitOptions, writeOption } from '../../../src/fuse/option-text.js'

t.test('a list is cut at its commas, but not at those in quotes or behind a backslash', async (t) => {
  const options = splitOptions('ro,,context="a,b=c",fsname=x\\,y\\\\z,')
  t.same(options, [
    { name: 'ro', value: undefined },
    { name: 'context', value: 'a,b=c' },
    { name: 'fsname', value: 'x,y\\z' },
  ])
})

t.test('what is written is read as it was, whatever characters it has', async () => {
  fc.assert(
    fc.property(fc.array(fc.string({ minLength: 1 })), (values) => {
      const options = values.map((value) => ({ name: 'fsname', value }))
      const read = splitOptions(options.map(writeOption).join(','))
      return JSON.stringify(read) === JSON.stringify(options)
    }),
  )
})

t.test('what mount(8), systemd and boot scripts add is accepted', async (t) => {
  const text = 'defaults,noauto,user=jane,nofail,_netdev,x-systemd.automount,X-mount.mkdir=0755,comment=mine,uhelper=x'
  const set = parseMountOptions([text])
  t.match(set, { readOnly: false, noFail: true, netDev: true, remount: false, extra: [] })
  t.equal(set.atime, 'relatime')
})

t.test('the later word wins', async (t) => {
  t.equal(parseMountOptions(['ro,rw']).readOnly, false)
  t.equal(parseMountOptions(['rw', 'ro']).readOnly, true)
  t.equal(parseMountOptions(['noatime,strictatime']).atime, 'strictatime')
  t.equal(parseMountOptions(['strictatime,relatime']).atime, 'relatime')
  t.same(parseMountOptions(['nosuid,noexec,suid']).extra, ['noexec'])
  t.equal(parseMountOptions(['sync,dirsync']).durableChanges, 'all')
  t.equal(parseMountOptions(['sync,async']).durableChanges, 'none')
  t.equal(parseMountOptions(['driver=kernel,driver=fuse-native']).driver, 'fuse-native')
})

t.test('the kernel is told what /proc/mounts is to show', async (t) => {
  const { extra } = parseMountOptions(['noatime,nodiratime,dirsync,nosuid,nodev,max_read=128K'])
  t.same([...extra].sort(), ['dirsync', 'max_read=131072', 'noatime', 'nodev', 'nodiratime', 'nosuid'])
  t.same(parseMountOptions(['context="system_u:object_r:a:s0:c1,c2"']).extra, [
    'context="system_u:object_r:a:s0:c1,c2"',
  ])
})

t.test("each of ringfs's own options is taken with its unit", async (t) => {
  const own = [
    'driver=kernel,durability=all,password-file=/p,key-file=/k,retry=0.5,session-ttl=60,read-cache=64M',
    'write-buffer=256MiB,read-ahead=1048576,pack-after=60,spill-after=900,fsname=home,log-file=/l,log-level=debug,nice=-5,stay-awake=off',
  ]
  const set = parseMountOptions(own)
  t.match(set, {
    driver: 'kernel',
    durability: 'all',
    passwordFile: '/p',
    keyFile: '/k',
    retryMs: 30_000,
    sessionTtlMs: 60_000,
    readCacheBytes: 64 * 2 ** 20,
    writeBufferBytes: 256 * 2 ** 20,
    readAheadBytes: 2 ** 20,
    packAfterMs: 60_000,
    spillAfterMs: 900_000,
    fsName: 'home',
    logFile: '/l',
    logLevel: 'debug',
    nice: -5,
    stayAwake: 'off',
  })
  t.equal(set.texts.length, OWN_OPTIONS.length, 'none is left out here')
  t.same(parseMountOptions(set.texts), set, 'another process reads the same')
})

t.test('an unknown option, and a bad value, are one line that names them', async (t) => {
  const refused: readonly (readonly [string, RegExp])[] = [
    ['colour=red', /unknown mount option 'colour'$/],
    ['allow-other', /unknown mount option 'allow-other' \(did you mean allow_other\?\)/],
    ['ro=1', /ro takes no value/],
    ['driver', /driver needs a value/],
    ['driver=', /driver needs a value/],
    ['driver=horse', /kernel, fuse-native/],
    ['retry=soon', /retry=soon: give a number from 0/],
    ['session-ttl=1', /session-ttl=1: give a number from 5/],
    ['read-cache=much', /read-cache=much: give a size/],
    ['direct_io', /driver=fuse-native/],
  ]
  for (const [text, message] of refused) {
    t.throws(() => parseMountOptions([text]), { code: 'USAGE', message }, text)
  }
  t.doesNotThrow(() => parseMountOptions(['direct_io,driver=fuse-native']))
})

t.test('sloppy leaves unknown options out, and still refuses bad values', async (t) => {
  t.same(parseMountOptions(['colour=red,ro,x-mine'], true).texts, ['ro', 'x-mine'])
  t.throws(() => parseMountOptions(['driver=horse'], true), { code: 'USAGE' })
})

t.test('no text whatever fails in another way than by a message', async () => {
  fc.assert(
    fc.property(fc.string(), fc.boolean(), (text, sloppy) => {
      try {
        parseMountOptions([text], sloppy)
        return true
      } catch (error) {
        return error instanceof RingfsError && error.code === 'USAGE'
      }
    }),
  )
})
