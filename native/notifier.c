/*
 * Writes notifications into /dev/fuse from threads of their own: such a write may wait inside the kernel for a lock that
 * a process holds which itself waits for an answer of ours, so the main loop must never do it. One queue for all threads
 * of a notifier: a thread that is kept waiting holds up nobody while others are free.
 *
 * If this process is killed while a thread waits like that, the thread cannot die before it gets its lock, and were it to
 * keep the mount's descriptor open, nobody would ever answer whoever holds it: both would wait for ever. So each thread
 * has a table of descriptors of its own, and in it a clone of the device (FUSE_DEV_IOC_CLONE): the kernel ends the
 * requests that were read through the main descriptor when that is closed, whatever clones there are.
 *
 *   send() -> queue -> a thread: write(2) -> done list + eventfd -> main loop: callback(id, errno)
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "addon.h"

#define DEVICE_CLONE _IOR(229, 0, uint32_t) /* linux/fuse.h, FUSE_DEV_IOC_CLONE */
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
enum { DESCRIPTORS_MAX = 65536, THREADS_MAX = 16 };

typedef struct job {
  struct job *next;
  double id;
  int error;
  size_t length;
  char bytes[];
} job_t;

typedef struct notifier {
  napi_env env;
  napi_ref callback; /* (id, errno) */
  napi_async_context context;
  handle_t *poll;
  pthread_mutex_t lock;
  pthread_cond_t work;
  job_t *first, **last; /* to be written */
  job_t *done; /* written */
  int device;
  int wake; /* eventfd: something is done, or a thread has ended */
  unsigned running; /* threads */
  bool closing;
  int held; /* functions that JavaScript may still call */
} notifier_t;

static void close_between(unsigned from, unsigned to) {
  if (from > to || syscall(SYS_close_range, from, to, 0) == 0) return;
  for (unsigned fd = from; fd <= to && fd < DESCRIPTORS_MAX; fd++) close((int)fd);
}

/* The descriptor that this thread writes to, in a table where there is only it and `wake`. */
static int own_device(int device, int wake) {
  if (unshare(CLONE_FILES) != 0) return device;
  int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
  uint32_t of = (uint32_t)device;
  if (fd >= 0 && ioctl(fd, DEVICE_CLONE, &of) != 0) {
    close(fd);
    fd = -1;
  }
  if (fd < 0) fd = device;
  unsigned low = (unsigned)(fd < wake ? fd : wake), high = (unsigned)(fd < wake ? wake : fd);
  if (low > 0) close_between(0, low - 1);
  close_between(low + 1, high - 1);
  close_between(high + 1, ~0U);
  return fd;
}

static void ring(notifier_t *notifier) {
  uint64_t one = 1;
  if (write(notifier->wake, &one, sizeof one) < 0) return; /* EAGAIN: it is ringing already */
}

static void *run(void *data) {
  notifier_t *notifier = data;
  int fd = own_device(notifier->device, notifier->wake);
  pthread_mutex_lock(&notifier->lock);
  while (!notifier->closing) {
    job_t *job = notifier->first;
    if (!job) {
      pthread_cond_wait(&notifier->work, &notifier->lock);
      continue;
    }
    notifier->first = job->next;
    if (!notifier->first) notifier->last = &notifier->first;
    pthread_mutex_unlock(&notifier->lock);
    job->error = write(fd, job->bytes, job->length) < 0 ? errno : 0;
    pthread_mutex_lock(&notifier->lock);
    job->next = notifier->done;
    notifier->done = job;
    ring(notifier);
  }
  notifier->running--;
  ring(notifier);
  pthread_mutex_unlock(&notifier->lock); /* after this it may be gone */
  return NULL;
}

static void free_jobs(job_t *job) {
  while (job) {
    job_t *next = job->next;
    free(job);
    job = next;
  }
}

static void free_if_over(notifier_t *notifier) {
  if (notifier->held > 0 || notifier->poll) return;
  free_jobs(notifier->first);
  free_jobs(notifier->done);
  pthread_cond_destroy(&notifier->work);
  pthread_mutex_destroy(&notifier->lock);
  close(notifier->wake);
  free(notifier);
}

static void on_closed(handle_t *handle) {
  notifier_t *notifier = handle->data;
  free(handle);
  notifier->poll = NULL;
  napi_delete_reference(notifier->env, notifier->callback);
  napi_async_destroy(notifier->env, notifier->context);
  free_if_over(notifier);
}

static void tell(notifier_t *notifier, job_t *job) {
  napi_env env = notifier->env;
  napi_value callback, global, result, argv[2];
  napi_get_reference_value(env, notifier->callback, &callback);
  napi_get_global(env, &global);
  napi_create_double(env, job->id, &argv[0]);
  napi_create_int32(env, job->error, &argv[1]);
  if (napi_make_callback(env, notifier->context, global, callback, 2, argv, &result) != napi_pending_exception) return;
  napi_value error;
  napi_get_and_clear_last_exception(env, &error);
  napi_fatal_exception(env, error);
}

static void on_wake(handle_t *handle, int status, int events) {
  (void)status;
  (void)events;
  notifier_t *notifier = handle->data;
  uint64_t count;
  if (read(notifier->wake, &count, sizeof count) < 0 && errno != EAGAIN) return;
  pthread_mutex_lock(&notifier->lock);
  job_t *done = notifier->done;
  notifier->done = NULL;
  bool over = notifier->closing && notifier->running == 0;
  pthread_mutex_unlock(&notifier->lock);
  napi_handle_scope scope;
  napi_open_handle_scope(notifier->env, &scope);
  for (job_t *job = done; job && !notifier->closing; job = job->next) tell(notifier, job);
  napi_close_handle_scope(notifier->env, scope);
  free_jobs(done);
  if (!over) return;
  uv_poll_stop(handle);
  uv_close(handle, on_closed);
}

/* send(id, bytes): copied; nothing after close() */
static napi_value js_send(napi_env env, napi_callback_info info) {
  size_t argc = 2;
  napi_value argv[2];
  void *data, *bytes = NULL;
  size_t length = 0;
  napi_get_cb_info(env, info, &argc, argv, NULL, &data);
  notifier_t *notifier = data;
  if (notifier->closing || napi_get_buffer_info(env, argv[1], &bytes, &length) != napi_ok) return NULL;
  job_t *job = malloc(sizeof *job + length);
  if (!job) return fail(env, ENOMEM, "notifier");
  job->next = NULL;
  job->length = length;
  napi_get_value_double(env, argv[0], &job->id);
  memcpy(job->bytes, bytes, length);
  pthread_mutex_lock(&notifier->lock);
  *notifier->last = job;
  notifier->last = &job->next;
  pthread_cond_signal(&notifier->work);
  pthread_mutex_unlock(&notifier->lock);
  return NULL;
}

static void stop(notifier_t *notifier) {
  pthread_mutex_lock(&notifier->lock);
  notifier->closing = true;
  pthread_cond_broadcast(&notifier->work);
  if (notifier->running == 0) ring(notifier);
  pthread_mutex_unlock(&notifier->lock);
}

/* close(): what is queued is dropped; no callback any more. It does not wait: each thread ends with its write. */
static napi_value js_close(napi_env env, napi_callback_info info) {
  void *data;
  napi_get_cb_info(env, info, NULL, NULL, NULL, &data);
  stop(data);
  return NULL;
}

static void on_dropped(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  notifier_t *notifier = data;
  if (--notifier->held > 0) return;
  if (notifier->poll) stop(notifier);
  else free_if_over(notifier);
}

/* All signals stay with the main thread: libuv's handler needs descriptors that these threads do not have. */
static unsigned start_threads(notifier_t *notifier, unsigned wanted) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  unsigned started = 0;
  pthread_mutex_lock(&notifier->lock);
  for (; started < wanted; started++) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, run, notifier) != 0) break;
    pthread_detach(thread);
  }
  notifier->running = started;
  pthread_mutex_unlock(&notifier->lock);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return started;
}

static notifier_t *new_notifier(napi_env env, int device) {
  notifier_t *notifier = calloc(1, sizeof *notifier);
  if (!notifier) return NULL;
  notifier->env = env;
  notifier->device = device;
  notifier->last = &notifier->first;
  notifier->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  notifier->poll = calloc(1, uv_handle_size(HANDLE_POLL));
  struct uv_loop_s *loop;
  napi_get_uv_event_loop(env, &loop);
  if (notifier->wake < 0 || !notifier->poll || uv_poll_init(loop, notifier->poll, notifier->wake) != 0) {
    if (notifier->wake >= 0) close(notifier->wake);
    free(notifier->poll);
    free(notifier);
    return NULL;
  }
  pthread_mutex_init(&notifier->lock, NULL);
  pthread_cond_init(&notifier->work, NULL);
  notifier->poll->data = notifier;
  uv_poll_start(notifier->poll, POLL_READABLE, on_wake);
  uv_unref(notifier->poll); /* a mount keeps the process running, not this */
  return notifier;
}

/* notifier(fd, threads, callback) => {send, close} */
napi_value js_notifier(napi_env env, napi_callback_info info) {
  size_t argc = 3;
  napi_value argv[3], name, result, send, close_function;
  int32_t device = -1;
  uint32_t threads = 0;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  napi_get_value_int32(env, argv[0], &device);
  napi_get_value_uint32(env, argv[1], &threads);
  notifier_t *notifier = new_notifier(env, device);
  if (!notifier) return fail(env, EMFILE, "notifier");
  napi_create_reference(env, argv[2], 1, &notifier->callback);
  napi_create_string_utf8(env, "ringfs:notifier", NAPI_AUTO_LENGTH, &name);
  napi_async_init(env, NULL, name, &notifier->context);
  napi_create_object(env, &result);
  napi_create_function(env, "send", NAPI_AUTO_LENGTH, js_send, notifier, &send);
  napi_create_function(env, "close", NAPI_AUTO_LENGTH, js_close, notifier, &close_function);
  napi_set_named_property(env, result, "send", send);
  napi_set_named_property(env, result, "close", close_function);
  if (start_threads(notifier, threads < THREADS_MAX ? threads : THREADS_MAX) == 0) {
    stop(notifier);
    return fail(env, EAGAIN, "notifier");
  }
  notifier->held = 2;
  napi_add_finalizer(env, send, notifier, on_dropped, NULL, NULL);
  napi_add_finalizer(env, close_function, notifier, on_dropped, NULL, NULL);
  return result;
}
