/*
 * A switch between hosts, in user space: what one sends to another may be lost, late, doubled or out of order, each way by
 * itself. (tc-netem(8) would do it in the kernel, where the kernel has it.)
 *
 *   wire PREFIX COUNT SEED
 *
 * Makes the TAP devices PREFIX0 to PREFIX(COUNT-1); the device of port N must be given the MAC address 02:00:00:00:00:N.
 * Commands on stdin, each answered by a line `ok`:
 *
 *   rule FROM TO DELAY_MS JITTER_MS LOSS DOUBLED    ports, or * for all; LOSS and DOUBLED in thousandths of all frames
 *
 * Ends with stdin, and the devices with it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { PORTS_MAX = 64, FRAME_MAX = 65600, HELD_MAX = 1 << 15, BURST = 64, THOUSAND = 1000 };

struct rule {
  unsigned delay_ms, jitter_ms, loss, doubled;
};

/* A frame on its way. */
struct held {
  uint64_t due_ns, number;
  unsigned to, length;
  unsigned char *bytes;
};

static int ports[PORTS_MAX];
static unsigned count;
static struct rule rules[PORTS_MAX][PORTS_MAX];
static struct held heap[HELD_MAX]; /* the next one first */
static unsigned held;
static uint64_t numbers, state;

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* xorshift64* */
static unsigned below(unsigned end) {
  state ^= state >> 12;
  state ^= state << 25;
  state ^= state >> 27;
  return (unsigned)((state * 2685821657736338717u) >> 33) % end;
}

static bool is_earlier(const struct held *a, const struct held *b) {
  return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->number < b->number;
}

static void swap(unsigned a, unsigned b) {
  struct held one = heap[a];
  heap[a] = heap[b];
  heap[b] = one;
}

static void hold(struct held frame) {
  unsigned at = held++;
  heap[at] = frame;
  for (; at > 0 && is_earlier(&heap[at], &heap[(at - 1) / 2]); at = (at - 1) / 2) swap(at, (at - 1) / 2);
}

static struct held take(void) {
  struct held first = heap[0];
  heap[0] = heap[--held];
  for (unsigned at = 0;;) {
    unsigned next = at, left = 2 * at + 1;
    for (unsigned child = left; child < left + 2 && child < held; child++)
      if (is_earlier(&heap[child], &heap[next])) next = child;
    if (next == at) return first;
    swap(at, next);
    at = next;
  }
}

/* A full queue loses frames, as that of a switch does. */
static void deliver(unsigned to, const unsigned char *bytes, unsigned length) {
  if (write(ports[to], bytes, length) < 0 && errno != EAGAIN && errno != EIO && errno != ENOBUFS) fail("write");
}

static void send_later(unsigned to, const unsigned char *bytes, unsigned length, uint64_t due_ns) {
  if (held == HELD_MAX) return;
  unsigned char *copy = malloc(length);
  if (copy == NULL) fail("malloc");
  memcpy(copy, bytes, length);
  hold((struct held){due_ns, numbers++, to, length, copy});
}

static void pass(unsigned from, unsigned to, const unsigned char *bytes, unsigned length) {
  const struct rule *rule = &rules[from][to];
  unsigned copies = rule->doubled > 0 && below(THOUSAND) < rule->doubled ? 2 : 1;
  for (; copies > 0; copies--) {
    if (rule->loss > 0 && below(THOUSAND) < rule->loss) continue;
    unsigned ms = rule->delay_ms + (rule->jitter_ms > 0 ? below(rule->jitter_ms + 1) : 0);
    if (ms == 0) deliver(to, bytes, length);
    else send_later(to, bytes, length, now_ns() + (uint64_t)ms * 1000000u);
  }
}

/* By the last byte of the destination's MAC address; to all when it is a group address. */
static void forward(unsigned from, const unsigned char *frame, unsigned length) {
  if (length < 14) return;
  bool is_group = (frame[0] & 1) != 0;
  for (unsigned to = 0; to < count; to++)
    if (to != from && (is_group || frame[5] == to)) pass(from, to, frame, length);
}

static void receive(unsigned from) {
  static unsigned char frame[FRAME_MAX];
  for (int left = BURST; left > 0; left--) {
    ssize_t length = read(ports[from], frame, sizeof frame);
    if (length <= 0) return;
    forward(from, frame, (unsigned)length);
  }
}

static bool names(const char *word, unsigned port) { return word[0] == '*' || (unsigned)atoi(word) == port; }

static void command(const char *line) {
  char from[16], to[16];
  struct rule rule;
  int found = sscanf(line, "rule %15s %15s %u %u %u %u", from, to, &rule.delay_ms, &rule.jitter_ms, &rule.loss, &rule.doubled);
  if (found != 6) exit(2);
  for (unsigned a = 0; a < count; a++)
    for (unsigned b = 0; b < count; b++)
      if (names(from, a) && names(to, b)) rules[a][b] = rule;
  puts("ok");
  fflush(stdout);
}

static void hear(void) {
  static char text[4096];
  static size_t used;
  ssize_t got = read(0, text + used, sizeof text - 1 - used);
  if (got <= 0) exit(0);
  used += (size_t)got;
  text[used] = 0;
  for (char *end; (end = strchr(text, '\n')) != NULL;) {
    *end = 0;
    command(text);
    used -= (size_t)(end + 1 - text);
    memmove(text, end + 1, used + 1);
  }
}

static int tap(const char *prefix, unsigned number) {
  int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) fail("/dev/net/tun");
  struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};
  snprintf(request.ifr_name, sizeof request.ifr_name, "%s%u", prefix, number);
  if (ioctl(fd, TUNSETIFF, &request) != 0) fail(request.ifr_name);
  return fd;
}

/* Sends what is due. Answers how long the next one has, or NULL. */
static struct timespec *send_due(struct timespec *left) {
  while (held > 0) {
    uint64_t now = now_ns();
    if (heap[0].due_ns > now) {
      uint64_t ns = heap[0].due_ns - now;
      *left = (struct timespec){(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
      return left;
    }
    struct held frame = take();
    deliver(frame.to, frame.bytes, frame.length);
    free(frame.bytes);
  }
  return NULL;
}

int main(int argc, char **argv) {
  if (argc != 4 || (count = (unsigned)atoi(argv[2])) == 0 || count > PORTS_MAX) return 2;
  state = strtoull(argv[3], NULL, 10) * 2654435761u + 88172645463325252u;
  for (unsigned port = 0; port < count; port++) ports[port] = tap(argv[1], port);
  puts("ok");
  fflush(stdout);
  struct pollfd polled[PORTS_MAX + 1];
  for (;;) {
    struct timespec left, *wait = send_due(&left);
    for (unsigned port = 0; port < count; port++) polled[port] = (struct pollfd){ports[port], POLLIN, 0};
    polled[count] = (struct pollfd){0, POLLIN, 0};
    if (ppoll(polled, count + 1, wait, NULL) < 0 && errno != EINTR) fail("ppoll");
    if (polled[count].revents != 0) hear();
    for (unsigned port = 0; port < count; port++)
      if (polled[port].revents & POLLIN) receive(port);
  }
}
