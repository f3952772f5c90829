/*
 * SHA-256 of many leaves (FIPS 180-4), two at a time. A round waits for the one before it, so that the SHA instructions of a processor are idle half of the
 * time with one message; the leaves are messages of their own. Where there are no such instructions TypeScript asks OpenSSL (src/chunk/hash.ts).
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include "addon.h"

enum { BLOCK = 64, DIGEST = 32 };

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#include <cpuid.h>
#include <immintrin.h>
#include <stdatomic.h>

#define SHA __attribute__((target("sha,sse4.1,ssse3")))

static bool has_instructions(void) {
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_SSSE3) || !(c & bit_SSE4_1)) return false;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & (1u << 29)) != 0; /* CPUID.7.0:EBX.SHA */
}

/* Asked once: a virtual machine leaves to its host for the answer. */
static bool can_hash(void) {
  static atomic_int answer; /* 0: not asked yet */
  if (answer == 0) answer = has_instructions() ? 1 : -1;
  return answer > 0;
}

static const uint32_t K[64] __attribute__((aligned(16))) = {
  0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
  0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
  0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
  0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
  0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
  0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
  0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
  0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

/* As the instructions want it: words a, b, e, f and c, d, g, h, the first of each in the highest place. */
typedef struct { __m128i abef, cdgh; } state_t;

static const uint32_t START[8] = {
  0x9b05688c, 0x510e527f, 0xbb67ae85, 0x6a09e667, /* f e b a */
  0x5be0cd19, 0x1f83d9ab, 0xa54ff53a, 0x3c6ef372, /* h g d c */
};

/* Four rounds of one message. `now` are the words of these rounds; the schedule of later ones is made beside them. */
#define ROUNDS(i, s, now, next, last)                                       \
  do {                                                                      \
    __m128i w = _mm_add_epi32(now, _mm_load_si128((const __m128i *)K + (i))); \
    s.cdgh = _mm_sha256rnds2_epu32(s.cdgh, s.abef, w);                      \
    if ((i) >= 3 && (i) < 15)                                               \
      next = _mm_sha256msg2_epu32(_mm_add_epi32(next, _mm_alignr_epi8(now, last, 4)), now); \
    s.abef = _mm_sha256rnds2_epu32(s.abef, s.cdgh, _mm_shuffle_epi32(w, 0x0e)); \
    if ((i) >= 1 && (i) < 13) last = _mm_sha256msg1_epu32(last, now);       \
  } while (0)

#define EVERY_ROUND(FOUR)                                                    \
  FOUR(0, 0, 1, 3) FOUR(1, 1, 2, 0) FOUR(2, 2, 3, 1) FOUR(3, 3, 0, 2)        \
  FOUR(4, 0, 1, 3) FOUR(5, 1, 2, 0) FOUR(6, 2, 3, 1) FOUR(7, 3, 0, 2)        \
  FOUR(8, 0, 1, 3) FOUR(9, 1, 2, 0) FOUR(10, 2, 3, 1) FOUR(11, 3, 0, 2)      \
  FOUR(12, 0, 1, 3) FOUR(13, 1, 2, 0) FOUR(14, 2, 3, 1) FOUR(15, 3, 0, 2)

#define ONE(i, now, next, last) ROUNDS(i, s, m[now], m[next], m[last]);
#define TWO(i, now, next, last)               \
  ROUNDS(i, s, m[now], m[next], m[last]);     \
  ROUNDS(i, t, n[now], n[next], n[last]);

SHA static inline void load(__m128i words[4], const uint8_t *block) {
  const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
  for (int i = 0; i < 4; i++) words[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)block + i), big_endian);
}

SHA static inline state_t start(void) {
  return (state_t){_mm_loadu_si128((const __m128i *)START), _mm_loadu_si128((const __m128i *)START + 1)};
}

SHA static inline state_t sum(state_t a, state_t b) {
  return (state_t){_mm_add_epi32(a.abef, b.abef), _mm_add_epi32(a.cdgh, b.cdgh)};
}

SHA static state_t digest_one(state_t s, const uint8_t *data, size_t blocks) {
  for (; blocks > 0; blocks--, data += BLOCK) {
    const state_t before = s;
    __m128i m[4];
    load(m, data);
    EVERY_ROUND(ONE)
    s = sum(s, before);
  }
  return s;
}

SHA static void digest_two(state_t both[2], const uint8_t *one, const uint8_t *other, size_t blocks) {
  state_t s = both[0], t = both[1];
  for (; blocks > 0; blocks--, one += BLOCK, other += BLOCK) {
    const state_t s_before = s, t_before = t;
    __m128i m[4], n[4];
    load(m, one);
    load(n, other);
    EVERY_ROUND(TWO)
    s = sum(s, s_before);
    t = sum(t, t_before);
  }
  both[0] = s;
  both[1] = t;
}

SHA static void store(state_t s, uint8_t *out) {
  const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
  __m128i feba = _mm_shuffle_epi32(s.abef, 0x1b), dchg = _mm_shuffle_epi32(s.cdgh, 0xb1);
  __m128i abcd = _mm_blend_epi16(feba, dchg, 0xf0), efgh = _mm_alignr_epi8(dchg, feba, 8);
  _mm_storeu_si128((__m128i *)out, _mm_shuffle_epi8(abcd, big_endian));
  _mm_storeu_si128((__m128i *)out + 1, _mm_shuffle_epi8(efgh, big_endian));
}

/* What follows the last whole block: the rest, a bit, zeros, and the length in bits. Answers how many blocks that are. */
static size_t end_of(uint8_t end[2 * BLOCK], const uint8_t *data, size_t length) {
  const size_t rest = length % BLOCK, blocks = rest < BLOCK - 8 ? 1 : 2;
  memset(end, 0, 2 * BLOCK);
  memcpy(end, data + length - rest, rest);
  end[rest] = 0x80;
  for (int i = 0; i < 8; i++) end[blocks * BLOCK - 1 - i] = (uint8_t)((uint64_t)length * 8 >> (8 * i));
  return blocks;
}

SHA static void hash_one(const uint8_t *data, size_t length, uint8_t *out) {
  uint8_t end[2 * BLOCK];
  const size_t blocks = end_of(end, data, length);
  store(digest_one(digest_one(start(), data, length / BLOCK), end, blocks), out);
}

SHA static void hash_two(const uint8_t *one, const uint8_t *other, size_t length, uint8_t *out) {
  uint8_t end[2 * BLOCK], other_end[2 * BLOCK];
  const size_t blocks = end_of(end, one, length);
  end_of(other_end, other, length);
  state_t both[2] = {start(), start()};
  digest_two(both, one, other, length / BLOCK);
  digest_two(both, end, other_end, blocks);
  store(both[0], out);
  store(both[1], out + DIGEST);
}

static void hash_leaves(const uint8_t *data, size_t length, size_t leaf, uint8_t *out) {
  for (; length >= 2 * leaf; length -= 2 * leaf, data += 2 * leaf, out += 2 * DIGEST) hash_two(data, data + leaf, leaf, out);
  for (; length > 0; out += DIGEST) {
    const size_t now = length < leaf ? length : leaf;
    hash_one(data, now, out);
    data += now;
    length -= now;
  }
}
#else
static bool can_hash(void) {
  return false;
}

static void hash_leaves(const uint8_t *data, size_t length, size_t leaf, uint8_t *out) {
  (void)data, (void)length, (void)leaf, (void)out;
}
#endif

/*
 * hashLeaves(data: Uint8Array, leafBytes: number, out: Uint8Array) => boolean: SHA-256 of each leaf of `data`, the last of which may be short, 32 bytes each,
 * at the start of `out`. false: this processor has no instructions for that, and nothing was done.
 */
napi_value js_hash_leaves(napi_env env, napi_callback_info info) {
  size_t argc = 3, length = 0, room = 0;
  napi_value argv[3], result;
  void *data, *out;
  uint32_t leaf = 0;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  const bool is_right = argc == 3 && napi_get_buffer_info(env, argv[0], &data, &length) == napi_ok &&
    napi_get_value_uint32(env, argv[1], &leaf) == napi_ok && leaf > 0 &&
    napi_get_buffer_info(env, argv[2], &out, &room) == napi_ok && room / DIGEST >= (length + leaf - 1) / leaf;
  if (!is_right) return fail(env, EINVAL, "hashLeaves");
  const bool can = can_hash();
  if (can) hash_leaves(data, length, leaf, out);
  napi_get_boolean(env, can, &result);
  return result;
}
