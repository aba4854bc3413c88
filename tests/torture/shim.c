/* A disk that fails on command and remembers what it was told, between SQLite and the C library (LD_PRELOAD).
 *
 * Concerns only files whose name begins with $SHIM_PREFIX. Two services, each off when its variable is not set:
 *   SHIM_CONTROL  a file of ints, shared with the test: which call fails next and how (struct control).
 *   SHIM_JOURNAL  a file to which every change is appended after it was made, so that the test can rebuild what would be
 *                 left after a power cut at any moment (disk_image.py).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { NONE, WRITE, SYNC, OPEN, TRUNCATE, UNLINK };

/* kinds of calls (bits), how many of them pass first, how many fail then (-1: all), with which errno; a write that fails leaves
   `torn` of its bytes behind; `injected` counts, by the kind of call. */
struct control { int32_t kinds, passes, times, error, torn, injected[6]; };

struct record { uint32_t kind, name; int64_t offset, length; };

static struct control *control;
static int journal = -1;
static const char *prefix;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *names[65536];  /* by descriptor: what follows the prefix; "" is the database itself */

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("SHIM_CONTROL");
    prefix = getenv("SHIM_PREFIX");
    if (path) {
        int fd = REAL(open)(path, O_RDWR | O_CLOEXEC);
        if (fd >= 0) control = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (control == MAP_FAILED) control = NULL;
    }
    path = getenv("SHIM_JOURNAL");
    if (path) journal = REAL(open)(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static const char *watched(const char *path) {
    return prefix && strncmp(path, prefix, strlen(prefix)) == 0 ? path + strlen(prefix) : NULL;
}

static const char *name_of(int fd) { return fd >= 0 && fd < 65536 ? names[fd] : NULL; }

/* Whether this call is to fail; gives the errno. */
static int fails(int kind, int *torn) {
    int error = 0;
    if (!control || !(control->kinds & 1 << kind)) return 0;
    pthread_mutex_lock(&lock);
    if (control->kinds & 1 << kind && control->times) {
        if (control->passes > 0) control->passes--;
        else {
            error = control->error;
            if (torn) *torn = control->torn;
            control->injected[kind]++;
            if (control->times > 0) control->times--;
        }
    }
    pthread_mutex_unlock(&lock);
    return error;
}

static uint32_t number_of(const char *name) { return strcmp(name, "-wal") == 0 ? 1 : *name == 0 ? 0 : 2; }

static void note(int kind, const char *name, int64_t offset, const void *data, int64_t length) {
    if (journal < 0 || number_of(name) == 2) return;
    struct record record = { kind, number_of(name), offset, length };
    struct iovec parts[2] = { { &record, sizeof record }, { (void *)data, data ? length : 0 } };
    if (writev(journal, parts, 2) < 0) abort();
}

static int opened(int fd, const char *name, int flags) {
    if (fd >= 0 && fd < 65536 && name) {
        names[fd] = strdup(name);
        if (flags & O_TRUNC) note(TRUNCATE, name, 0, NULL, 0);
    }
    return fd;
}

#define OPENING(symbol)                                                                                                \
    int symbol(const char *path, int flags, ...) {                                                                     \
        va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest);                         \
        const char *name = watched(path);                                                                              \
        int error = name ? fails(OPEN, NULL) : 0;                                                                      \
        if (error) { errno = error; return -1; }                                                                       \
        return opened(REAL(symbol)(path, flags, mode), name, flags);                                                   \
    }
OPENING(open)
OPENING(open64)

int close(int fd) {
    if (name_of(fd)) { free(names[fd]); names[fd] = NULL; }
    return REAL(close)(fd);
}

#define WRITING(symbol, type)                                                                                          \
    ssize_t symbol(int fd, const void *data, size_t length, type offset) {                                             \
        const char *name = name_of(fd);                                                                                \
        if (!name) return REAL(symbol)(fd, data, length, offset);                                                      \
        int torn = 0, error = fails(WRITE, &torn);                                                                     \
        if (error) {                                                                                                   \
            if (torn > 0) {                                                                                            \
                size_t some = (size_t)torn < length ? (size_t)torn : length - 1;                                       \
                if (REAL(symbol)(fd, data, some, offset) > 0) note(WRITE, name, offset, data, some);                   \
            }                                                                                                          \
            errno = error;                                                                                             \
            return -1;                                                                                                 \
        }                                                                                                              \
        ssize_t done = REAL(symbol)(fd, data, length, offset);                                                         \
        if (done > 0) note(WRITE, name, offset, data, done);                                                           \
        return done;                                                                                                   \
    }
WRITING(pwrite, off_t)
WRITING(pwrite64, off64_t)

ssize_t write(int fd, const void *data, size_t length) {
    const char *name = name_of(fd);
    if (!name || number_of(name) == 2) return REAL(write)(fd, data, length);
    int64_t offset = lseek(fd, 0, SEEK_CUR);
    int error = fails(WRITE, NULL);
    if (error) { errno = error; return -1; }
    ssize_t done = REAL(write)(fd, data, length);
    if (done > 0) note(WRITE, name, offset, data, done);
    return done;
}

#define SYNCING(symbol)                                                                                                \
    int symbol(int fd) {                                                                                               \
        const char *name = name_of(fd);                                                                                \
        int error = name ? fails(SYNC, NULL) : 0;                                                                      \
        if (error) { errno = error; return -1; }                                                                       \
        int result = REAL(symbol)(fd);                                                                                 \
        if (name && result == 0) note(SYNC, name, 0, NULL, 0);                                                         \
        return result;                                                                                                 \
    }
SYNCING(fsync)
SYNCING(fdatasync)

#define TRUNCATING(symbol, type)                                                                                       \
    int symbol(int fd, type length) {                                                                                  \
        const char *name = name_of(fd);                                                                                \
        int error = name ? fails(TRUNCATE, NULL) : 0;                                                                  \
        if (error) { errno = error; return -1; }                                                                       \
        int result = REAL(symbol)(fd, length);                                                                         \
        if (name && result == 0) note(TRUNCATE, name, length, NULL, 0);                                                \
        return result;                                                                                                 \
    }
TRUNCATING(ftruncate, off_t)
TRUNCATING(ftruncate64, off64_t)

int unlink(const char *path) {
    const char *name = watched(path);
    int result = REAL(unlink)(path);
    if (name && result == 0) note(UNLINK, name, 0, NULL, 0);
    return result;
}
