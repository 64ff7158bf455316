// A disk that takes its time: preloaded into a broker by benches/slow-disk. Each kind of call waits as many milliseconds
// as the file of that name in $SLOW_DIR says, while such a file is there: sync, open, read, rename, unlink, truncate, mkdir.
// Only files below $SLOW_BELOW are slow to open, rename and remove. While reads are slow nothing is in memory: a read that
// must not wait would have to, and no page is resident. Calls that go past the C library (pwritev) are as they are.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define NEXT(name) static __typeof__(&name) next; if (!next) next = dlsym(RTLD_NEXT, #name)

static int (*open_as_it_is)(const char *, int, ...);

static long delay(const char *kind) {
    const char *dir = getenv("SLOW_DIR");
    char text[512];
    if (!dir) return 0;
    snprintf(text, sizeof text, "%s/%s", dir, kind);
    if (!open_as_it_is) open_as_it_is = dlsym(RTLD_NEXT, "open64");
    int file = open_as_it_is(text, O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    static ssize_t (*read_as_it_is)(int, void *, size_t);
    if (!read_as_it_is) read_as_it_is = dlsym(RTLD_NEXT, "read");
    ssize_t got = read_as_it_is(file, text, sizeof text - 1);
    close(file);
    text[got > 0 ? got : 0] = 0;
    return atol(text);
}

static void slow(const char *kind) {
    long ms = delay(kind);
    struct timespec time = {ms / 1000, ms % 1000 * 1000000L};
    if (ms > 0) nanosleep(&time, 0);
}

static int below(const char *path) {
    const char *dir = getenv("SLOW_BELOW");
    return dir && path && !strncmp(path, dir, strlen(dir));
}

int fdatasync(int file) { NEXT(fdatasync); slow("sync"); return next(file); }
int fsync(int file) { NEXT(fsync); slow("sync"); return next(file); }
ssize_t pread64(int file, void *to, size_t most, off64_t at) { NEXT(pread64); slow("read"); return next(file, to, most, at); }
ssize_t preadv64v2(int file, const struct iovec *to, int parts, off64_t at, int flags) {
    NEXT(preadv64v2);
    if (flags & RWF_NOWAIT && delay("read") > 0) { errno = EAGAIN; return -1; }
    if (!(flags & RWF_NOWAIT)) slow("read");
    return next(file, to, parts, at, flags);
}
int mincore(void *from, size_t bytes, unsigned char *pages) {
    NEXT(mincore);
    int known = next(from, bytes, pages);
    if (!known && delay("read") > 0) memset(pages, 0, (bytes + 4095) / 4096);
    return known;
}
int ftruncate64(int file, off64_t bytes) { NEXT(ftruncate64); slow("truncate"); return next(file, bytes); }
int mkdir(const char *path, mode_t mode) { NEXT(mkdir); if (below(path)) slow("mkdir"); return next(path, mode); }
int rename(const char *from, const char *to) { NEXT(rename); if (below(from)) slow("rename"); return next(from, to); }
int unlink(const char *path) { NEXT(unlink); if (below(path)) slow("unlink"); return next(path); }
int unlinkat(int dir, const char *path, int flags) { NEXT(unlinkat); slow("unlink"); return next(dir, path, flags); }

int open64(const char *path, int flags, ...) {
    if (!open_as_it_is) open_as_it_is = dlsym(RTLD_NEXT, "open64");
    va_list rest;
    va_start(rest, flags);
    mode_t mode = va_arg(rest, mode_t);
    va_end(rest);
    if (below(path)) slow("open");
    return open_as_it_is(path, flags, mode);
}
