/* SPDX-License-Identifier: AGPL-3.0-only */
/* The token file. Its own file rather than options, so that the configuration can be shown around.
 */
#include "config/internal.h"

#include "base/limits.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TOKEN_FILE_MAX_BYTES = 1024 * 1024 };

struct reader {
    const char *path;
    size_t line;
    struct chp_arena *arena;
    struct chp_config_token *tokens;
    size_t count;
    struct chp_error *error;
};

/* Never with the line's text: even a malformed one may hold a secret. */
static int refuse(const struct reader *reader, const char *sentence)
{
    return chp_error_set(reader->error, CHP_EINVAL, "%s:%zu: %s", reader->path, reader->line,
                         sentence);
}

static bool printable(struct chp_bytes text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] <= ' ' || text.data[i] >= 0x7f) {
            return false;
        }
    }
    return true;
}

static int read_line(struct reader *reader, struct chp_bytes line)
{
    const uint8_t *colon = line.len == 0 ? NULL : memchr(line.data, ':', line.len);
    if (colon == NULL) {
        return refuse(reader, "a line must be principal:token");
    }
    struct chp_bytes principal = chp_bytes(line.data, (size_t)(colon - line.data));
    struct chp_bytes token = chp_bytes(colon + 1, line.len - principal.len - 1);
    if (principal.len == 0 || principal.len > CHP_ID_MAX_BYTES || !printable(principal)) {
        return refuse(reader, "a principal must have 1 to 200 printable ASCII characters and no "
                              "blanks");
    }
    static_assert(CHP_ID_MAX_BYTES == 200, "the sentence above says so");
    if (token.len < CHP_CONFIG_TOKEN_MIN_BYTES || token.len > CHP_CONFIG_TOKEN_MAX_BYTES ||
        !printable(token)) {
        return refuse(reader,
                      "a token must have 16 to 512 printable ASCII characters and no blanks");
    }
    static_assert(CHP_CONFIG_TOKEN_MIN_BYTES == 16 && CHP_CONFIG_TOKEN_MAX_BYTES == 512,
                  "the sentence above says so");
    if (reader->count == CHP_CONFIG_TOKENS_MAX) {
        return refuse(reader, "more than 1024 tokens");
    }
    static_assert(CHP_CONFIG_TOKENS_MAX == 1024, "the sentence above says so");
    for (size_t i = 0; i < reader->count; i++) {
        if (chp_bytes_equal(chp_bytes_of(reader->tokens[i].token), token)) {
            return refuse(reader, "the token of this line stands in an earlier line already");
        }
    }
    reader->tokens[reader->count++] = (struct chp_config_token){
        .principal = chp_arena_strndup(reader->arena, principal.data, principal.len),
        .token = chp_arena_strndup(reader->arena, token.data, token.len),
    };
    return 0;
}

static int read_lines(struct reader *reader, struct chp_bytes text)
{
    struct chp_bytes line;
    int code = 0;
    while (code == 0 && config__next_line(&text, &line)) {
        reader->line++;
        line = config__trim(line);
        if (line.len > 0 && line.data[0] != '#') {
            code = read_line(reader, line);
        }
    }
    return code;
}

static int check_mode(int fd, const char *path, struct chp_error *error)
{
    struct stat status;
    if (fstat(fd, &status) != 0) {
        return chp_error_set(error, CHP_EIO, "%s: %s", path, strerror(errno));
    }
    if ((status.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
        return chp_error_set(error, CHP_EFORBIDDEN,
                             "%s: its mode is %04o, so others can use the tokens; it must be 0600",
                             path, (unsigned)(status.st_mode & 07777));
    }
    return 0;
}

int chp_config_tokens_load(const char *path, struct chp_arena *arena,
                           struct chp_config_token **tokens, size_t *count, struct chp_error *error)
{
    *tokens = NULL;
    *count = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return chp_error_set(error, errno == ENOENT ? CHP_ENOTFOUND : CHP_EIO, "%s: %s", path,
                             strerror(errno));
    }
    struct chp_buf text = {0};
    struct reader reader = {
        .path = path,
        .arena = arena,
        .tokens = chp_arena_calloc(arena, CHP_CONFIG_TOKENS_MAX, sizeof **tokens),
        .error = error,
    };
    int code = check_mode(fd, path, error);
    if (code == 0) {
        code = config__read(fd, path, TOKEN_FILE_MAX_BYTES, &text, error);
    }
    (void)close(fd);
    if (code == 0) {
        code = read_lines(&reader, chp_buf_bytes(&text));
    }
    if (text.cap > 0) {
        explicit_bzero(text.data, text.cap);
    }
    chp_buf_deinit(&text);
    if (code == 0) {
        *tokens = reader.tokens;
        *count = reader.count;
    }
    return code;
}
