/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * The token of an agent is as good as a shell on its site: a file that others can read is refused
 * rather than warned about, and no message shows a URL with its user information.
 */
#include "cli/endpoint.h"

#include <ctype.h>
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char default_url[] = "http://127.0.0.1:8440";
enum { FILE_MAX_BYTES = 64 * 1024, SITES_MAX = 1024 };

char *cli__endpoint_variable(const char *site, struct chp_arena *arena)
{
    char *name = chp_arena_printf(arena, "CHEOPS_API_%s", site);
    for (char *c = name; *c != 0; c++) {
        *c = (char)(isalnum((unsigned char)*c) ? toupper((unsigned char)*c) : '_');
    }
    return name;
}

static const char *environment(const char *name)
{
    const char *value = getenv(name);
    return value == NULL || value[0] == 0 ? NULL : value;
}

/* ~/.config/cheops/<name>; NULL without a home. */
static const char *config_path(const char *name, struct chp_arena *arena)
{
    const char *config = environment("XDG_CONFIG_HOME");
    if (config != NULL) {
        return chp_arena_printf(arena, "%s/cheops/%s", config, name);
    }
    const char *home = environment("HOME");
    return home == NULL ? NULL : chp_arena_printf(arena, "%s/.config/cheops/%s", home, name);
}

/* Whole file; *mode its permissions. CHP_ENOTFOUND when it does not exist. */
static int read_file(const char *path, struct chp_arena *arena, char **text, mode_t *mode,
                     struct chp_error *error)
{
    char *data = chp_arena_alloc(arena, FILE_MAX_BYTES + 1);
    *text = data;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return chp_error_set(error, errno == ENOENT ? CHP_ENOTFOUND : CHP_EINVAL,
                             "cannot read %s: %s", path, strerror(errno));
    }
    struct stat info = {0};
    ssize_t len = fstat(fd, &info) == 0 ? read(fd, data, FILE_MAX_BYTES) : -1;
    int saved = errno;
    (void)close(fd);
    if (len < 0) {
        return chp_error_set(error, CHP_EINVAL, "cannot read %s: %s", path, strerror(saved));
    }
    *mode = info.st_mode;
    return 0;
}

static int refuse_open_file(const char *path, mode_t mode, struct chp_error *error)
{
    return (mode & 077) == 0
               ? 0
               : chp_error_set(
                     error, CHP_EINVAL,
                     "%s holds a token and others may read it (mode %03o); run: chmod 600 %s", path,
                     (unsigned)(mode & 0777), path);
}

/* The next line that is not empty and no comment, trimmed and terminated; NULL at the end. */
static char *next_line(char **cursor)
{
    while (**cursor != 0) {
        char *line = *cursor;
        size_t len = strcspn(line, "\n");
        *cursor = line[len] == 0 ? line + len : line + len + 1;
        line[len] = 0;
        while (len > 0 && isspace((unsigned char)line[len - 1])) {
            line[--len] = 0;
        }
        line += strspn(line, " \t");
        if (line[0] != 0 && line[0] != '#') {
            return line;
        }
    }
    return NULL;
}

/* Splits "NAME URL" in place. */
static char *split_url(char *line)
{
    char *space = line + strcspn(line, " \t");
    char *url = space + strspn(space, " \t");
    *space = 0;
    return url;
}

static int site_url(const char *site, struct chp_arena *arena, const char **url,
                    struct chp_error *error)
{
    const char *variable = cli__endpoint_variable(site, arena);
    *url = environment(variable);
    if (*url != NULL) {
        return 0;
    }
    const char *path = config_path("sites", arena);
    char *text = NULL;
    mode_t mode = 0;
    int code = path == NULL ? CHP_ENOTFOUND : read_file(path, arena, &text, &mode, error);
    if (code != 0 && code != CHP_ENOTFOUND) {
        return code;
    }
    for (char *line = NULL; code == 0 && (line = next_line(&text)) != NULL;) {
        char *value = split_url(line);
        if (strcmp(line, site) == 0) {
            *url = value;
            return strchr(value, '@') == NULL ? 0 : refuse_open_file(path, mode, error);
        }
    }
    return chp_error_set(
        error, CHP_ENOTFOUND,
        "no agent is known for the site %s: set %s, or write a line '%s URL' in %s", site, variable,
        site, path == NULL ? "~/.config/cheops/sites" : path);
}

const char **cli__endpoint_sites(struct chp_arena *arena, size_t *count)
{
    const char **names = chp_arena_calloc(arena, SITES_MAX, sizeof *names);
    const char *path = config_path("sites", arena);
    char *text = NULL;
    mode_t mode = 0;
    *count = 0;
    if (path == NULL || read_file(path, arena, &text, &mode, NULL) != 0) {
        return names;
    }
    for (char *line = NULL; *count < SITES_MAX && (line = next_line(&text)) != NULL;) {
        (void)split_url(line);
        names[(*count)++] = line;
    }
    return names;
}

static char *url_part(CURLU *parsed, CURLUPart part, unsigned flags, struct chp_arena *arena)
{
    char *text = NULL;
    if (curl_url_get(parsed, part, &text, flags) != CURLUE_OK) {
        return NULL;
    }
    char *copy = chp_arena_strdup(arena, text);
    curl_free(text);
    return copy;
}

static int parse_http(const char *url, struct chp_arena *arena, struct cli_endpoint *endpoint,
                      struct chp_error *error)
{
    CURLU *parsed = curl_url();
    CHP_ASSERT(parsed != NULL);
    CURLUcode code = curl_url_set(parsed, CURLUPART_URL, url, 0);
    const char *scheme = code == CURLUE_OK ? url_part(parsed, CURLUPART_SCHEME, 0, arena) : NULL;
    if (scheme == NULL || (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0)) {
        curl_url_cleanup(parsed);
        return chp_error_set(
            error, CHP_EINVAL,
            "the agent's URL must be http://[user:token@]host:port or unix:/path; this one is not");
    }
    const char *user = url_part(parsed, CURLUPART_USER, CURLU_URLDECODE, arena);
    const char *password = url_part(parsed, CURLUPART_PASSWORD, CURLU_URLDECODE, arena);
    endpoint->token = password != NULL && password[0] != 0 ? password : user;
    CURLUPart secret[] = {CURLUPART_USER, CURLUPART_PASSWORD, CURLUPART_QUERY, CURLUPART_FRAGMENT};
    for (size_t i = 0; i < sizeof secret / sizeof secret[0]; i++) {
        (void)curl_url_set(parsed, secret[i], NULL, 0);
    }
    char *bare = url_part(parsed, CURLUPART_URL, 0, arena);
    curl_url_cleanup(parsed);
    CHP_ASSERT(bare != NULL);
    size_t len = strlen(bare);
    while (len > 0 && bare[len - 1] == '/') {
        bare[--len] = 0;
    }
    endpoint->url = endpoint->shown = bare;
    return 0;
}

static int parse_url(const char *url, struct chp_arena *arena, struct cli_endpoint *endpoint,
                     struct chp_error *error)
{
    if (strncmp(url, "unix:", 5) != 0) {
        return parse_http(url, arena, endpoint, error);
    }
    const char *path = url + 5;
    if (strncmp(path, "//", 2) == 0) {
        path += 2;
    }
    if (path[0] != '/') {
        return chp_error_set(error, CHP_EINVAL,
                             "a unix socket is written unix:/path/of/the.sock, not '%.200s'", url);
    }
    endpoint->url = "http://localhost";
    endpoint->socket = chp_arena_strdup(arena, path);
    endpoint->shown = chp_arena_printf(arena, "unix:%s", path);
    return 0;
}

/* The first line of a token file: "token", or "principal:token" as in the agent's own. */
static int token_of_file(const char *path, bool must_exist, struct chp_arena *arena,
                         const char **token, struct chp_error *error)
{
    char *text = NULL;
    mode_t mode = 0;
    int code = read_file(path, arena, &text, &mode, error);
    if (code == CHP_ENOTFOUND && !must_exist) {
        return 0;
    }
    if (code != 0) {
        return CHP_EINVAL;
    }
    code = refuse_open_file(path, mode, error);
    if (code != 0) {
        return code;
    }
    const char *line = next_line(&text);
    const char *colon = line == NULL ? NULL : strchr(line, ':');
    *token = colon == NULL ? line : colon + 1;
    return line != NULL ? 0 : chp_error_set(error, CHP_EINVAL, "%s has no token in it", path);
}

static int find_token(struct chp_arena *arena, struct cli_endpoint *endpoint,
                      struct chp_error *error)
{
    int code = 0;
    if (endpoint->token == NULL) {
        endpoint->token = environment("CHEOPS_TOKEN");
    }
    if (endpoint->token == NULL) {
        const char *path = environment("CHEOPS_TOKEN_FILE");
        bool must_exist = path != NULL;
        path = must_exist ? path : config_path("token", arena);
        code = path == NULL ? 0 : token_of_file(path, must_exist, arena, &endpoint->token, error);
    }
    /* It becomes part of a header. */
    for (const char *c = endpoint->token; code == 0 && c != NULL && *c != 0; c++) {
        if (!isgraph((unsigned char)*c)) {
            code = chp_error_set(error, CHP_EINVAL,
                                 "the token has a character that is not printable ASCII");
        }
    }
    return code;
}

int cli__endpoint_find(const char *site, const char *api, struct chp_arena *arena,
                       struct cli_endpoint *endpoint, struct chp_error *error)
{
    *endpoint = (struct cli_endpoint){0};
    const char *url = api;
    int code = 0;
    if (url == NULL && site != NULL) {
        code = site_url(site, arena, &url, error);
    } else if (url == NULL) {
        url = environment("CHEOPS_API");
    }
    if (code == 0) {
        code = parse_url(url == NULL ? default_url : url, arena, endpoint, error);
    }
    return code != 0 ? code : find_token(arena, endpoint, error);
}
