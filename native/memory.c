/* Memory that is kept, and not its contents. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <sys/mman.h>
#include <unistd.h>
#include "addon.h"

/*
 * releasePages(memory: Buffer): the machine has the whole pages in it back; they are zeros, and there again when they are next used (madvise(2),
 * MADV_DONTNEED).
 */
napi_value js_release_pages(napi_env env, napi_callback_info info) {
  size_t argc = 1, length;
  napi_value argv[1];
  void *data;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  if (argc != 1 || napi_get_buffer_info(env, argv[0], &data, &length) != napi_ok)
    return fail(env, EINVAL, "releasePages");
  uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
  uintptr_t first = ((uintptr_t)data + page - 1) / page * page, end = ((uintptr_t)data + length) / page * page;
  if (end > first) madvise((void *)first, end - first, MADV_DONTNEED);
  return NULL;
}

/*
 * trimHeap(): the machine has the whole pages back that malloc keeps free between what is in use (malloc_trim(3)): after many short buffers came and
 * went these are a good half of its heap. Elsewhere than with the GNU C library: nothing.
 */
napi_value js_trim_heap(napi_env env, napi_callback_info info) {
  (void)env;
  (void)info;
#ifdef __GLIBC__
  malloc_trim(0);
#endif
  return NULL;
}
