/* SPDX-License-Identifier: AGPL-3.0-only */
/* The spool on disk: claim, look, status, forget. */
#include "spool.h"

#include "base/boundary.h"
#include "base/clock.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

char *chp_spool_directory(const char *spool, const struct chp_uuid *operation, uint32_t run)
{
    char id[CHP_UUID_TEXT_BYTES];
    struct chp_buf path = {0};
    chp_uuid_format(operation, id);
    chp_buf_printf(&path, "%s/%s/%u", spool, id, run);
    return chp_buf_take(&path);
}

/* directory + suffix, or -1 with ENAMETOOLONG. */
static int path_join(char path[CHP_SPOOL_PATH_BYTES], const char *directory, const char *suffix)
{
    int len = snprintf(path, CHP_SPOOL_PATH_BYTES, "%s%s", directory, suffix);
    if (len < 0 || len >= CHP_SPOOL_PATH_BYTES) {
        errno = ENAMETOOLONG;
        return -1;
    }
    return 0;
}

static int parent_of(char path[CHP_SPOOL_PATH_BYTES], const char *directory)
{
    if (path_join(path, directory, "") != 0) {
        return -1;
    }
    char *slash = strrchr(path, '/');
    if (slash == NULL || slash == path) {
        errno = EINVAL;
        return -1;
    }
    *slash = 0;
    return 0;
}

enum { CLAIM_TRIES = 100 };

static const char agent_name[] = "/agent"; /* in the spool, of its lock */

/* The holder of the lock at path with ".lock"; 0 when nobody holds it. */
static pid_t lock_holder(const char *of)
{
    char path[CHP_SPOOL_PATH_BYTES];
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (path_join(path, of, ".lock") != 0) {
        return 0;
    }
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        return 0;
    }
    bool held = fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
    (void)close(fd);
    return held ? lock.l_pid : 0;
}

enum chp_spool_found chp_spool_look(const char *directory, pid_t *runner)
{
    char path[CHP_SPOOL_PATH_BYTES];
    struct stat st;
    /* In this order: a runner writes its status before it lets go of the lock. */
    *runner = lock_holder(directory);
    if (*runner > 0) {
        return CHP_SPOOL_ALIVE;
    }
    if (path_join(path, directory, "/status") == 0 && stat(path, &st) == 0) {
        return CHP_SPOOL_ENDED;
    }
    return stat(directory, &st) == 0 ? CHP_SPOOL_DOUBT : CHP_SPOOL_NOTHING;
}

static int sync_path(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_DIRECTORY);
    if (fd < 0) {
        return -1;
    }
    int result = fsync(fd);
    int saved = errno;
    (void)close(fd);
    errno = saved;
    return result;
}

/* Whether the file at path is the one that is open as fd. */
static bool same_file(const char *path, int fd)
{
    struct stat there;
    struct stat here;
    return lstat(path, &there) == 0 && fstat(fd, &here) == 0 && there.st_dev == here.st_dev &&
           there.st_ino == here.st_ino;
}

/* A descriptor, or -1 with errno: EAGAIN or EACCES when somebody else has it; ENOENT also when it
 * was removed on the way. */
static int take_lock(const char *of)
{
    char path[CHP_SPOOL_PATH_BYTES];
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (path_join(path, of, ".lock") != 0) {
        return -1;
    }
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return -1;
    }
    if (fcntl(fd, F_SETLK, &lock) == 0) {
        if (same_file(path, fd)) {
            return fd;
        }
        errno = ENOENT; /* nobody who asks for the holder would see this lock */
    }
    int saved = errno;
    (void)close(fd);
    errno = saved;
    return -1;
}

int chp_spool_take(const char *spool, int *lock, pid_t *holder)
{
    char agent[CHP_SPOOL_PATH_BYTES];
    if (path_join(agent, spool, agent_name) != 0) {
        return CHP_EIO;
    }
    *lock = take_lock(agent);
    if (*lock >= 0) {
        return 0;
    }
    if (errno != EAGAIN && errno != EACCES) {
        return CHP_EIO;
    }
    *holder = lock_holder(agent);
    return CHP_ECONFLICT;
}

/* The operation's directory and the lock in it. The agent removes a directory that is empty, also
 * between the two. */
static int take_run(const char *operation, const char *directory, mode_t mode)
{
    int lock = -1;
    for (int i = 0; i < CLAIM_TRIES; i++) {
        if (mkdir(operation, mode) != 0 && errno != EEXIST) {
            return -1;
        }
        chp_boundary("runner.prepared");
        lock = take_lock(directory);
        if (lock >= 0 || errno != ENOENT) {
            return lock;
        }
    }
    return lock;
}

/* Takes the claim back, with the lock that this process has; errno stays. */
static void unclaim(const char *operation, const char *directory)
{
    char path[CHP_SPOOL_PATH_BYTES];
    int saved = errno;
    (void)rmdir(directory);
    if (path_join(path, directory, ".lock") == 0) {
        (void)unlink(path);
    }
    (void)rmdir(operation);
    errno = saved;
}

int chp_spool_claim(const char *directory, mode_t mode, bool durable, pid_t agent, int *lock)
{
    char operation[CHP_SPOOL_PATH_BYTES];
    char spool[CHP_SPOOL_PATH_BYTES];
    char holder[CHP_SPOOL_PATH_BYTES];
    if (parent_of(operation, directory) != 0 || parent_of(spool, operation) != 0 ||
        path_join(holder, spool, agent_name) != 0) {
        return CHP_EIO;
    }
    *lock = -1;
    if (agent != 0 && lock_holder(holder) != agent) {
        return CHP_ECONFLICT; /* without a trace */
    }
    *lock = take_run(operation, directory, mode);
    if (*lock < 0) {
        return errno == EAGAIN || errno == EACCES ? CHP_ECONFLICT : CHP_EIO;
    }
    chp_boundary("runner.locked");
    if (mkdir(directory, mode) != 0) {
        return errno == EEXIST ? CHP_ECONFLICT : CHP_EIO;
    }
    if (agent != 0 && lock_holder(holder) != agent) {
        unclaim(operation, directory);
        return CHP_ECONFLICT;
    }
    chp_boundary("runner.claimed");
    /* Without this a crash of the machine could undo the claim but not what the command did. */
    if (durable && (sync_path(operation) != 0 || sync_path(spool) != 0)) {
        unclaim(operation, directory);
        return CHP_EIO;
    }
    return 0;
}

static int write_all(int fd, const uint8_t *data, size_t len)
{
    while (len > 0) {
        ssize_t written = write(fd, data, len);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            return -1;
        }
        data += written;
        len -= (size_t)written;
    }
    return 0;
}

int chp_spool_status_write(const char *directory, const struct chp_spool_status *status,
                           bool durable)
{
    char temporary[CHP_SPOOL_PATH_BYTES];
    char path[CHP_SPOOL_PATH_BYTES];
    struct chp_buf bytes = {0};
    int code = CHP_EIO;
    if (path_join(temporary, directory, "/status.tmp") != 0 ||
        path_join(path, directory, "/status") != 0) {
        return CHP_EIO;
    }
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return CHP_EIO;
    }
    chp_spool_status_encode(status, &bytes);
    if (write_all(fd, bytes.data, bytes.len) == 0 && (!durable || fsync(fd) == 0)) {
        chp_boundary("runner.written");
        if (rename(temporary, path) == 0) {
            chp_boundary("runner.renamed");
            code = !durable || sync_path(directory) == 0 ? 0 : CHP_EIO;
        }
    }
    int saved = errno;
    (void)close(fd);
    chp_buf_deinit(&bytes);
    errno = saved;
    return code;
}

int chp_spool_status_read(const char *directory, struct chp_arena *arena,
                          struct chp_spool_status *status, struct chp_error *error)
{
    char path[CHP_SPOOL_PATH_BYTES];
    int fd = -1;
    if (path_join(path, directory, "/status") == 0) {
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    }
    if (fd < 0) {
        return chp_error_set(error, CHP_EIO, "cannot open the status: %s", strerror(errno));
    }
    /* One byte more than allowed, so that a status that is too big is seen. */
    size_t cap = CHP_SPOOL_STATUS_MAX_BYTES + 1;
    uint8_t *data = chp_alloc(cap);
    size_t len = 0;
    ssize_t got = 0;
    while (len < cap && (got = read(fd, data + len, cap - len)) > 0) {
        len += (size_t)got;
    }
    int code = got < 0
                   ? chp_error_set(error, CHP_EIO, "cannot read the status: %s", strerror(errno))
                   : chp_spool_status_decode(chp_bytes(data, len), arena, status, error);
    free(data);
    (void)close(fd);
    return code;
}

/*
 * Removing a tree that a command left behind: any depth, any modes, links to anywhere. A walk would
 * need a descriptor or a stack frame per level; instead directories found below a subdirectory are
 * moved up to the top, so that the walk is never deeper than two.
 */

static int open_directory(int parent, const char *name)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == EACCES && fchmodat(parent, name, 0700, 0) == 0) {
        fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    }
    return fd;
}

static bool dot_name(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* Removes name from parent when it is not a directory; true when it is one. */
static bool unlink_unless_directory(int parent, const char *name)
{
    return unlinkat(parent, name, 0) != 0 && (errno == EISDIR || errno == EPERM);
}

/* Empties directory name of top: files go, directories move up under new names, counted from a
 * random number so that nothing can lie in their way. True when something moved. */
static bool flatten(int top, const char *name, uint64_t *number)
{
    bool moved = false;
    int fd = open_directory(top, name);
    DIR *stream = fd < 0 ? NULL : fdopendir(fd);
    if (stream == NULL) {
        if (fd >= 0) {
            (void)close(fd);
        }
        return false;
    }
    (void)fchmod(fd, 0700); /* to take entries out */
    struct dirent *entry;
    while ((entry = readdir(stream)) != NULL) {
        if (!dot_name(entry->d_name) && unlink_unless_directory(fd, entry->d_name)) {
            char target[40];
            (void)snprintf(target, sizeof target, "moved.%llu", (unsigned long long)++*number);
            int child = open_directory(fd, entry->d_name);
            if (child >= 0) {
                (void)fchmod(child, 0700); /* moving a directory writes its ".." */
                (void)close(child);
            }
            moved = renameat(fd, entry->d_name, top, target) == 0 || moved;
        }
    }
    (void)closedir(stream);
    return moved;
}

void chp_spool_remove_tree(const char *directory)
{
    int top = open_directory(AT_FDCWD, directory);
    DIR *stream = top < 0 ? NULL : fdopendir(top);
    if (stream == NULL) {
        if (top >= 0) {
            (void)close(top);
        }
        return;
    }
    (void)fchmod(top, 0700);
    uint64_t number = 0;
    chp_random(&number, sizeof number);
    bool again = true;
    while (again) {
        /* A pass that neither removed nor moved anything would not do better next time. */
        again = false;
        rewinddir(stream);
        struct dirent *entry;
        while ((entry = readdir(stream)) != NULL) {
            if (dot_name(entry->d_name) || !unlink_unless_directory(top, entry->d_name)) {
                continue;
            }
            again = flatten(top, entry->d_name, &number) || again;
            again = unlinkat(top, entry->d_name, AT_REMOVEDIR) == 0 || again;
        }
    }
    (void)closedir(stream);
    (void)rmdir(directory);
}

void chp_spool_forget(const char *directory)
{
    char path[CHP_SPOOL_PATH_BYTES];
    if (lock_holder(directory) > 0) {
        return;
    }
    chp_spool_remove_tree(directory);
    chp_boundary("agent.removed");
    if (path_join(path, directory, ".lock") == 0) {
        (void)unlink(path);
    }
    chp_boundary("agent.unlocked");
    if (parent_of(path, directory) == 0) {
        (void)rmdir(path); /* stays while another run of the operation is there */
    }
}

void chp_spool_rewind(struct chp_spool_cursor *cursor)
{
    if (cursor->operation != NULL) {
        (void)closedir(cursor->operation);
    }
    if (cursor->spool != NULL) {
        (void)closedir(cursor->spool);
    }
    *cursor = (struct chp_spool_cursor){0};
}

/* The next directory that has an operation's id as its name; one that is empty goes. */
static bool next_operation(struct chp_spool_cursor *cursor)
{
    struct dirent *entry;
    while ((entry = readdir(cursor->spool)) != NULL) {
        int top = dirfd(cursor->spool);
        if (chp_uuid_parse(entry->d_name, &cursor->id) != 0 ||
            unlinkat(top, entry->d_name, AT_REMOVEDIR) == 0) {
            continue;
        }
        int fd = openat(top, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        cursor->operation = fd < 0 ? NULL : fdopendir(fd);
        if (cursor->operation != NULL) {
            return true;
        }
        if (fd >= 0) {
            (void)close(fd);
        }
    }
    return false;
}

/* "7" and "7.lock" are of run 7. */
static bool run_of(const char *name, uint32_t *run)
{
    char *end = NULL;
    unsigned long number = strtoul(name, &end, 10);
    *run = (uint32_t)number;
    return name[0] >= '0' && name[0] <= '9' && number <= UINT32_MAX &&
           (*end == 0 || strcmp(end, ".lock") == 0);
}

bool chp_spool_next(struct chp_spool_cursor *cursor, const char *spool, struct chp_uuid *operation,
                    uint32_t *run)
{
    if (cursor->spool == NULL) {
        cursor->spool = opendir(spool);
    }
    while (cursor->spool != NULL && (cursor->operation != NULL || next_operation(cursor))) {
        struct dirent *entry;
        while ((entry = readdir(cursor->operation)) != NULL) {
            if (run_of(entry->d_name, run)) {
                *operation = cursor->id;
                return true;
            }
        }
        (void)closedir(cursor->operation);
        cursor->operation = NULL;
    }
    chp_spool_rewind(cursor);
    return false;
}
