/*
 * What the parts of the addon share: the few functions of libuv that are used, since its header is not part of
 * node-api-headers; they and the numbers of the handle types are part of libuv's stable ABI (1.x).
 */
#ifndef RINGFS_ADDON_H
#define RINGFS_ADDON_H
#include <node_api.h>
#include <stdint.h>

struct uv_loop_s;
typedef struct { void *data; } handle_t; /* every libuv handle begins with its data pointer */
typedef void (*poll_cb)(handle_t *, int, int);
typedef void (*idle_cb)(handle_t *);
extern size_t uv_handle_size(int type);
extern int uv_poll_init(struct uv_loop_s *, handle_t *, int fd);
extern int uv_poll_start(handle_t *, int events, poll_cb);
extern int uv_poll_stop(handle_t *);
extern int uv_idle_init(struct uv_loop_s *, handle_t *);
extern int uv_idle_start(handle_t *, idle_cb);
extern int uv_idle_stop(handle_t *);
extern void uv_close(handle_t *, idle_cb);
extern void uv_unref(handle_t *);
extern uint64_t uv_hrtime(void);
enum { HANDLE_IDLE = 6, HANDLE_POLL = 8, POLL_READABLE = 1 };

/* Throws an Error with `errno`. Answers NULL. */
napi_value fail(napi_env env, int error, const char *what);

/* notifier.c: notifier(fd, threads, callback) */
napi_value js_notifier(napi_env env, napi_callback_info info);

/* durable.c: writeDurably(fds, positions, parts, results), flushTogether(fds, folder, results) */
napi_value js_write_durably(napi_env env, napi_callback_info info);
napi_value js_flush_together(napi_env env, napi_callback_info info);

/* leaves.c: hashLeaves(data, leafBytes, out) */
napi_value js_hash_leaves(napi_env env, napi_callback_info info);

/* memory.c: releasePages(memory), trimHeap() */
napi_value js_release_pages(napi_env env, napi_callback_info info);
napi_value js_trim_heap(napi_env env, napi_callback_info info);
#endif
