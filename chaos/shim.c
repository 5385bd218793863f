// Lets the n-th call that touches the disk below one folder fail. Loaded with LD_PRELOAD, so that it stands between the C
// library and everything above it: Python, SQLite, Rust. It does nothing until chaos_arm is called.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

// Kinds of calls, of which a fault names those that it may strike.
enum { OPEN = 1, WRITE = 2, SYNC = 4, RESIZE = 8, NAME = 16, REMOVE = 32, READ = 64 };
// What happens: an error number, or one of these.
enum { SHORT = -1, KILL = -2, POWER = -3, AHEAD = -4, BACK = -5 };

static char root[PATH_MAX];
static size_t root_length;  // 0: not armed
static int fault, kinds, lasting;
static long first, calls;
static time_t leap;  // by which the clock is wrong, seconds

void chaos_arm(const char *folder, int what, int struck, int on_and_on, long n) {
    strncpy(root, folder, sizeof root - 1);
    fault = what, kinds = struck, lasting = on_and_on, first = n, calls = 0;
    root_length = strlen(root);
}

long chaos_disarm(void) {  // number of calls that the fault could have struck
    root_length = 0, leap = 0;
    return calls;
}

#define REAL(name) ({ static __typeof__(&name) found; if (!found) found = dlsym(RTLD_NEXT, #name); found; })

static int below(const char *path) {
    return !strncmp(path, root, root_length) && (path[root_length] == '/' || !path[root_length]);
}

static int holds(int folder, const char *path) {  // whether the root holds a path, relative to an open folder
    char link[64], base[PATH_MAX];
    ssize_t length;
    if (!root_length || !path) return 0;
    if (*path == '/') return below(path);
    if (folder == AT_FDCWD) return getcwd(base, sizeof base) && below(base);
    snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    if ((length = readlink(link, base, sizeof base - 1)) < 0) return 0;
    base[length] = 0;
    return below(base);
}

// Files whose content has changed since they were synced, with the size that they had then.
static struct { dev_t device; ino_t inode; off_t size; } dirty[4096];
static int dirty_count;

static void note_write(int file) {  // before a write
    struct stat found;
    if (fault != POWER || fstat(file, &found) || !S_ISREG(found.st_mode)) return;
    for (int i = 0; i < dirty_count; i++)
        if (dirty[i].device == found.st_dev && dirty[i].inode == found.st_ino) return;
    if (dirty_count < 4096) {
        dirty[dirty_count].device = found.st_dev, dirty[dirty_count].inode = found.st_ino;
        dirty[dirty_count++].size = found.st_size;
    }
}

static void note_sync(int file) {
    struct stat found;
    if (fault != POWER || fstat(file, &found)) return;
    for (int i = 0; i < dirty_count; i++)
        if (dirty[i].device == found.st_dev && dirty[i].inode == found.st_ino) dirty[i] = dirty[--dirty_count];
}

static int drop(const char *path, const struct stat *found, int type, struct FTW *place) {
    (void)place;
    for (int i = 0; type == FTW_F && i < dirty_count; i++)
        if (dirty[i].device == found->st_dev && dirty[i].inode == found->st_ino && dirty[i].size < found->st_size)
            if (REAL(truncate)(path, dirty[i].size)) return 1;
    return 0;
}

static int struck(int kind) {  // whether the fault strikes this call, which is below the root
    if (!(kind & kinds)) return 0;
    long number = __sync_add_and_fetch(&calls, 1);
    if (number != first && !(lasting && number > first)) return 0;
    if (fault == POWER || fault == KILL) {
        root_length = 0;
        if (fault == POWER) nftw(root, drop, 16, FTW_PHYS);
        raise(SIGKILL);
    }
    if (fault == AHEAD || fault == BACK) {
        leap = (fault == AHEAD ? 1 : -1) * 365 * 86400L;
        return 0;
    }
    errno = fault;
    return 1;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = REAL(clock_gettime)(clock, now);
    if (!result && clock == CLOCK_REALTIME) now->tv_sec += leap;
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    int result = REAL(gettimeofday)(now, zone);
    if (!result) now->tv_sec += leap;
    return result;
}

time_t time(time_t *now) {
    time_t result = REAL(time)(NULL) + leap;
    if (now) *now = result;
    return result;
}

#define PATH_CALL(name, kind, folder, path, declared, passed) \
    int name declared { return holds(folder, path) && struck(kind) ? -1 : REAL(name) passed; }
#define FILE_CALL(name, kind, declared, passed) \
    int name declared { \
        if (holds(file, ".")) { if (struck(kind)) return -1; if (kind == RESIZE) note_write(file); } \
        return REAL(name) passed; }
#define SYNC_CALL(name) \
    int name(int file) { \
        if (!holds(file, ".")) return REAL(name)(file); \
        if (struck(SYNC)) return -1; \
        int result = REAL(name)(file); \
        if (!result) note_sync(file); \
        return result; }
// A short write or read moves half of what it was asked for.
#define DATA_CALL(name, kind, file, size, declared, passed) \
    ssize_t name declared { \
        if (holds(file, ".")) { \
            if (kind == WRITE) note_write(file); \
            if ((fault != SHORT || size > 1) && struck(kind)) { if (fault != SHORT) return -1; size /= 2; } \
        } \
        return REAL(name) passed; }
#define OPEN_CALL(name, folder, declared, ...) \
    int name declared { \
        va_list more; va_start(more, flags); mode_t mode = va_arg(more, mode_t); va_end(more); \
        int kind = flags & (O_CREAT | O_TRUNC | O_WRONLY | O_RDWR) ? OPEN : READ; \
        return holds(folder, path) && struck(kind) ? -1 : REAL(name)(__VA_ARGS__, mode); }

OPEN_CALL(open, AT_FDCWD, (const char *path, int flags, ...), path, flags)
OPEN_CALL(open64, AT_FDCWD, (const char *path, int flags, ...), path, flags)
OPEN_CALL(openat, folder, (int folder, const char *path, int flags, ...), folder, path, flags)
OPEN_CALL(openat64, folder, (int folder, const char *path, int flags, ...), folder, path, flags)

DATA_CALL(write, WRITE, file, size, (int file, const void *data, size_t size), (file, data, size))
DATA_CALL(pwrite, WRITE, file, size, (int file, const void *data, size_t size, off_t at), (file, data, size, at))
DATA_CALL(pwrite64, WRITE, file, size, (int file, const void *data, size_t size, off64_t at), (file, data, size, at))
DATA_CALL(read, READ, file, size, (int file, void *data, size_t size), (file, data, size))
DATA_CALL(pread, READ, file, size, (int file, void *data, size_t size, off_t at), (file, data, size, at))
DATA_CALL(pread64, READ, file, size, (int file, void *data, size_t size, off64_t at), (file, data, size, at))
ssize_t sendfile(int, int, off_t *, size_t);
ssize_t sendfile64(int, int, off64_t *, size_t);
DATA_CALL(sendfile, WRITE, to, size, (int to, int from, off_t *at, size_t size), (to, from, at, size))
DATA_CALL(sendfile64, WRITE, to, size, (int to, int from, off64_t *at, size_t size), (to, from, at, size))

FILE_CALL(ftruncate, RESIZE, (int file, off_t size), (file, size))
FILE_CALL(ftruncate64, RESIZE, (int file, off64_t size), (file, size))
FILE_CALL(fallocate, RESIZE, (int file, int mode, off_t at, off_t size), (file, mode, at, size))
SYNC_CALL(fsync)
SYNC_CALL(fdatasync)

PATH_CALL(rename, NAME, AT_FDCWD, to, (const char *from, const char *to), (from, to))
PATH_CALL(renameat, NAME, other, to, (int folder, const char *from, int other, const char *to), (folder, from, other, to))
PATH_CALL(renameat2, NAME, other, to, (int folder, const char *from, int other, const char *to, unsigned flags),
          (folder, from, other, to, flags))
PATH_CALL(link, NAME, AT_FDCWD, to, (const char *from, const char *to), (from, to))
PATH_CALL(linkat, NAME, other, to, (int folder, const char *from, int other, const char *to, int flags),
          (folder, from, other, to, flags))
PATH_CALL(symlink, NAME, AT_FDCWD, to, (const char *from, const char *to), (from, to))
PATH_CALL(symlinkat, NAME, other, to, (const char *from, int other, const char *to), (from, other, to))
PATH_CALL(mkdir, NAME, AT_FDCWD, path, (const char *path, mode_t mode), (path, mode))
PATH_CALL(mkdirat, NAME, folder, path, (int folder, const char *path, mode_t mode), (folder, path, mode))
PATH_CALL(unlink, REMOVE, AT_FDCWD, path, (const char *path), (path))
PATH_CALL(unlinkat, REMOVE, folder, path, (int folder, const char *path, int flags), (folder, path, flags))
PATH_CALL(rmdir, REMOVE, AT_FDCWD, path, (const char *path), (path))
PATH_CALL(truncate, RESIZE, AT_FDCWD, path, (const char *path, off_t size), (path, size))
