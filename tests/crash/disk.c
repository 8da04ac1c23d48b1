/* A disk that remembers what is written to it, and fails when it is told to: preloaded into a process (LD_PRELOAD).

   It watches the files below the folder DISK_ROOT. What happens to them is appended to the file DISK_RECORDING, in the
   order in which it happens; disk.py says what a record looks like. The file DISK_FAULTS has the struct below, which
   others may change at any time. Both are optional. What is written through a mapping is not seen. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* What may fail: writes, syncs, writes to the first two pages of a file, with which LMDB ends a commit, and writes to a
   redo log. */
enum { WRITES = 1, SYNCS = 2, LAST_WRITES = 4, LOG_WRITES = 8 };
enum { FIRST_PAGES = 2 * 4096 };

struct faults {
    int32_t what;    /* which calls fail */
    int32_t error;   /* how */
    int32_t count;   /* so many of them */
    int32_t applied; /* whether the first happens all the same */
};

static char root[PATH_MAX];
static int recording = -1;
static struct faults *faults;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name)                                                 \
    ({                                                             \
        static __typeof__(&name) real;                             \
        if (!real) real = (__typeof__(real))dlsym(RTLD_NEXT, #name); \
        real;                                                      \
    })

__attribute__((constructor)) static void begin(void)
{
    const char *folder = getenv("DISK_ROOT"), *record = getenv("DISK_RECORDING"), *fail = getenv("DISK_FAULTS");
    if (record) recording = REAL(open)(record, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fail) {
        int file = REAL(open)(fail, O_RDWR | O_CLOEXEC);
        void *mapped = mmap(NULL, sizeof *faults, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        faults = mapped == MAP_FAILED ? NULL : mapped;
    }
    if (folder) snprintf(root, sizeof root, "%s", folder);
}

static int is_watched(const char *path)
{
    size_t size = strlen(root);
    return size && !strncmp(path, root, size) && (path[size] == '/' || !path[size]);
}

static int is_log(const char *path)
{
    const char *name = strrchr(path, '/');
    return name && !strcmp(name, "/redo.log");
}

/* Where a file is, if it is watched. */
static int path_of(int file, char *path)
{
    char link[64];
    if (!*root) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t size = readlink(link, path, PATH_MAX - 1);
    if (size < 0) return 0;
    path[size] = 0;
    return is_watched(path);
}

/* What a path means, if it is watched. */
static int resolve(int folder, const char *path, char *found)
{
    if (!*root || !path) return 0;
    if (*path == '/') {
        snprintf(found, PATH_MAX, "%s", path);
    } else if (folder == AT_FDCWD) {
        if (!getcwd(found, PATH_MAX)) return 0;
        snprintf(found + strlen(found), PATH_MAX - strlen(found), "/%s", path);
    } else {
        if (!path_of(folder, found)) return 0;
        snprintf(found + strlen(found), PATH_MAX - strlen(found), "/%s", path);
    }
    return is_watched(found);
}

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void record(char kind, uint64_t at, const char *path, uint64_t offset, const struct iovec *parts, int count)
{
    struct __attribute__((packed)) {
        char kind;
        uint64_t at, offset;
        uint32_t path, data;
    } head = { kind, at, offset, strlen(path), 0 };
    if (recording < 0) return;
    struct iovec all[count + 2];
    all[0] = (struct iovec){ &head, sizeof head };
    all[1] = (struct iovec){ (void *)path, head.path };
    for (int part = 0; part < count; part++) {
        all[part + 2] = parts[part];
        head.data += parts[part].iov_len;
    }
    if (REAL(writev)(recording, all, count + 2) < 0) abort();
}

/* The error that a call has to fail with, or 0; APPLIED says whether it happens. */
static int fault(int what, int *applied)
{
    *applied = 1;
    if (!faults || !(faults->what & what) || faults->count <= 0) return 0;
    *applied = faults->applied;
    faults->applied = 0;
    faults->count--;
    return faults->error;
}

/* Do CALL, which succeeds if RESULT is as WANTED, and record it as KIND, while nobody else changes anything; or let it
   fail if it is one of WHAT has to fail. */
#define PERFORM(what, call, wanted, kind, path, offset, parts, count)                      \
    pthread_mutex_lock(&lock);                                                              \
    uint64_t at = now();                                                                    \
    int happens, failure = fault(what, &happens);                                           \
    __typeof__(call) result = happens ? call : -1;                                          \
    int error = errno;                                                                      \
    if (happens && (wanted)) record(kind, at, path, offset, parts, count);                  \
    pthread_mutex_unlock(&lock);                                                            \
    errno = failure ? failure : error;                                                      \
    return failure ? -1 : result

/* What is written to an open file, at an offset. */
#define WRITE(call, where, buffers, number)                                                 \
    char path[PATH_MAX];                                                                    \
    if (!path_of(file, path)) return call;                                                  \
    char kind = fcntl(file, F_GETFL) & O_DSYNC ? 'D' : 'W';                                 \
    uint64_t begin = where;                                                                 \
    int what = is_log(path) ? LOG_WRITES : begin < FIRST_PAGES ? LAST_WRITES : WRITES;      \
    PERFORM(what, call, result >= 0, kind, path, begin, buffers, number)

ssize_t write(int file, const void *data, size_t size)
{
    struct iovec part = { (void *)data, size };
    WRITE(REAL(write)(file, data, size), lseek(file, 0, SEEK_CUR), &part, 1);
}

ssize_t writev(int file, const struct iovec *parts, int count)
{
    WRITE(REAL(writev)(file, parts, count), lseek(file, 0, SEEK_CUR), parts, count);
}

ssize_t pwrite(int file, const void *data, size_t size, off_t where)
{
    struct iovec part = { (void *)data, size };
    WRITE(REAL(pwrite)(file, data, size, where), where, &part, 1);
}

ssize_t pwritev(int file, const struct iovec *parts, int count, off_t where)
{
    WRITE(REAL(pwritev)(file, parts, count, where), where, parts, count);
}

/* What is done to an open file as a whole. */
#define CHANGE(what, call, kind, size)                                                      \
    char path[PATH_MAX];                                                                    \
    if (!path_of(file, path)) return call;                                                  \
    PERFORM(what, call, result == 0, kind, path, size, NULL, 0)

int fsync(int file) { CHANGE(SYNCS, REAL(fsync)(file), 'S', 0); }
int fdatasync(int file) { CHANGE(SYNCS, REAL(fdatasync)(file), 'S', 0); }
int ftruncate(int file, off_t size) { CHANGE(WRITES, REAL(ftruncate)(file, size), 'T', size); }

int posix_fallocate(int file, off_t begin, off_t size)
{
    CHANGE(0, REAL(posix_fallocate)(file, begin, size), 'A', begin + size);
}

/* What is done to a name. */
#define NAME(folder, name, call, wanted, kind)                                              \
    char path[PATH_MAX];                                                                    \
    if (!resolve(folder, name, path)) return call;                                          \
    PERFORM(0, call, wanted, kind, path, 0, NULL, 0)

#define OPEN(folder, name, call)                                                            \
    va_list rest;                                                                           \
    va_start(rest, flags);                                                                  \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;                 \
    va_end(rest);                                                                           \
    if (!(flags & O_CREAT) || !faccessat(folder, name, F_OK, 0)) return call;               \
    NAME(folder, name, call, result >= 0, 'C')

int open(const char *name, int flags, ...) { OPEN(AT_FDCWD, name, REAL(open)(name, flags, mode)); }

int openat(int folder, const char *name, int flags, ...)
{
    OPEN(folder, name, REAL(openat)(folder, name, flags, mode));
}

int mkdir(const char *name, mode_t mode) { NAME(AT_FDCWD, name, REAL(mkdir)(name, mode), !result, 'M'); }
int unlink(const char *name) { NAME(AT_FDCWD, name, REAL(unlink)(name), !result, 'U'); }
int rmdir(const char *name) { NAME(AT_FDCWD, name, REAL(rmdir)(name), !result, 'U'); }

int unlinkat(int folder, const char *name, int flags)
{
    NAME(folder, name, REAL(unlinkat)(folder, name, flags), !result, 'U');
}

int rename(const char *name, const char *other)
{
    char to[PATH_MAX], path[PATH_MAX];
    if (!resolve(AT_FDCWD, name, path) || !resolve(AT_FDCWD, other, to)) return REAL(rename)(name, other);
    struct iovec part = { to, strlen(to) };
    PERFORM(0, REAL(rename)(name, other), !result, 'R', path, 0, &part, 1);
}

/* The same with the names that they have for large files where off_t has 64 bits anyhow. */
#define ALSO(type, name, ...) type name##64(__VA_ARGS__) __attribute__((alias(#name)))
ALSO(ssize_t, pwrite, int, const void *, size_t, off64_t);
ALSO(ssize_t, pwritev, int, const struct iovec *, int, off64_t);
ALSO(int, ftruncate, int, off64_t);
ALSO(int, posix_fallocate, int, off64_t, off64_t);
ALSO(int, open, const char *, int, ...);
ALSO(int, openat, int, const char *, int, ...);
