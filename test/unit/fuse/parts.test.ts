import t from 'tap'
import type { Attr } from '../../../src/vfs/contract.js'
import { runCommand } from '../../../src/fuse/command.js'
import { pickDriver } from '../../../src/fuse/drivers.js'
import { Handles } from '../../../src/fuse/fuse-native/handles.js'
import { decode, decodeLossy, encodeName } from '../../../src/fuse/fuse-native/names.js'
import { fuseOptions } from '../../../src/fuse/fuse-native/options.js'
import { timeFromMs, utimensTimes } from '../../../src/fuse/fuse-native/record.js'
import { entryStatArray, statArray, statfsArray } from '../../../src/fuse/fuse-native/stat.js'
import { parseMountinfo } from '../../../src/fuse/mounts.js'

const TIME = { sec: 1_700_000_000, nsec: 123_456_789 }
const ATTR: Attr = {
  ino: 300,
  type: 'file',
  mode: 0o644,
  uid: 1,
  gid: 2,
  nlink: 1,
  sizeBytes: 5,
  allocatedBytes: 4_097,
  rdev: 0,
  atime: TIME,
  mtime: TIME,
  ctime: TIME,
  btime: TIME,
  dataVersion: 0,
  hasXattrs: false,
  hasExtents: false,
  hasBody: false,
  parent: 0,
}

/** The two halves of a 64-bit number, as fuse-native.c puts them together. */
function uint64(ints: Uint32Array, at: number): number {
  return (ints[at] ?? 0) + (ints[at + 1] ?? 0) * 2 ** 32
}

t.test('mountinfo is parsed with its escapes, optional fields and empty sources', async (t) => {
  const text = [
    '36 35 98:0 /mnt1 /mnt/a\\040b\\134c rw,noatime master:1 shared:2 - ext3 /dev/root rw',
    '42 27 0:39 / /tmp/ö rw - fuse.ringfs  rw,user_id=0',
    '43 27 0:39 / /tmp/o ro,nosuid - fuse.ringfs  rw,user_id=0',
    '44 27 0:40 / /tmp/p rw,nosuid - fuse.ringfs  ro,user_id=0',
    '',
  ]
  const ringfs = { fsType: 'fuse.ringfs', source: '' }
  t.same(parseMountinfo(text.join('\n')), [
    {
      id: 36,
      device: '98:0',
      mountpoint: '/mnt/a b\\c',
      fsType: 'ext3',
      source: '/dev/root',
      options: ['rw', 'noatime'],
      isReadOnly: false,
    },
    {
      id: 42,
      device: '0:39',
      mountpoint: '/tmp/ö',
      fsType: 'fuse.ringfs',
      source: '',
      options: ['rw'],
      isReadOnly: false,
    },
    { ...ringfs, id: 43, device: '0:39', mountpoint: '/tmp/o', options: ['ro', 'nosuid'], isReadOnly: true },
    { ...ringfs, id: 44, device: '0:40', mountpoint: '/tmp/p', options: ['rw', 'nosuid'], isReadOnly: true },
  ])
})

t.test('options are escaped, carry what the caller adds at the end, and are not cut off silently', async (t) => {
  const options = { mountpoint: '/m', fsName: 'a,b\\c', readOnly: true, allowOther: false, extra: ['attr_timeout=1'] }
  const text = fuseOptions(options)
  t.match(text, /^-ofsname=a\\,b\\\\c,subtype=ringfs,big_writes,.*,ro,attr_timeout=1$/)
  t.notMatch(text, /allow_other|hard_remove/)
  t.throws(() => fuseOptions({ ...options, extra: ['x'.repeat(1_000)] }), { code: 'MOUNT_FAILED' })
  t.throws(() => fuseOptions({ ...options, mountpoint: 'x'.repeat(1_100) }), { code: 'MOUNT_FAILED' })
})

t.test('attributes become what fuse-native.c reads', async (t) => {
  const ints = statArray({ ...ATTR, sizeBytes: 2 ** 40 + 7, nlink: 0 })
  t.equal(ints.length, 18)
  t.equal(ints[0], 0o100644)
  t.equal(uint64(ints, 3), 2 ** 40 + 7)
  t.equal(ints[6], 0, 'no link is no link')
  t.equal(uint64(ints, 10), 9, 'a started block counts')
  t.equal(uint64(ints, 14), 1_700_000_000_123)
})

t.test('times before 1970 show as 1970, and inode numbers beyond 32 bits are never 0', async (t) => {
  t.equal(uint64(statArray({ ...ATTR, mtime: { sec: -1, nsec: 0 } }), 14), 0)
  t.equal(statArray({ ...ATTR, ino: 2 ** 33 })[7], 2 ** 32 - 1)
  t.equal(entryStatArray(2 ** 32 + 9, 4)[7], 9)
  t.equal(entryStatArray(9, 4)[0], 0o040000)
})

t.test('space beyond 32 bits of blocks is counted in larger blocks', async (t) => {
  const stat = {
    blockBytes: 4096,
    blocks: 2 ** 40,
    blocksFree: 2 ** 39,
    files: 2 ** 40,
    filesFree: 5,
    nameMaxBytes: 255,
  }
  const [bsize = 0, frsize, blocks = 0, bfree = 0, bavail, files, ffree, , , , namemax] = statfsArray(stat)
  t.equal(bsize, frsize)
  t.same([bsize * blocks, bsize * bfree, bavail], [2 ** 52, 2 ** 51, bfree])
  t.same([files, ffree, namemax], [2 ** 32 - 1, 5, 255])
})

t.test('names are UTF-8 and at most 255 bytes, and a listing hides none', async (t) => {
  t.equal(encodeName('é'.repeat(127)).length, 254)
  t.throws(() => encodeName('é'.repeat(128)), { code: 'ENAMETOOLONG' })
  t.throws(() => encodeName('a\ufffdb'), { code: 'EILSEQ' })
  t.throws(() => decode(Buffer.from([0x61, 0xff])), { code: 'EILSEQ' })
  t.equal(decodeLossy(Buffer.from([0x61, 0xff])), 'a\ufffd')
})

t.test('descriptors are never 0, never given twice, and know what is open', async (t) => {
  const handles = new Handles()
  const [one, two] = [handles.add({ handle: 10, ino: 7 }), handles.add({ handle: 11, ino: 7 })]
  t.ok(one > 0 && two > 0 && one !== two)
  t.same(handles.get(two), { handle: 11, ino: 7 })
  handles.remove(one)
  t.ok(handles.isOpen(7))
  handles.remove(two)
  t.notOk(handles.isOpen(7))
  t.throws(() => handles.get(two), { code: 'EBADF' })
  t.throws(() => handles.remove(two), { code: 'EBADF' })
})

t.test('the second time of utimens comes from the record, if that is as expected', async (t) => {
  const record = Buffer.alloc(256)
  record.writeUInt32LE(12, 8)
  record.writeBigInt64LE(1_500n, 104)
  record.writeBigInt64LE(-1n, 112)
  t.same(utimensTimes(record, 12), [
    { sec: 1, nsec: 500_000_000 },
    { sec: -1, nsec: 999_000_000 },
  ])
  t.equal(utimensTimes(record, 13), undefined)
  t.equal(utimensTimes(record.subarray(0, 100), 12), undefined)
  t.same(timeFromMs(2_001), { sec: 2, nsec: 1_000_000 })
})

t.test('a program that is missing, fails or hangs is told apart, and none is waited for too long', async (t) => {
  t.match(await runCommand('no-such-program-here', [], 60_000), { missing: true, exitCode: 127 })
  const { exitCode, output } = await runCommand('sh', ['-c', 'echo out; echo err >&2; exit 3'], 60_000)
  t.equal(exitCode, 3)
  // Of two pipes either may be read first.
  t.strictSame(output.split('\n').sort(), ['err', 'out'])
  t.match(await runCommand('sleep', ['60'], 50), { timedOut: true, exitCode: null })
})

t.test('drivers are found by name', async (t) => {
  t.equal(pickDriver('kernel').name, 'kernel')
  t.equal(pickDriver('fuse-native').name, 'fuse-native')
  t.equal(pickDriver().name, 'kernel')
})
