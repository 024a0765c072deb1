/* SPDX-License-Identifier: AGPL-3.0-only */
/* Lines -> sections and options, by the table; then what only the whole can tell. */
#include "config/config.h"

#include "base/limits.h"
#include "base/suggest.h"
#include "config/internal.h"
#include "wire/item.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { OPTIONS_MAX = 64, SHOWN_MAX_BYTES = 100 };

struct parser {
    struct chp_config *config;
    const char *path;
    const char *directory;
    struct chp_error *error;
    size_t line;
    const struct config__section *section; /* the current one, NULL before the first */
    void *target;                          /* what its options are written to */
    const char *section_text;              /* "[site.Rennes]" */
    size_t option_lines[OPTIONS_MAX];      /* 0: not given; of named sections: in the current one */
    size_t site_lines[CHP_SITES_MAX];
    size_t service_lines[CHP_CONFIG_SERVICES_MAX];
};

static int refuse(const struct parser *parser, int code, const char *format, ...) CHP_PRINTF(3, 4);

static int refuse(const struct parser *parser, int code, const char *format, ...)
{
    va_list args;
    char *sentence = NULL;
    va_start(args, format);
    int len = vasprintf(&sentence, format, args);
    va_end(args);
    CHP_ASSERT(len >= 0);
    (void)chp_error_set(parser->error, code, "%s:%zu: %s", parser->path, parser->line, sentence);
    free(sentence);
    return code;
}

bool config__next_line(struct chp_bytes *text, struct chp_bytes *line)
{
    if (text->len == 0) {
        return false;
    }
    const uint8_t *end = memchr(text->data, '\n', text->len);
    size_t len = end == NULL ? text->len : (size_t)(end - text->data);
    size_t taken = end == NULL ? len : len + 1;
    *line = chp_bytes(text->data, len);
    *text = chp_bytes(text->data + taken, text->len - taken);
    return true;
}

static bool is_blank(uint8_t byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r';
}

struct chp_bytes config__trim(struct chp_bytes text)
{
    while (text.len > 0 && is_blank(text.data[0])) {
        text = chp_bytes(text.data + 1, text.len - 1);
    }
    while (text.len > 0 && is_blank(text.data[text.len - 1])) {
        text.len--;
    }
    return text;
}

/* --- sections --- */

static int unknown_section(const struct parser *parser, const char *name)
{
    const char *names[CONFIG__SECTION_COUNT];
    struct chp_buf known = {0};
    for (size_t i = 0; i < CONFIG__SECTION_COUNT; i++) {
        const struct config__section *section = &config__sections[i];
        names[i] = section->name;
        chp_buf_printf(&known, "%s[%s%s]", i == 0 ? "" : ", ", section->name,
                       section->named ? "NAME" : "");
    }
    const char *nearest = chp_suggest(name, names, CONFIG__SECTION_COUNT);
    int code =
        refuse(parser, CHP_EINVAL, "unknown section [%.*s]%s%s%s: sections are %s", SHOWN_MAX_BYTES,
               name, nearest == NULL ? "" : ", did you mean [", nearest == NULL ? "" : nearest,
               nearest == NULL ? "" : "]?", chp_buf_text(&known));
    chp_buf_deinit(&known);
    return code;
}

static int twice(const struct parser *parser, size_t line)
{
    return refuse(parser, CHP_EINVAL,
                  "%s is there already, in line %zu; each site and service has one section",
                  parser->section_text, line);
}

static int begin_site(struct parser *parser, const char *name)
{
    struct chp_config *config = parser->config;
    struct chp_error reason = {0};
    if (chp_site_name_check(name, &reason) != 0) {
        return refuse(parser, CHP_EINVAL, "%s", reason.text);
    }
    for (size_t i = 0; i < config->site_count; i++) {
        if (strcmp(config->sites[i].name, name) == 0) {
            return twice(parser, parser->site_lines[i]);
        }
    }
    if (config->site_count == CHP_SITES_MAX - 1) {
        return refuse(parser, CHP_ETOOBIG, "more than %d other sites", CHP_SITES_MAX - 1);
    }
    parser->site_lines[config->site_count] = parser->line;
    struct chp_config_site *site = &config->sites[config->site_count++];
    site->name = chp_arena_strdup(&config->arena, name);
    parser->target = site;
    return 0;
}

static int begin_service(struct parser *parser, const char *name)
{
    struct chp_config *config = parser->config;
    size_t len = strlen(name);
    bool valid = len > 0 && len <= CHP_ID_MAX_BYTES;
    for (size_t i = 0; i < len && valid; i++) {
        unsigned char c = (unsigned char)name[i];
        valid = c > ' ' && c != 0x7f && c != '/' && c != '"';
    }
    if (!valid) {
        return refuse(
            parser, CHP_EINVAL,
            "a service's name must have 1 to %d bytes without blanks, control characters, "
            "'/' and '\"'",
            CHP_ID_MAX_BYTES);
    }
    for (size_t i = 0; i < config->service_count; i++) {
        if (strcmp(config->services[i].name, name) == 0) {
            return twice(parser, parser->service_lines[i]);
        }
    }
    if (config->service_count == CHP_CONFIG_SERVICES_MAX) {
        return refuse(parser, CHP_ETOOBIG, "more than %d services", CHP_CONFIG_SERVICES_MAX);
    }
    parser->service_lines[config->service_count] = parser->line;
    struct chp_config_service *service = &config->services[config->service_count++];
    service->name = chp_arena_strdup(&config->arena, name);
    parser->target = service;
    return 0;
}

static int begin_named(struct parser *parser, enum config__section_id id, const char *name)
{
    for (size_t i = 0; i < config__option_count; i++) {
        if (config__options[i].section == id) {
            parser->option_lines[i] = 0;
        }
    }
    int code = id == SECTION_SITE ? begin_site(parser, name) : begin_service(parser, name);
    if (code == 0) {
        config__set_presets(id, parser->directory, &parser->config->arena, parser->target);
    }
    return code;
}

static int begin_section(struct parser *parser, struct chp_bytes line)
{
    struct chp_arena *arena = &parser->config->arena;
    if (line.data[line.len - 1] != ']') {
        return refuse(parser, CHP_EMALFORMED, "a section must be [name], alone on its line");
    }
    struct chp_bytes inner = config__trim(chp_bytes(line.data + 1, line.len - 2));
    const char *name = chp_arena_strndup(arena, inner.data, inner.len);
    parser->section_text = chp_arena_printf(arena, "[%s]", name);
    for (size_t i = 0; i < CONFIG__SECTION_COUNT; i++) {
        const struct config__section *section = &config__sections[i];
        size_t prefix = strlen(section->name);
        if (section->named && strncmp(name, section->name, prefix) == 0) {
            parser->section = section;
            return begin_named(parser, (enum config__section_id)i, name + prefix);
        }
        if (!section->named && strcmp(name, section->name) == 0) {
            parser->section = section;
            parser->target = parser->config;
            return 0;
        }
    }
    return unknown_section(parser, name);
}

/* --- options --- */

static int unknown_option(const struct parser *parser, const char *key)
{
    const char *names[OPTIONS_MAX];
    size_t count = 0;
    const struct config__section *elsewhere = NULL;
    for (size_t i = 0; i < config__option_count; i++) {
        const struct config__section *section = &config__sections[config__options[i].section];
        if (section == parser->section) {
            names[count++] = config__options[i].key;
        } else if (strcmp(config__options[i].key, key) == 0) {
            elsewhere = section;
        }
    }
    struct chp_buf known = {0};
    chp_suggest_list(&known, names, count, 300);
    const char *nearest = chp_suggest(key, names, count);
    struct chp_buf hint = {0};
    if (elsewhere != NULL) {
        chp_buf_printf(&hint, ", it belongs to [%s%s]", elsewhere->name,
                       elsewhere->named ? "NAME" : "");
    } else if (nearest != NULL) {
        chp_buf_printf(&hint, ", did you mean %s?", nearest);
    }
    int code = refuse(parser, CHP_EINVAL, "unknown option %.*s in %s%s: its options are %s",
                      SHOWN_MAX_BYTES, key, parser->section_text, chp_buf_text(&hint),
                      chp_buf_text(&known));
    chp_buf_deinit(&hint);
    chp_buf_deinit(&known);
    return code;
}

static int set_option(struct parser *parser, size_t index, const char *value)
{
    const struct config__option *option = &config__options[index];
    if (parser->option_lines[index] > 0) {
        return refuse(parser, CHP_EINVAL,
                      "%s of %s is given already, in line %zu; an option stands "
                      "once",
                      option->key, parser->section_text, parser->option_lines[index]);
    }
    parser->option_lines[index] = parser->line;
    /* A connection string or URI may hold anything; elsewhere this is a comment at the wrong place.
     */
    const char *allowed =
        !option->secret && (strstr(value, " #") != NULL || strstr(value, " ;") != NULL)
            ? "a value without ' #' and ' ;': a comment has a line of its own"
            : config__set(option, value, parser->directory, &parser->config->arena, parser->target);
    if (allowed == NULL) {
        return 0;
    }
    if (option->secret) {
        return refuse(parser, CHP_EINVAL, "%s of %s is not valid (not shown): allowed is %s",
                      option->key, parser->section_text, allowed);
    }
    return refuse(parser, CHP_EINVAL, "%s of %s is \"%.*s\": allowed is %s", option->key,
                  parser->section_text, SHOWN_MAX_BYTES, value, allowed);
}

static int read_option(struct parser *parser, struct chp_bytes line)
{
    struct chp_arena *arena = &parser->config->arena;
    const uint8_t *equals = memchr(line.data, '=', line.len);
    if (equals == NULL || equals == line.data) {
        return refuse(
            parser, CHP_EMALFORMED,
            "a line must be option = value, [section], or a comment that begins with '#'");
    }
    size_t key_len = (size_t)(equals - line.data);
    struct chp_bytes key_bytes = config__trim(chp_bytes(line.data, key_len));
    struct chp_bytes value_bytes = config__trim(chp_bytes(equals + 1, line.len - key_len - 1));
    const char *key = chp_arena_strndup(arena, key_bytes.data, key_bytes.len);
    const char *value = chp_arena_strndup(arena, value_bytes.data, value_bytes.len);
    if (parser->section == NULL) {
        return refuse(parser, CHP_EMALFORMED, "%.*s stands before the first section, as [agent]",
                      SHOWN_MAX_BYTES, key);
    }
    for (size_t i = 0; i < config__option_count; i++) {
        const struct config__option *option = &config__options[i];
        if (&config__sections[option->section] == parser->section &&
            strcmp(option->key, key) == 0) {
            return set_option(parser, i, value);
        }
    }
    return unknown_option(parser, key);
}

static int read_line(struct parser *parser, struct chp_bytes line)
{
    if (line.len > CHP_CONFIG_LINE_MAX_BYTES) {
        return refuse(parser, CHP_ETOOBIG, "the line has %zu bytes, at most %d are allowed",
                      line.len, CHP_CONFIG_LINE_MAX_BYTES);
    }
    if (!chp_utf8_valid(line.data, line.len)) {
        return refuse(parser, CHP_EMALFORMED, "the line is not UTF-8 text");
    }
    line = config__trim(line);
    for (size_t i = 0; i < line.len; i++) {
        if ((line.data[i] < ' ' && line.data[i] != '\t') || line.data[i] == 0x7f) {
            return refuse(parser, CHP_EMALFORMED, "the line has a control character");
        }
    }
    if (line.len == 0 || line.data[0] == '#' || line.data[0] == ';') {
        return 0;
    }
    return line.data[0] == '[' ? begin_section(parser, line) : read_option(parser, line);
}

/* --- the whole --- */

static int check_required(struct parser *parser)
{
    const struct chp_config *config = parser->config;
    for (size_t i = 0; i < config__option_count; i++) {
        const struct config__option *option = &config__options[i];
        const struct config__section *section = &config__sections[option->section];
        if (option->required && !section->named &&
            *(const char *const *)(const void *)((const char *)config + option->offset) == NULL) {
            return chp_error_set(parser->error, CHP_EINVAL,
                                 "%s: %s of [%s] is missing; set it, as in: %s = %s", parser->path,
                                 option->key, section->name, option->key, option->example);
        }
    }
    for (size_t i = 0; i < config->service_count; i++) {
        if (config->services[i].url == NULL) {
            parser->line = parser->service_lines[i];
            return refuse(parser, CHP_EINVAL, "url of [service.%s] is missing",
                          config->services[i].name);
        }
    }
    return 0;
}

static int check_sites(struct parser *parser)
{
    const struct chp_config *config = parser->config;
    for (size_t i = 0; i < config->site_count; i++) {
        if (strcmp(config->sites[i].name, config->agent.site) == 0) {
            parser->line = parser->site_lines[i];
            return refuse(parser, CHP_EINVAL,
                          "[site.%s] is this site itself; such sections are for the other sites",
                          config->agent.site);
        }
    }
    return 0;
}

static int check_relations(struct parser *parser)
{
    const struct chp_config *config = parser->config;
    bool tls = strncmp(config->broker.uri, "amqps://", 8) == 0;
    const char *wrong = NULL;
    if (config->agent.down_after_ms < 2 * config->agent.beat_interval_ms) {
        wrong =
            "down_after_ms of [agent] must be at least twice beat_interval_ms: one late beat is no "
            "lost site";
    } else if (config->database.retry_min_ms > config->database.retry_max_ms) {
        wrong = "retry_min_ms of [database] must not be greater than retry_max_ms";
    } else if (config->broker.retry_min_ms > config->broker.retry_max_ms) {
        wrong = "retry_min_ms of [broker] must not be greater than retry_max_ms";
    } else if ((config->broker.cert_file == NULL) != (config->broker.key_file == NULL)) {
        wrong = "cert_file and key_file of [broker] belong together";
    } else if (!tls && (config->broker.ca_file != NULL || config->broker.cert_file != NULL ||
                        config->broker.server_name != NULL)) {
        wrong =
            "ca_file, cert_file and server_name of [broker] need a uri that begins with amqps://";
    }
    return wrong == NULL ? 0
                         : chp_error_set(parser->error, CHP_EINVAL, "%s: %s", parser->path, wrong);
}

static void convert_uids(struct chp_config *config)
{
    size_t count = config->http.socket_uids.count;
    unsigned *numbers = chp_arena_calloc(&config->arena, count, sizeof(unsigned));
    for (size_t i = 0; i < count; i++) {
        numbers[i] = (unsigned)strtoul(config->http.socket_uids.items[i], NULL, 10);
    }
    config->http.socket_uid_numbers = numbers;
}

static int parse(struct parser *parser, struct chp_bytes text)
{
    struct chp_config *config = parser->config;
    CHP_ASSERT(config__option_count <= OPTIONS_MAX);
    config->sites = chp_arena_calloc(&config->arena, CHP_SITES_MAX, sizeof *config->sites);
    config->services =
        chp_arena_calloc(&config->arena, CHP_CONFIG_SERVICES_MAX, sizeof *config->services);
    for (int i = 0; i < CONFIG__SECTION_COUNT; i++) {
        if (!config__sections[i].named) {
            config__set_presets((enum config__section_id)i, parser->directory, &config->arena,
                                config);
        }
    }
    int code = 0;
    struct chp_bytes line;
    while (code == 0 && config__next_line(&text, &line)) {
        parser->line++;
        code = read_line(parser, line);
    }
    if (code == 0) {
        code = check_required(parser);
    }
    if (code == 0) {
        code = check_sites(parser);
    }
    if (code == 0) {
        code = check_relations(parser);
    }
    if (code == 0) {
        convert_uids(config);
    }
    return code;
}

int chp_config_parse(struct chp_bytes text, const char *path, const char *directory,
                     struct chp_config *config, struct chp_error *error)
{
    *config = (struct chp_config){0};
    if (text.len > CHP_CONFIG_FILE_MAX_BYTES) {
        return chp_error_set(error, CHP_ETOOBIG, "%s: more than %d bytes", path,
                             CHP_CONFIG_FILE_MAX_BYTES);
    }
    struct parser parser = {.config = config, .path = path, .directory = directory, .error = error};
    int code = parse(&parser, text);
    if (code != 0) {
        chp_config_deinit(config);
    }
    return code;
}

int config__read(int fd, const char *path, size_t max_bytes, struct chp_buf *out,
                 struct chp_error *error)
{
    struct stat status;
    if (fstat(fd, &status) != 0) {
        return chp_error_set(error, CHP_EIO, "%s: %s", path, strerror(errno));
    }
    if (!S_ISREG(status.st_mode)) {
        return chp_error_set(error, CHP_EIO, "%s: not a regular file", path);
    }
    char piece[4096];
    for (;;) {
        ssize_t got = read(fd, piece, sizeof piece);
        if (got == 0) {
            return 0;
        }
        if (got < 0) {
            return chp_error_set(error, CHP_EIO, "%s: %s", path, strerror(errno));
        }
        if ((size_t)got > max_bytes - out->len) {
            return chp_error_set(error, CHP_ETOOBIG, "%s: more than %zu bytes", path, max_bytes);
        }
        chp_buf_add(out, piece, (size_t)got);
    }
}

/* Absolute, so that nothing depends on the working directory later. */
static char *directory_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    struct chp_buf directory = {0};
    chp_buf_add(&directory, path, slash == NULL ? 0 : (size_t)(slash - path) + 1);
    chp_buf_add_byte(&directory, '.');
    char *absolute = realpath(chp_buf_text(&directory), NULL);
    chp_buf_deinit(&directory);
    return absolute;
}

int chp_config_load(const char *path, struct chp_config *config, struct chp_error *error)
{
    *config = (struct chp_config){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return chp_error_set(error, errno == ENOENT ? CHP_ENOTFOUND : CHP_EIO, "%s: %s", path,
                             strerror(errno));
    }
    struct chp_buf text = {0};
    int code = config__read(fd, path, CHP_CONFIG_FILE_MAX_BYTES, &text, error);
    (void)close(fd);
    char *directory = code == 0 ? directory_of(path) : NULL;
    if (directory != NULL) {
        code = chp_config_parse(chp_buf_bytes(&text), path, directory, config, error);
    } else if (code == 0) {
        code = chp_error_set(error, CHP_EIO, "the directory of %s: %s", path, strerror(errno));
    }
    chp_buf_deinit(&text);
    free(directory);
    return code;
}

void chp_config_deinit(struct chp_config *config)
{
    chp_arena_deinit(&config->arena);
    *config = (struct chp_config){0};
}
