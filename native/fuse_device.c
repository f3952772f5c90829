/*
 * What TypeScript cannot do for the kernel driver: mount(2), umount2(2), receiving a descriptor from fusermount3, and
 * reading /dev/fuse from the event loop. Nothing here knows the protocol.
 *
 * Reading: uv_poll wakes us when there is a request; after one, an idle handle keeps the loop from sleeping for spin_ns,
 * and the descriptor is read again in each turn: waking an idle core costs more than the request itself. While a request is
 * under way the loop stays awake for await_ns, since the answer that it waits for comes in most cases, and then the next
 * request. Nothing runs when nothing comes; and who was made to give way to others (an involuntary context switch) does not
 * stay awake for a while: the core has something better to do.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>
#include "addon.h"

/* Requests handled in one turn of the loop before others get theirs. */
enum { BURST = 32 };
/* Requests that are handed over before any of them goes on behind its first await: one run of the microtasks for all. */
enum { BATCH = 8, BATCH_BYTES = 64 * 1024 };
/* How long the loop sleeps at once after others wanted the core, and how many turns it spins between two looks at that. */
enum { GIVE_WAY_NS = 10 * 1000 * 1000, LOOK_TURNS = 8 };

typedef struct reader {
  napi_env env;
  struct reader **slot; /* what stop() holds; emptied when the reader ends by itself */
  napi_ref callback; /* (length) => Buffer for the next read; (-errno) when it is over */
  napi_ref buffer;
  napi_async_context context;
  void *data;
  size_t length;
  int fd;
  handle_t *poll;
  handle_t *idle;
  bool spinning;
  bool closed;
  int handles;
  const uint32_t *under_way; /* how many requests are; written by JavaScript */
  napi_ref under_way_ref;
  uint64_t spin_ns;
  uint64_t await_ns;
  uint64_t last_ns;
  uint64_t asleep_until_ns;
  long switches;
  unsigned turns;
} reader_t;

napi_value fail(napi_env env, int error, const char *what) {
  char text[160];
  snprintf(text, sizeof text, "%s: %s", what, strerror(error));
  napi_value message, code, err;
  napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &message);
  napi_create_error(env, NULL, message, &err);
  napi_create_int32(env, error, &code);
  napi_set_named_property(env, err, "errno", code);
  napi_throw(env, err);
  return NULL;
}

static char *string_arg(napi_env env, napi_value value) {
  size_t length = 0;
  if (napi_get_value_string_utf8(env, value, NULL, 0, &length) != napi_ok) return NULL;
  char *text = malloc(length + 1);
  if (text) napi_get_value_string_utf8(env, value, text, length + 1, &length);
  return text;
}

/* mount(source, target, type, flags, options) */
static napi_value js_mount(napi_env env, napi_callback_info info) {
  size_t argc = 5;
  napi_value argv[5];
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  uint32_t flags = 0;
  napi_get_value_uint32(env, argv[3], &flags);
  char *source = string_arg(env, argv[0]), *target = string_arg(env, argv[1]);
  char *type = string_arg(env, argv[2]), *options = string_arg(env, argv[4]);
  int result = -1, error = EINVAL;
  if (source && target && type && options) {
    result = mount(source, target, type, flags, options);
    error = errno;
  }
  free(source);
  free(target);
  free(type);
  free(options);
  return result == 0 ? NULL : fail(env, error, "mount");
}

/* socketPair() => [ours, theirs]; ours is closed on exec */
static napi_value js_socket_pair(napi_env env, napi_callback_info info) {
  (void)info;
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) return fail(env, errno, "socketpair");
  fcntl(pair[0], F_SETFD, FD_CLOEXEC);
  fcntl(pair[1], F_SETFD, FD_CLOEXEC);
  napi_value array, one;
  napi_create_array_with_length(env, 2, &array);
  for (uint32_t i = 0; i < 2; i++) {
    napi_create_int32(env, pair[i], &one);
    napi_set_element(env, array, i, one);
  }
  return array;
}

/* receiveDescriptor(socket) => fd. Called when the sender has exited, so it does not wait. */
static napi_value js_receive(napi_env env, napi_callback_info info) {
  size_t argc = 1;
  napi_value argv[1], result;
  int socket = -1;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  napi_get_value_int32(env, argv[0], &socket);
  char byte;
  char control[CMSG_SPACE(sizeof(int))];
  struct iovec iov = {&byte, 1};
  struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  ssize_t got = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (got <= 0) return fail(env, got == 0 ? EPROTO : errno, "recvmsg");
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  if (!header || header->cmsg_type != SCM_RIGHTS) return fail(env, EPROTO, "no descriptor");
  int fd;
  memcpy(&fd, CMSG_DATA(header), sizeof fd);
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
  napi_create_int32(env, fd, &result);
  return result;
}

static void set_buffer(reader_t *reader, napi_value buffer) {
  void *data = NULL;
  size_t length = 0;
  if (napi_get_buffer_info(reader->env, buffer, &data, &length) != napi_ok) return;
  if (data == reader->data) return;
  if (reader->buffer) napi_delete_reference(reader->env, reader->buffer);
  napi_create_reference(reader->env, buffer, 1, &reader->buffer);
  reader->data = data;
  reader->length = length;
}

/* Calls JavaScript; within a callback scope. */
static void tell(reader_t *reader, int64_t length) {
  napi_env env = reader->env;
  napi_value callback, global, argument, result;
  napi_get_reference_value(env, reader->callback, &callback);
  napi_get_global(env, &global);
  napi_create_int64(env, length, &argument);
  napi_status status = napi_call_function(env, global, callback, 1, &argument, &result);
  if (status == napi_pending_exception) {
    napi_value error;
    napi_get_and_clear_last_exception(env, &error);
    napi_fatal_exception(env, error);
  } else if (status == napi_ok && length > 0) {
    set_buffer(reader, result);
  }
}

static void freed(handle_t *handle) {
  reader_t *reader = handle->data;
  free(handle);
  if (--reader->handles > 0) return;
  napi_delete_reference(reader->env, reader->callback);
  if (reader->buffer) napi_delete_reference(reader->env, reader->buffer);
  napi_delete_reference(reader->env, reader->under_way_ref);
  napi_async_destroy(reader->env, reader->context);
  free(reader);
}

static void stop(reader_t *reader) {
  if (reader->closed) return;
  reader->closed = true;
  if (reader->slot) *reader->slot = NULL;
  reader->slot = NULL;
  uv_poll_stop(reader->poll);
  uv_idle_stop(reader->idle);
  uv_close(reader->poll, freed);
  uv_close(reader->idle, freed);
}

/* Length of the next request, 0 if there is none, or a negative errno. */
static ssize_t next(reader_t *reader) {
  for (;;) {
    ssize_t got = read(reader->fd, reader->data, reader->length);
    if (got >= 0) return got;
    if (errno == EAGAIN) return 0;
    if (errno != EINTR && errno != ENOENT) return -errno; /* ENOENT: it was interrupted before we had it */
  }
}

/* Hands over a few requests, the first of which has been read; answers how many. Promises go on when it returns. */
static int batch(reader_t *reader, ssize_t got) {
  napi_env env = reader->env;
  napi_handle_scope handles;
  napi_callback_scope scope;
  napi_value resource;
  napi_open_handle_scope(env, &handles);
  napi_get_global(env, &resource);
  napi_open_callback_scope(env, resource, reader->context, &scope);
  int count = 0;
  for (size_t bytes = 0; got != 0; got = next(reader)) {
    if (got < 0) stop(reader); /* ENODEV: unmounted */
    tell(reader, got);
    count++;
    bytes += got > 0 ? (size_t)got : 0;
    if (reader->closed || count == BATCH || bytes >= BATCH_BYTES) break;
  }
  napi_close_callback_scope(env, scope);
  napi_close_handle_scope(env, handles);
  return count;
}

/* Reads what is there; true if there was something. */
static bool drain(reader_t *reader) {
  int count = 0;
  while (count < BURST && !reader->closed) {
    ssize_t got = next(reader);
    if (got == 0) break;
    count += batch(reader, got);
  }
  return count > 0;
}

static void on_idle(handle_t *handle);

/* How often this thread had to leave its core to others. */
static long switches(void) {
  struct rusage usage;
  return getrusage(RUSAGE_THREAD, &usage) == 0 ? usage.ru_nivcsw : 0;
}

static void sleep_again(reader_t *reader) {
  uv_idle_stop(reader->idle);
  reader->spinning = false;
}

static void stay_awake(reader_t *reader, uint64_t now) {
  reader->last_ns = now;
  if (reader->spinning || reader->spin_ns == 0 || now < reader->asleep_until_ns) return;
  reader->spinning = true;
  reader->switches = switches();
  reader->turns = 0;
  uv_idle_start(reader->idle, on_idle);
}

/* Others wanted the core while we had nothing to do. */
static bool is_in_the_way(reader_t *reader, uint64_t now) {
  if (++reader->turns % LOOK_TURNS != 0) return false;
  long count = switches();
  if (count == reader->switches) return false;
  reader->switches = count;
  reader->asleep_until_ns = now + GIVE_WAY_NS;
  return true;
}

static void on_idle(handle_t *handle) {
  reader_t *reader = handle->data;
  uint64_t now = uv_hrtime();
  if (drain(reader)) {
    reader->last_ns = now;
    return;
  }
  if (reader->closed) return;
  uint64_t patience_ns = *reader->under_way > 0 ? reader->await_ns : reader->spin_ns;
  if (now - reader->last_ns > patience_ns || is_in_the_way(reader, now)) sleep_again(reader);
}

static void on_readable(handle_t *handle, int status, int events) {
  (void)events;
  reader_t *reader = handle->data;
  if (status < 0) {
    batch(reader, status);
    return;
  }
  if (drain(reader) && !reader->closed) stay_awake(reader, uv_hrtime());
}

static napi_value js_stop(napi_env env, napi_callback_info info) {
  void *data;
  napi_get_cb_info(env, info, NULL, NULL, NULL, &data);
  reader_t **slot = data;
  if (*slot) stop(*slot);
  return NULL;
}

static void free_slot(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  reader_t **slot = data;
  if (*slot) (*slot)->slot = NULL; /* it goes on reading; nobody can stop it any more but its own end */
  free(slot);
}

/* read(fd, buffer, spinMicroseconds, awaitMicroseconds, underWay, callback) => stop() */
static napi_value js_read(napi_env env, napi_callback_info info) {
  size_t argc = 6, under_way_bytes = 0;
  napi_value argv[6], name, result;
  void *under_way = NULL;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  reader_t *reader = calloc(1, sizeof *reader);
  reader_t **slot = malloc(sizeof *slot);
  struct uv_loop_s *loop;
  uint32_t spin = 0, await = 0;
  if (!reader || !slot) return fail(env, ENOMEM, "read");
  if (napi_get_buffer_info(env, argv[4], &under_way, &under_way_bytes) != napi_ok || under_way_bytes < sizeof(uint32_t)) {
    free(reader);
    free(slot);
    return fail(env, EINVAL, "read");
  }
  *slot = reader;
  reader->slot = slot;
  reader->env = env;
  napi_get_value_int32(env, argv[0], &reader->fd);
  napi_get_value_uint32(env, argv[2], &spin);
  napi_get_value_uint32(env, argv[3], &await);
  reader->spin_ns = (uint64_t)spin * 1000;
  reader->await_ns = (uint64_t)await * 1000;
  reader->under_way = under_way;
  napi_create_reference(env, argv[4], 1, &reader->under_way_ref);
  set_buffer(reader, argv[1]);
  napi_create_reference(env, argv[5], 1, &reader->callback);
  napi_create_string_utf8(env, "ringfs:fuse", NAPI_AUTO_LENGTH, &name);
  napi_async_init(env, NULL, name, &reader->context);
  napi_get_uv_event_loop(env, &loop);
  reader->poll = calloc(1, uv_handle_size(HANDLE_POLL));
  reader->idle = calloc(1, uv_handle_size(HANDLE_IDLE));
  reader->handles = 2;
  int error = uv_poll_init(loop, reader->poll, reader->fd);
  if (error != 0) return fail(env, -error, "uv_poll_init");
  uv_idle_init(loop, reader->idle);
  reader->poll->data = reader;
  reader->idle->data = reader;
  uv_poll_start(reader->poll, POLL_READABLE, on_readable);
  napi_create_function(env, "stop", NAPI_AUTO_LENGTH, js_stop, slot, &result);
  napi_add_finalizer(env, result, slot, free_slot, NULL, NULL);
  return result;
}

typedef struct writer {
  napi_ref head;
  void *bytes;
  size_t length;
  int fd;
} writer_t;

static void free_writer(napi_env env, void *data, void *hint) {
  (void)hint;
  writer_t *writer = data;
  if (writer->head) napi_delete_reference(env, writer->head);
  free(writer);
}

/* write(length, body?) => 0 or errno: the first bytes of `head`, then the body */
static napi_value js_write(napi_env env, napi_callback_info info) {
  size_t argc = 2, body = 0;
  napi_value argv[2], result;
  void *data;
  napi_get_cb_info(env, info, &argc, argv, NULL, &data);
  writer_t *writer = data;
  uint32_t length = 0;
  napi_get_value_uint32(env, argv[0], &length);
  struct iovec parts[2] = {{writer->bytes, length}, {NULL, 0}};
  if (argc > 1 && napi_get_buffer_info(env, argv[1], &parts[1].iov_base, &body) == napi_ok) parts[1].iov_len = body;
  ssize_t written = -1;
  errno = EINVAL;
  if (length <= writer->length) {
    do written = body > 0 ? writev(writer->fd, parts, 2) : write(writer->fd, writer->bytes, length);
    while (written < 0 && errno == EINTR);
  }
  napi_create_int32(env, written < 0 ? errno : 0, &result);
  return result;
}

/* writer(fd, head) => write */
static napi_value js_writer(napi_env env, napi_callback_info info) {
  size_t argc = 2;
  napi_value argv[2], result;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  writer_t *writer = calloc(1, sizeof *writer);
  if (!writer) return fail(env, ENOMEM, "writer");
  napi_get_value_int32(env, argv[0], &writer->fd);
  if (napi_get_buffer_info(env, argv[1], &writer->bytes, &writer->length) != napi_ok) {
    free(writer);
    return fail(env, EINVAL, "writer");
  }
  napi_create_reference(env, argv[1], 1, &writer->head);
  napi_create_function(env, "write", NAPI_AUTO_LENGTH, js_write, writer, &result);
  napi_add_finalizer(env, result, writer, free_writer, NULL, NULL);
  return result;
}

/* exit(2) without waiting for anybody: process.exit() joins worker threads, also those that wait in the kernel. */
static napi_value js_exit(napi_env env, napi_callback_info info) {
  size_t argc = 1;
  napi_value argv[1];
  int32_t code = 1;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  napi_get_value_int32(env, argv[0], &code);
  _exit(code);
}

NAPI_MODULE_INIT() {
  napi_property_descriptor functions[] = {
    {"mount", NULL, js_mount, NULL, NULL, NULL, napi_enumerable, NULL},
    {"socketPair", NULL, js_socket_pair, NULL, NULL, NULL, napi_enumerable, NULL},
    {"receiveDescriptor", NULL, js_receive, NULL, NULL, NULL, napi_enumerable, NULL},
    {"read", NULL, js_read, NULL, NULL, NULL, napi_enumerable, NULL},
    {"writer", NULL, js_writer, NULL, NULL, NULL, napi_enumerable, NULL},
    {"notifier", NULL, js_notifier, NULL, NULL, NULL, napi_enumerable, NULL},
    {"writeDurably", NULL, js_write_durably, NULL, NULL, NULL, napi_enumerable, NULL},
    {"flushTogether", NULL, js_flush_together, NULL, NULL, NULL, napi_enumerable, NULL},
    {"hashLeaves", NULL, js_hash_leaves, NULL, NULL, NULL, napi_enumerable, NULL},
    {"releasePages", NULL, js_release_pages, NULL, NULL, NULL, napi_enumerable, NULL},
    {"trimHeap", NULL, js_trim_heap, NULL, NULL, NULL, napi_enumerable, NULL},
    {"exit", NULL, js_exit, NULL, NULL, NULL, napi_enumerable, NULL},
  };
  napi_define_properties(env, exports, sizeof functions / sizeof *functions, functions);
  return exports;
}
