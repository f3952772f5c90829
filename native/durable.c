/*
 * Several files brought to disk at once.
 *
 * writeDurably: the disk gets the bytes of all of them before the first flush is waited for (sync_file_range(2) only starts writing), and each
 * file is flushed: nothing is taken for granted about what another flush did.
 *
 * flushTogether: one syncfs(2) and a flush of the disk, and what went wrong with each file, as fdatasync(2) of it would have told.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include "addon.h"

enum { WRITES_MAX = 64, PARTS = 3 };

/* All of it, or -1 with errno. */
static int write_whole(int fd, struct iovec *parts, int count, off_t at) {
  while (count > 0) {
    ssize_t done = pwritev(fd, parts, count, at);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return -1;
    if (done == 0) {
      errno = EIO;
      return -1;
    }
    at += done;
    for (; count > 0 && (size_t)done >= parts->iov_len; parts++, count--) done -= parts->iov_len;
    if (count == 0) break;
    parts->iov_base = (char *)parts->iov_base + done;
    parts->iov_len -= done;
  }
  return 0;
}

static int flush(int fd) {
  int result;
  do result = fdatasync(fd);
  while (result < 0 && errno == EINTR);
  return result < 0 ? errno : 0;
}

static void *numbers(napi_env env, napi_value array, napi_typedarray_type wanted, size_t *length) {
  static double none; /* an empty array may have no memory */
  napi_typedarray_type type;
  void *data;
  if (napi_get_typedarray_info(env, array, &type, length, &data, NULL, NULL) != napi_ok || type != wanted) return NULL;
  return *length > 0 ? data : &none;
}

/*
 * writeDurably(fds: Int32Array, positions: Float64Array, parts: Buffer[], results: Int32Array): three parts for each write, one behind the other.
 * Writes of one file are neighbours. In `results` is 0 or a positive errno for each; a write that failed leaves those behind it in its
 * file undone.
 */
napi_value js_write_durably(napi_env env, napi_callback_info info) {
  size_t argc = 4, count, positions_length, results_length, bytes[WRITES_MAX];
  napi_value argv[4], part;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  int32_t *fds = argc == 4 ? numbers(env, argv[0], napi_int32_array, &count) : NULL;
  double *positions = fds ? numbers(env, argv[1], napi_float64_array, &positions_length) : NULL;
  int32_t *results = positions ? numbers(env, argv[3], napi_int32_array, &results_length) : NULL;
  if (!results || count > WRITES_MAX || positions_length < count || results_length < count)
    return fail(env, EINVAL, "writeDurably");
  struct iovec parts[WRITES_MAX * PARTS];
  for (size_t i = 0; i < count; i++) {
    bytes[i] = 0;
    for (size_t p = i * PARTS; p < (i + 1) * PARTS; p++) {
      if (napi_get_element(env, argv[2], p, &part) != napi_ok) return fail(env, EINVAL, "writeDurably");
      if (napi_get_buffer_info(env, part, &parts[p].iov_base, &parts[p].iov_len) != napi_ok)
        return fail(env, EINVAL, "writeDurably");
      bytes[i] += parts[p].iov_len;
    }
  }
  for (size_t i = 0; i < count; i++) {
    int before = i > 0 && fds[i - 1] == fds[i] ? results[i - 1] : 0;
    results[i] = before ? before : write_whole(fds[i], parts + i * PARTS, PARTS, (off_t)positions[i]) < 0 ? errno : 0;
    /* Only so that the disk begins: what it says is said again by the flush. */
    if (!results[i]) sync_file_range(fds[i], (off_t)positions[i], (off_t)bytes[i], SYNC_FILE_RANGE_WRITE);
  }
  for (size_t first = 0, next; first < count; first = next) {
    int failed = 0;
    for (next = first; next < count && fds[next] == fds[first]; next++) failed = failed ? failed : results[next];
    if (!failed) failed = flush(fds[first]);
    for (size_t i = first; i < next; i++) results[i] = results[i] ? results[i] : failed;
  }
  return NULL;
}

/*
 * flushTogether(fds: Int32Array, folder: fd, results: Int32Array) => 0 or errno: all that is in the file system of `folder` is on disk, but for
 * files with an errno in `results`: writing their pages failed since somebody was last told so. With an errno nothing is known of any of them,
 * and what went wrong with a file is still to be told to who asks next.
 */
napi_value js_flush_together(napi_env env, napi_callback_info info) {
  size_t argc = 3, count, results_length;
  napi_value argv[3], result;
  int32_t folder = -1;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  int32_t *fds = argc == 3 ? numbers(env, argv[0], napi_int32_array, &count) : NULL;
  int32_t *results = fds ? numbers(env, argv[2], napi_int32_array, &results_length) : NULL;
  if (!results || results_length < count || napi_get_value_int32(env, argv[1], &folder) != napi_ok)
    return fail(env, EINVAL, "flushTogether");
  /*
   * ext4 without a journal writes inodes behind the flush of its syncfs, ext2 has none there: the fsync brings it. And of a journal that could not
   * be written ext4 tells only those who wait for it just then, which may be others; who changes something, and flushes that, is told.
   */
  int failed = syncfs(folder) < 0 ? errno : 0;
  if ((futimens(folder, NULL) < 0 || fsync(folder) < 0) && !failed) failed = errno;
  /* Waits for nothing: it asks whether a page of the file could not be written. */
  for (size_t i = 0; i < count && !failed; i++)
    results[i] = sync_file_range(fds[i], 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE) < 0 ? errno : 0;
  napi_create_int32(env, failed, &result);
  return result;
}
