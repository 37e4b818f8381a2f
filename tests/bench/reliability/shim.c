/* Makes one system call of a process fail, or all from one on: cc -shared -fPIC -O1 -o shim.so shim.c -ldl

   LAUREL_SHIM names a file that all processes of a command map: which call beneath a folder fails, and how. The calls
   are those that change a disk; they are counted in the order in which they come, and each leaves a letter. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { ONCE = 1, FROM_THEN_ON = 2, SHORT = 3 };
enum { DESCRIPTORS = 4096, LETTERS = 16384, FOLDER = 1024 };
#define ERRNO (*__errno_location())

struct plan {
    int64_t calls, at, how, error, failed;
    char under[FOLDER];
    char letters[LETTERS];
};

static struct plan *plan;
static char ours[DESCRIPTORS]; /* descriptors of files beneath the folder: 1 where they are read, 2 where written */

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

static struct plan *found(void) {
    if (plan) return plan;
    const char *path = getenv("LAUREL_SHIM");
    if (!path) return NULL;
    int (*open_it)(const char *, int, ...) = real("open");
    int (*close_it)(int) = real("close");
    int descriptor = open_it(path, O_RDWR | O_CLOEXEC);
    if (descriptor < 0) return NULL;
    void *mapped = mmap(NULL, sizeof(struct plan), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    close_it(descriptor);
    return mapped == MAP_FAILED ? NULL : (plan = mapped);
}

static int beneath(const char *path) {
    char here[4096];
    if (!path || !found()) return 0;
    size_t length = strlen(plan->under);
    if (path[0] != '/') return getcwd(here, sizeof here) && !strncmp(here, plan->under, length);
    return !strncmp(path, plan->under, length);
}

static int is_ours(int descriptor) {
    return descriptor >= 0 && descriptor < DESCRIPTORS && ours[descriptor] && found();
}

/* Whether this call fails; SHORT where it is to do a part of its work. */
static int fails(char letter) {
    int64_t number = __atomic_add_fetch(&plan->calls, 1, __ATOMIC_SEQ_CST);
    if (number <= LETTERS) plan->letters[number - 1] = letter;
    if (!plan->at || number < plan->at || (plan->how != FROM_THEN_ON && number > plan->at)) return 0;
    if (plan->how == FROM_THEN_ON && strchr("uk", letter)) return 0; /* a full disk lets go of what it has */
    __atomic_add_fetch(&plan->failed, 1, __ATOMIC_SEQ_CST);
    if (plan->how == SHORT) return SHORT;
    ERRNO = (int)plan->error;
    return ONCE;
}

static int opened(int descriptor, int under) {
    if (descriptor >= 0 && descriptor < DESCRIPTORS) ours[descriptor] = (char)under;
    return descriptor;
}

#define WRITES(flags) ((flags) & (O_CREAT | O_WRONLY | O_RDWR))
#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...) {                                                                       \
        va_list more;                                                                                                  \
        va_start(more, flags);                                                                                         \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;                                        \
        va_end(more);                                                                                                  \
        int under = beneath(path);                                                                                     \
        if (under && WRITES(flags) && fails('o')) return -1;                                                           \
        int (*call)(const char *, int, ...) = real(#name);                                                             \
        return opened(call(path, flags, mode), under && WRITES(flags) ? 2 : under);                                    \
    }
#define OPENAT(name)                                                                                                   \
    int name(int folder, const char *path, int flags, ...) {                                                           \
        va_list more;                                                                                                  \
        va_start(more, flags);                                                                                         \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;                                        \
        va_end(more);                                                                                                  \
        int under = (folder == AT_FDCWD || path[0] == '/') && beneath(path);                                           \
        if (under && WRITES(flags) && fails('o')) return -1;                                                           \
        int (*call)(int, const char *, int, ...) = real(#name);                                                        \
        return opened(call(folder, path, flags, mode), under && WRITES(flags) ? 2 : under);                            \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

int close(int descriptor) {
    int (*call)(int) = real("close");
    int written = is_ours(descriptor) && ours[descriptor] == 2;
    if (descriptor >= 0 && descriptor < DESCRIPTORS) ours[descriptor] = 0;
    if (written && fails('k')) {
        call(descriptor);
        ERRNO = (int)plan->error;
        return -1;
    }
    return call(descriptor);
}

ssize_t write(int descriptor, const void *data, size_t size) {
    ssize_t (*call)(int, const void *, size_t) = real("write");
    int how = is_ours(descriptor) ? fails('w') : 0;
    return how == ONCE ? -1 : call(descriptor, data, how == SHORT && size > 1 ? size / 2 : size);
}

ssize_t writev(int descriptor, const struct iovec *data, int number) {
    ssize_t (*call)(int, const struct iovec *, int) = real("writev");
    int how = is_ours(descriptor) ? fails('w') : 0;
    return how == ONCE ? -1 : call(descriptor, data, how == SHORT && number > 1 ? 1 : number);
}

#define PWRITE(name)                                                                                                   \
    ssize_t name(int descriptor, const void *data, size_t size, off_t offset) {                                        \
        ssize_t (*call)(int, const void *, size_t, off_t) = real(#name);                                               \
        int how = is_ours(descriptor) ? fails('w') : 0;                                                                \
        return how == ONCE ? -1 : call(descriptor, data, how == SHORT && size > 1 ? size / 2 : size, offset);          \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

#define OF_DESCRIPTOR(name, letter)                                                                                    \
    int name(int descriptor) {                                                                                         \
        int (*call)(int) = real(#name);                                                                                \
        return is_ours(descriptor) && fails(letter) == ONCE ? -1 : call(descriptor);                                   \
    }
OF_DESCRIPTOR(fsync, 's')
OF_DESCRIPTOR(fdatasync, 's')

#define CUT(name)                                                                                                      \
    int name(int descriptor, off_t size) {                                                                             \
        int (*call)(int, off_t) = real(#name);                                                                         \
        return is_ours(descriptor) && fails('t') == ONCE ? -1 : call(descriptor, size);                                \
    }
CUT(ftruncate)
CUT(ftruncate64)

#define TWO_PATHS(name, letter)                                                                                        \
    int name(const char *old, const char *new) {                                                                       \
        int (*call)(const char *, const char *) = real(#name);                                                         \
        return beneath(new) && fails(letter) == ONCE ? -1 : call(old, new);                                            \
    }
TWO_PATHS(rename, 'r')
TWO_PATHS(link, 'l')

int linkat(int from, const char *old, int to, const char *new, int flags) {
    int (*call)(int, const char *, int, const char *, int) = real("linkat");
    return beneath(new) && fails('l') == ONCE ? -1 : call(from, old, to, new, flags);
}

int renameat(int from, const char *old, int to, const char *new) {
    int (*call)(int, const char *, int, const char *) = real("renameat");
    return beneath(new) && fails('r') == ONCE ? -1 : call(from, old, to, new);
}

int unlink(const char *path) {
    int (*call)(const char *) = real("unlink");
    return beneath(path) && fails('u') == ONCE ? -1 : call(path);
}

int mkdir(const char *path, mode_t mode) {
    int (*call)(const char *, mode_t) = real("mkdir");
    struct stat there;
    int made = stat(path, &there) != 0; /* one that is there already is not written */
    return made && beneath(path) && fails('m') == ONCE ? -1 : call(path, mode);
}

int chmod(const char *path, mode_t mode) {
    int (*call)(const char *, mode_t) = real("chmod");
    return beneath(path) && fails('c') == ONCE ? -1 : call(path, mode);
}

int fchmodat(int folder, const char *path, mode_t mode, int flags) {
    int (*call)(int, const char *, mode_t, int) = real("fchmodat");
    return beneath(path) && fails('c') == ONCE ? -1 : call(folder, path, mode, flags);
}
