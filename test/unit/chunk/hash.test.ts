/** Leaves are hashed several at a time where the processor can: the hashes are those of node:crypto, however the bytes lie. */
import fc from 'fast-check'
import t from 'tap'
import { createHash, randomBytes } from 'node:crypto'
import { hashAddon } from '../../../src/base/addon.js'
import { HASH_BYTES, KIB, LEAF_BYTES } from '../../../src/base/limits.js'
import { firstBadLeaf, hashOneByOne, leafHashes } from '../../../src/chunk/hash.js'
import { propertyRun } from '../../helpers/property.js'

const BYTES = randomBytes(9 * LEAF_BYTES)

function expected(bytes: Uint8Array, leafBytes = LEAF_BYTES): Buffer {
  const hashes: Buffer[] = []
  for (let at = 0; at < bytes.length; at += leafBytes) {
    hashes.push(
      createHash('sha256')
        .update(bytes.subarray(at, at + leafBytes))
        .digest(),
    )
  }
  return Buffer.concat(hashes)
}

t.test('the hashes of leaves are the same however the bytes are cut into pieces', async (t) => {
  const most = 5 * LEAF_BYTES
  fc.assert(
    fc.property(
      fc.nat(100),
      fc.oneof(fc.nat(most), fc.constantFrom(0, 1, LEAF_BYTES, LEAF_BYTES + 1, 2 * LEAF_BYTES, 4 * LEAF_BYTES)),
      fc.array(
        fc.oneof(
          fc.nat(most),
          fc.nat(5).map((leaves) => leaves * LEAF_BYTES),
        ),
        { maxLength: 4 },
      ),
      (from, lengthBytes, cuts) => {
        const bytes = BYTES.subarray(from, from + lengthBytes)
        const places = [0, ...cuts.filter((cut) => cut < lengthBytes), lengthBytes].sort((a, b) => a - b)
        const pieces = places.slice(1).map((end, index) => bytes.subarray(places[index], end))
        return leafHashes(pieces).equals(expected(bytes))
      },
    ),
    propertyRun(t, 300),
  )
  t.pass()
})

t.test('leaves that are hashed one by one have the same hashes', async (t) => {
  for (const lengthBytes of [0, 1, LEAF_BYTES, 3 * LEAF_BYTES, 3 * LEAF_BYTES + 55]) {
    const bytes = BYTES.subarray(3, 3 + lengthBytes)
    const out = Buffer.alloc(expected(bytes).length)
    t.equal(hashOneByOne(bytes, out), out.length)
    t.ok(out.equals(expected(bytes)))
  }
})

t.test('the addon hashes leaves of any length, in any memory', async (t) => {
  const addon = hashAddon()
  if (addon === null) return t.comment('no addon')
  const shared = Buffer.from(new SharedArrayBuffer(4 * KIB))
  BYTES.copy(shared)
  for (let leafBytes = 1; leafBytes <= 300; leafBytes++) {
    for (const bytes of [
      BYTES.subarray(1, 1 + 5 * leafBytes),
      shared.subarray(7, 7 + 4 * leafBytes + (leafBytes >> 1)),
    ]) {
      const right = expected(bytes, leafBytes)
      const out = Buffer.alloc(right.length + HASH_BYTES, 7)
      if (!addon.hashLeaves(bytes, leafBytes, out)) return t.comment('no instructions')
      t.ok(out.subarray(0, right.length).equals(right), `${bytes.length} bytes in leaves of ${leafBytes}`)
      t.ok(
        out.subarray(right.length).every((byte) => byte === 7),
        'and nothing behind',
      )
    }
  }
  t.throws(() => addon.hashLeaves(BYTES, LEAF_BYTES, Buffer.alloc(HASH_BYTES)), { message: /^hashLeaves: / })
  t.throws(() => addon.hashLeaves(BYTES, 0, Buffer.alloc(KIB)), { message: /^hashLeaves: / })
})

t.test('a bit that is wrong is found in its leaf, wherever it is', async (t) => {
  const leaves = leafHashes([BYTES])
  for (let leaf = 0; leaf < BYTES.length / LEAF_BYTES; leaf++) {
    for (const place of [0, LEAF_BYTES / 2 + 1, LEAF_BYTES - 1]) {
      const bytes = Buffer.from(BYTES)
      const at = leaf * LEAF_BYTES + place
      bytes.writeUInt8((bytes[at] ?? 0) ^ 16, at)
      t.equal(firstBadLeaf([bytes], leaves, 0), leaf)
      t.equal(firstBadLeaf([bytes.subarray(LEAF_BYTES)], leaves, 1), leaf === 0 ? -1 : leaf)
    }
  }
})
