// An ONNX Runtime with a fault: the real one, REAL, but for the functions below.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// The places of functions in the runtime's table, and how much of it is copied.
enum { createSession = 7, run = 9, mutableData = 51, sizeInBytes = 318, table = 412 };

struct base {
  void **(*api)(uint32_t version);
  const char *(*version)(void);
};

typedef void *(*createFn)(void *env, void *path, void *options, void **session);
typedef void *(*runFn)(void *session, void *options, void *inNames, void *in, size_t nIn, void *outNames, size_t nOut, void **out);

static void **real;
static void *fake[table];

static void leak(size_t mib) {
  char *p = malloc(mib << 20);
  if (p) memset(p, 1, mib << 20);
}

// What a library does before anybody calls it.
#if defined(CRASH_AT_OPEN) || defined(EXIT_AT_OPEN) || defined(HANG_AT_OPEN)
__attribute__((constructor)) static void start(void) {
#if defined(CRASH_AT_OPEN)
  *(volatile int *)0 = 0;
#elif defined(EXIT_AT_OPEN)
  _exit(0);
#else
  for (;;) sleep(1);
#endif
}
#endif

static void *faultyCreate(void *env, void *path, void *options, void **session) {
#if defined(HANG_AT_LOAD)
  for (;;) sleep(1);
#elif defined(CRASH_AT_LOAD)
  *(volatile int *)0 = 0;
#elif defined(ABORT_AT_LOAD)
  abort();
#elif defined(LEAK_AT_LOAD)
  for (;; usleep(20000)) leak(4);
#endif
  return ((createFn)real[createSession])(env, path, options, session);
}

static void *faultyRun(void *session, void *options, void *inNames, void *in, size_t nIn, void *outNames, size_t nOut, void **out) {
#if defined(HANG_IN_RUN)
  for (;;) sleep(1);
#elif defined(CRASH_IN_RUN)
  *(volatile int *)0 = 0;
#elif defined(EXIT_IN_RUN)
  _exit(0);
#elif defined(LEAK_IN_RUN)
  for (;; usleep(20000)) leak(4);
#elif defined(LEAK_A_LITTLE)
  static size_t leaked;
  if (leaked++ < LEAK_A_LITTLE) leak(1);
#endif
  void *status = ((runFn)real[run])(session, options, inNames, in, nIn, outNames, nOut, out);
#if defined(NAN)
  for (size_t i = 0; !status && i < nOut; i++) {
    void *data;
    size_t size;
    ((void *(*)(void *, void **))real[mutableData])(out[i], &data);
    ((void *(*)(void *, size_t *))real[sizeInBytes])(out[i], &size);
    memset(data, 0xff, size);
  }
#endif
  return status;
}

static struct base *realBase(void) {
  static struct base *b;
  if (!b) {
    void *library = dlopen(REAL, RTLD_NOW | RTLD_LOCAL);
    b = library ? ((struct base *(*)(void))dlsym(library, "OrtGetApiBase"))() : NULL;
    if (!b) abort();
  }
  return b;
}

static void **api(uint32_t version) {
  if (!(real = realBase()->api(version))) return NULL;
  memcpy(fake, real, sizeof fake);
  fake[createSession] = (void *)faultyCreate;
  fake[run] = (void *)faultyRun;
  return fake;
}

static const char *version(void) { return realBase()->version(); }

struct base *OrtGetApiBase(void) {
  static struct base b = {api, version};
  return &b;
}
