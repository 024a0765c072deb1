/* SPDX-License-Identifier: AGPL-3.0-only */
#include "cli/source.h"

#include "base/limits.h"
#include "base/sha256.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECE_BYTES = 64 * 1024 };
static const uint64_t spooled_max_bytes = UINT64_C(4) << 30;

/* Writes len bytes, whatever pieces it takes. */
static int write_all(int fd, const uint8_t *data, size_t len)
{
    while (len > 0) {
        ssize_t written = write(fd, data, len);
        if (written < 0) {
            return -1;
        }
        data += written;
        len -= (size_t)written;
    }
    return 0;
}

static int spool(int from, const char *path, struct cli_source *source, struct chp_error *error)
{
    const char *directory = getenv("TMPDIR");
    int fd = open(directory == NULL ? "/tmp" : directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0) {
        return chp_error_set(error, CHP_EINVAL, "cannot keep a copy of %s: %s", path,
                             strerror(errno));
    }
    uint8_t piece[PIECE_BYTES];
    uint64_t size = 0;
    ssize_t len;
    while ((len = read(from, piece, sizeof piece)) > 0 && size <= spooled_max_bytes) {
        if (write_all(fd, piece, (size_t)len) != 0) {
            len = -1;
            break;
        }
        size += (uint64_t)len;
    }
    if (len < 0 || size > spooled_max_bytes) {
        int saved = errno;
        (void)close(fd);
        return len < 0
                   ? chp_error_set(error, CHP_EINVAL, "cannot read %s: %s", path, strerror(saved))
                   : chp_error_set(error, CHP_ETOOBIG, "%s gives more than 4 GiB", path);
    }
    *source = (struct cli_source){.fd = fd, .size = size};
    return 0;
}

int cli__source_open(const char *path, struct cli_source *source, struct chp_error *error)
{
    bool is_stdin = strcmp(path, "-") == 0;
    int fd = is_stdin ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC);
    struct stat info = {0};
    *source = (struct cli_source){.fd = -1};
    if (fd < 0 || fstat(fd, &info) != 0) {
        int saved = errno;
        if (fd >= 0) {
            (void)close(fd);
        }
        return chp_error_set(error, CHP_EINVAL, "cannot read %s: %s", path, strerror(saved));
    }
    if (S_ISREG(info.st_mode) && !is_stdin) {
        *source = (struct cli_source){.fd = fd, .size = (uint64_t)info.st_size};
        return 0;
    }
    int code = S_ISDIR(info.st_mode) ? chp_error_set(error, CHP_EINVAL, "%s is a directory", path)
                                     : spool(fd, is_stdin ? "standard input" : path, source, error);
    (void)close(fd);
    return code;
}

void cli__source_close(struct cli_source *source)
{
    if (source->fd >= 0) {
        (void)close(source->fd);
        source->fd = -1;
    }
}

/* Calls take with each piece. */
static int each_piece(const struct cli_source *source,
                      void (*take)(void *user, const void *data, size_t len), void *user,
                      struct chp_error *error)
{
    uint8_t piece[PIECE_BYTES];
    uint64_t at = 0;
    while (at < source->size) {
        uint64_t left = source->size - at;
        ssize_t len =
            pread(source->fd, piece, left < sizeof piece ? left : sizeof piece, (off_t)at);
        if (len <= 0) {
            return chp_error_set(error, CHP_EINVAL, "a file became shorter while it was read");
        }
        take(user, piece, (size_t)len);
        at += (uint64_t)len;
    }
    return 0;
}

static void take_into_buf(void *user, const void *data, size_t len)
{
    chp_buf_add(user, data, len);
}

static void take_into_hash(void *user, const void *data, size_t len)
{
    chp_sha256_update(user, data, len);
}

int cli__source_read(const struct cli_source *source, struct chp_buf *out, struct chp_error *error)
{
    return each_piece(source, take_into_buf, out, error);
}

int cli__source_hash(const struct cli_source *source, char *text, struct chp_error *error)
{
    struct chp_sha256_state *state = chp_sha256_new();
    int code = each_piece(source, take_into_hash, state, error);
    struct chp_sha256 sha256 = chp_sha256_finish(state);
    chp_sha256_format(&sha256, text);
    return code;
}

int cli__source_read_matrix(const char *path, const char *name, struct chp_buf *text,
                            struct chp_error *error)
{
    struct cli_source source;
    int code = cli__source_open(path, &source, error);
    if (code == 0 && source.size > CHP_CONFIG_MAX_BYTES) {
        code = chp_error_set(error, CHP_ETOOBIG, "the resolution matrix in %s is over %d KiB", name,
                             CHP_CONFIG_MAX_BYTES / 1024);
    }
    code = code == 0 ? cli__source_read(&source, text, error) : code;
    cli__source_close(&source);
    return code;
}
