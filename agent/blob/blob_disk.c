/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Where blobs lie: <directory>/<first two digits>/<64 digits>, complete and never changed;
 * <directory>/tmp holds what is not complete. A rename makes a blob appear, after its bytes are on
 * disk: a name that is there is a blob that is whole.
 *
 * The final fsync happens on the loop. So that it finds little to do, the kernel is asked to start
 * writing after every mebibyte.
 */
#include "internal.h"

#include "base/log.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES = 4096, FLUSH_BYTES = 1024 * 1024 };

static int disk_error(struct chp_error *error, const char *what)
{
    return chp_error_set(error, CHP_EIO, "%s: %s", what, strerror(errno));
}

/* Which part of a blob's path. */
enum part { PART_FOLDER, PART_FILE };

static int blob_path(const struct chp_blobs *blobs, const struct chp_sha256 *sha256, enum part part,
                     char *path, size_t path_bytes)
{
    char hex[CHP_SHA256_TEXT_BYTES];
    chp_sha256_format(sha256, hex);
    int len = snprintf(path, path_bytes, "%s/%.2s%s%s", blobs->config.directory, hex,
                       part == PART_FILE ? "/" : "", part == PART_FILE ? hex : "");
    return len < 0 || (size_t)len >= path_bytes ? CHP_ETOOBIG : 0;
}

int chp_blob_path(const struct chp_blobs *blobs, const struct chp_sha256 *sha256, char *path,
                  size_t path_bytes)
{
    return blob_path(blobs, sha256, PART_FILE, path, path_bytes);
}

bool chp_blob_have(const struct chp_blobs *blobs, const struct chp_sha256 *sha256, uint64_t *size)
{
    char path[PATH_BYTES];
    struct stat st;
    if (chp_blob_path(blobs, sha256, path, sizeof path) != 0 || stat(path, &st) != 0) {
        return false;
    }
    if (size != NULL) {
        *size = (uint64_t)st.st_size;
    }
    return true;
}

int blob__disk_read(struct chp_blobs *blobs, const struct chp_sha256 *sha256, uint64_t offset,
                    size_t len, uint64_t *size, size_t *got)
{
    char path[PATH_BYTES];
    struct stat st;
    CHP_ASSERT(len <= sizeof blobs->chunk);
    int fd = -1;
    if (chp_blob_path(blobs, sha256, path, sizeof path) == 0) {
        fd = open(path, O_RDONLY | O_CLOEXEC);
    }
    if (fd < 0) {
        return errno == ENOENT ? CHP_ENOTFOUND : CHP_EIO;
    }
    ssize_t count = fstat(fd, &st) == 0 ? pread(fd, blobs->chunk, len, (off_t)offset) : -1;
    (void)close(fd);
    if (count < 0) {
        return CHP_EIO;
    }
    *size = (uint64_t)st.st_size;
    *got = (size_t)count;
    return 0;
}

static int make_directory(const char *path)
{
    return mkdir(path, 0700) == 0 || errno == EEXIST ? 0 : -1;
}

static void clear_directory(const char *path)
{
    DIR *stream = opendir(path);
    struct dirent *entry;
    unsigned removed = 0;
    while (stream != NULL && (entry = readdir(stream)) != NULL) {
        removed += unlinkat(dirfd(stream), entry->d_name, 0) == 0 ? 1 : 0;
    }
    if (stream != NULL) {
        (void)closedir(stream);
    }
    if (removed > 0) {
        chp_log_info("incomplete files removed", CHP_S("directory", path), CHP_I("files", removed));
    }
}

int blob__disk_open(const struct chp_blobs *blobs, struct chp_error *error)
{
    char path[PATH_BYTES];
    int len = snprintf(path, sizeof path, "%s/tmp", blobs->config.directory);
    /* Room for everything that will be appended, checked once. */
    if (len < 0 || (size_t)len + CHP_SHA256_TEXT_BYTES + 8 > sizeof path) {
        return chp_error_set(error, CHP_EINVAL, "the path of the directory for files is too long");
    }
    if (make_directory(blobs->config.directory) != 0 || make_directory(path) != 0 ||
        access(path, W_OK) != 0) {
        return chp_error_set(error, CHP_EIO, "the directory for files %.200s cannot be used: %s",
                             blobs->config.directory, strerror(errno));
    }
    clear_directory(path);
    return 0;
}

int blob__temporary_open(const struct chp_blobs *blobs, struct blob_temporary *temporary,
                         struct chp_error *error)
{
    struct chp_buf path = {0};
    chp_buf_printf(&path, "%s/tmp/XXXXXX", blobs->config.directory);
    *temporary = (struct blob_temporary){.path = chp_buf_take(&path)};
    temporary->fd = mkostemp(temporary->path, O_CLOEXEC);
    if (temporary->fd < 0) {
        int code = disk_error(error, "the file cannot be stored");
        free(temporary->path);
        temporary->path = NULL;
        return code;
    }
    return 0;
}

int blob__temporary_write(struct blob_temporary *temporary, uint64_t offset, const void *data,
                          size_t len, struct chp_error *error)
{
    const uint8_t *from = data;
    CHP_ASSERT(temporary->fd >= 0);
    size_t done = 0;
    while (done < len) {
        ssize_t count = pwrite(temporary->fd, from + done, len - done, (off_t)(offset + done));
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count <= 0) {
            return disk_error(error, "the file cannot be stored");
        }
        done += (size_t)count;
    }
    temporary->written += len;
    if (temporary->written >= FLUSH_BYTES) {
        temporary->written = 0;
        (void)sync_file_range(temporary->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
    }
    return 0;
}

static int sync_directory(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    int result = fsync(fd);
    (void)close(fd);
    return result;
}

int blob__temporary_keep(const struct chp_blobs *blobs, struct blob_temporary *temporary,
                         const struct chp_sha256 *sha256, struct chp_error *error)
{
    char folder[PATH_BYTES];
    char path[PATH_BYTES];
    int code = blob_path(blobs, sha256, PART_FOLDER, folder, sizeof folder);
    if (code == 0) {
        code = blob_path(blobs, sha256, PART_FILE, path, sizeof path);
    }
    CHP_ASSERT(code == 0); /* blob__disk_open saw to it */
    if (fsync(temporary->fd) != 0 || make_directory(folder) != 0 ||
        rename(temporary->path, path) != 0) {
        code = disk_error(error, "the file cannot be stored");
        blob__temporary_drop(temporary);
        return code;
    }
    (void)close(temporary->fd);
    free(temporary->path);
    *temporary = (struct blob_temporary){.fd = -1};
    if (sync_directory(folder) != 0 || sync_directory(blobs->config.directory) != 0) {
        return disk_error(error, "the file's name may not be on disk");
    }
    return 0;
}

void blob__temporary_drop(struct blob_temporary *temporary)
{
    if (temporary->path != NULL) {
        (void)close(temporary->fd);
        (void)unlink(temporary->path);
        free(temporary->path);
    }
    *temporary = (struct blob_temporary){.fd = -1};
}
