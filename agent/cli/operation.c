/* SPDX-License-Identifier: AGPL-3.0-only */
#include "cli/operation.h"

#include "base/mem.h"
#include "base/sha256.h"
#include "cli/source.h"
#include "cli/split.h"
#include "cli/text.h"
#include "wire/item.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    BODY_INLINE_MAX_BYTES = 48 * 1024
}; /* leaves room for path and headers within CHP_PAYLOAD_MAX_BYTES */

static const char body_file[] = "body";

static int set_text(json_t *body, const char *key, const char *text, const char *option)
{
    json_t *value = json_string(text);
    if (value == NULL) {
        return cli__fail(CLI_USAGE, "%s is not valid UTF-8", option);
    }
    CHP_ASSERT(json_object_set_new(body, key, value) == 0);
    return CLI_OK;
}

/* Names all that is missing at once, rather than one after the other. */
static int check_needed(struct cli *cli)
{
    const char *id = cli__arg(&cli->args, OPT_ID);
    const char *type = cli__arg(&cli->args, OPT_TYPE);
    bool command = cli->args.command->takes_command && cli->args.word_count == 0;
    const char *id_missing = id == NULL ? ", --id ID (the resource)" : "";
    const char *type_missing =
        type == NULL ? ", --type TYPE (your tag for this kind of operation)" : "";
    const char *command_missing = command ? ", -- COMMAND (what to run on each site)" : "";
    if (id == NULL || type == NULL || command) {
        const char *missing =
            chp_arena_printf(&cli->arena, "%s%s%s", id_missing, type_missing, command_missing);
        return cli__fail(CLI_USAGE, "'cheops %s' lacks %s", cli->args.command->name, missing + 2);
    }
    struct chp_error error = {0};
    if (chp_resource_id_check(id, &error) != 0 || chp_type_check(type, &error) != 0) {
        return cli__fail(CLI_USAGE, "%s", error.text);
    }
    return CLI_OK;
}

static int add_config(struct cli *cli, json_t *body)
{
    const char *path = cli__arg(&cli->args, OPT_CONFIG);
    if (path == NULL) {
        return CLI_OK;
    }
    struct chp_error error = {0};
    struct chp_buf text = {0};
    int code = cli__source_read_matrix(path, path, &text, &error);
    if (code != 0) {
        chp_buf_deinit(&text);
        return cli__fail(CLI_USAGE, "%s", error.text);
    }
    json_error_t where;
    json_t *config = json_loadb(chp_buf_text(&text), text.len, JSON_REJECT_DUPLICATES, &where);
    chp_buf_deinit(&text);
    if (config == NULL) {
        return cli__fail(CLI_USAGE, "%s is not JSON: %s at line %d, column %d", path, where.text,
                         where.line, where.column);
    }
    CHP_ASSERT(json_object_set_new(body, "config", config) == 0);
    return json_is_object(config)
               ? CLI_OK
               : cli__fail(CLI_USAGE, "%s must hold a JSON object with \"ResolutionMatrix\"", path);
}

int cli__operation_begin(struct cli *cli, struct cli_operation *operation)
{
    *operation = (struct cli_operation){.body = json_object()};
    CHP_ASSERT(operation->body != NULL);
    int exit_code = check_needed(cli);
    static const struct {
        enum cli_opt option;
        const char *key;
    } texts[] = {
        {OPT_ID, "resource"}, {OPT_TYPE, "type"}, {OPT_SCOPE, "scope"}, {OPT_LEVEL, "level"}};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0] && exit_code == CLI_OK; i++) {
        const char *text = cli__arg(&cli->args, texts[i].option);
        if (text != NULL) {
            exit_code =
                set_text(operation->body, texts[i].key, text, cli__options[texts[i].option].name);
        }
    }
    const char *level = cli__arg(&cli->args, OPT_LEVEL);
    enum chp_level ignored;
    if (exit_code == CLI_OK && level != NULL && chp_level_parse(level, &ignored) != 0) {
        exit_code = cli__fail(
            CLI_USAGE, "--level takes none, eventual, transactional or strong, not '%s'", level);
    }
    uint64_t deadline_ms = 0;
    if (exit_code == CLI_OK) {
        exit_code = cli__duration(cli, OPT_DEADLINE, 0, &deadline_ms);
    }
    if (exit_code == CLI_OK && deadline_ms > 0) {
        CHP_ASSERT(json_object_set_new(operation->body, "timeout_ms",
                                       json_integer((json_int_t)deadline_ms)) == 0);
    }
    return exit_code == CLI_OK ? add_config(cli, operation->body) : exit_code;
}

void cli__operation_deinit(struct cli_operation *operation)
{
    json_decref(operation->body);
}

static json_t *base64(const struct chp_buf *content)
{
    char *text = chp_alloc(4 * (content->len / 3 + 1) + 1);
    int len = EVP_EncodeBlock((unsigned char *)text, content->data, (int)content->len);
    json_t *value = json_stringn(text, (size_t)len);
    free(text);
    return value;
}

static int add_inline(const struct cli_source *source, struct cli_operation *operation,
                      json_t *file, struct chp_error *error)
{
    struct chp_buf content = {0};
    int code = cli__source_read(source, &content, error);
    if (code == 0) {
        CHP_ASSERT(json_object_set_new(file, "content_base64", base64(&content)) == 0);
        operation->inline_bytes += content.len;
    }
    chp_buf_deinit(&content);
    return code == 0 ? CLI_OK : cli__fail(CLI_USAGE, "%s", error->text);
}

/* Sends the file to the agent, which must agree on what it was. */
static int upload(struct cli *cli, const struct cli_source *source, const char *name, json_t *file,
                  struct chp_error *error)
{
    char sha256[CHP_SHA256_TEXT_BYTES];
    if (cli__source_hash(source, sha256, error) != 0) {
        return cli__fail(CLI_USAGE, "%s: %s", name, error->text);
    }
    struct cli_request request = {
        .method = "POST",
        .path = "/v1/blobs",
        .body_fd = source->fd,
        .body_size = source->size,
        .content_type = "application/octet-stream",
        .key = sha256}; /* the same bytes twice are one blob: it may be tried again */
    bool told = isatty(STDERR_FILENO) != 0 && source->size > (1U << 20);
    if (told) {
        struct chp_buf size = {0};
        cli__size_format(source->size, &size);
        (void)fprintf(stderr, "sending %s, %s …", name, chp_buf_text(&size));
        chp_buf_deinit(&size);
    }
    json_t *answer = NULL;
    int exit_code = cli__call(cli, &request, &answer);
    if (told) {
        (void)fputs("\r\033[K", stderr);
    }
    const char *agreed = cli__text(answer, "sha256");
    if (exit_code == CLI_OK && (agreed == NULL || strcmp(agreed, sha256) != 0)) {
        exit_code = cli__fail(CLI_FAILED, "%s changed while it was sent", name);
    }
    if (exit_code == CLI_OK) {
        CHP_ASSERT(json_object_set_new(file, "sha256", json_string(sha256)) == 0);
    }
    json_decref(answer);
    return exit_code;
}

static int add_source(struct cli *cli, struct cli_operation *operation, const char *name,
                      const struct cli_source *source)
{
    struct chp_error error = {0};
    json_t *file = json_object();
    CHP_ASSERT(file != NULL && json_object_set_new(file, "name", json_string(name)) == 0);
    bool small = source->size <= CHP_FILE_INLINE_MAX_BYTES &&
                 operation->inline_bytes + source->size <= CHP_FILES_INLINE_MAX_BYTES;
    int exit_code = small ? add_inline(source, operation, file, &error)
                          : upload(cli, source, name, file, &error);
    json_t *files = json_object_get(operation->body, "files");
    if (files == NULL) {
        files = json_array();
        CHP_ASSERT(json_object_set_new(operation->body, "files", files) == 0);
    }
    CHP_ASSERT(json_array_append_new(files, file) == 0);
    return exit_code;
}

/* All of --file is checked before the first byte is sent. */
static int check_files(struct cli *cli, const char *const *values, size_t count, const char **names)
{
    struct chp_error error = {0};
    if (count > CHP_FILES_MAX) {
        return cli__fail(CLI_USAGE, "%zu files are too many for one operation, which takes %d",
                         count, CHP_FILES_MAX);
    }
    for (size_t i = 0; i < count; i++) {
        const char *equals = strchr(values[i], '=');
        if (equals == NULL || equals == values[i] || equals[1] == 0) {
            return cli__fail(CLI_USAGE, "--file takes NAME=PATH, not '%s'", values[i]);
        }
        names[i] = chp_arena_strndup(&cli->arena, values[i], (size_t)(equals - values[i]));
        if (chp_file_name_check(names[i], &error) != 0) {
            return cli__fail(CLI_USAGE, "--file: %s", error.text);
        }
        for (size_t j = 0; j < i; j++) {
            if (strcmp(names[j], names[i]) == 0) {
                return cli__fail(CLI_USAGE, "--file: the name %s was given twice", names[i]);
            }
        }
        if (access(equals + 1, R_OK) != 0 && strcmp(equals + 1, "-") != 0) {
            return cli__fail(CLI_USAGE, "--file: cannot read %s: %s", equals + 1, strerror(errno));
        }
    }
    return CLI_OK;
}

int cli__operation_files(struct cli *cli, struct cli_operation *operation)
{
    const char *const *values = cli->args.options[OPT_FILE].values;
    size_t count = cli->args.options[OPT_FILE].count;
    const char **names = chp_arena_calloc(&cli->arena, count, sizeof *names);
    int exit_code = check_files(cli, values, count, names);
    for (size_t i = 0; i < count && exit_code == CLI_OK; i++) {
        struct cli_source source;
        struct chp_error error = {0};
        if (cli__source_open(strchr(values[i], '=') + 1, &source, &error) != 0) {
            return cli__fail(CLI_USAGE, "--file: %s", error.text);
        }
        exit_code = add_source(cli, operation, names[i], &source);
        cli__source_close(&source);
    }
    return exit_code;
}

/* what: "the command". NULL after telling that a word is not text. */
static json_t *words_json(const char *const *words, size_t count, const char *what)
{
    json_t *command = json_array();
    CHP_ASSERT(command != NULL);
    for (size_t i = 0; i < count; i++) {
        json_t *word = json_string(words[i]);
        if (word == NULL) {
            (void)cli__fail(CLI_USAGE,
                            "word %zu of %s is not valid UTF-8; send such bytes with --file", i + 1,
                            what);
            json_decref(command);
            return NULL;
        }
        CHP_ASSERT(json_array_append_new(command, word) == 0);
    }
    return command;
}

json_t *cli__command_json(struct cli *cli)
{
    return words_json(cli->args.words, cli->args.word_count, "the command");
}

/* --data as given, from @FILE, or from standard input; *source.fd is -1 when text is the value
 * itself. */
static int open_data(const char *data, struct cli_source *source, struct chp_error *error)
{
    *source = (struct cli_source){.fd = -1};
    if (strcmp(data, "-") == 0) {
        return cli__source_open("-", source, error);
    }
    return data[0] == '@' ? cli__source_open(data + 1, source, error) : 0;
}

static int add_body(struct cli *cli, struct cli_operation *operation, json_t *rest)
{
    const char *data = cli__arg(&cli->args, OPT_DATA);
    if (data == NULL) {
        return CLI_OK;
    }
    struct cli_source source;
    struct chp_error error = {0};
    struct chp_buf text = {0};
    int exit_code = CLI_OK;
    if (open_data(data, &source, &error) != 0) {
        return cli__fail(CLI_USAGE, "--data: %s", error.text);
    }
    bool given = source.fd < 0;
    bool small = given || source.size <= BODY_INLINE_MAX_BYTES;
    if (given) {
        chp_buf_add_text(&text, data);
    } else if (small && cli__source_read(&source, &text, &error) != 0) {
        exit_code = cli__fail(CLI_USAGE, "--data: %s", error.text);
    }
    if (exit_code == CLI_OK && small && chp_utf8_valid(text.data, text.len)) {
        CHP_ASSERT(json_object_set_new(rest, "body", json_stringn(chp_buf_text(&text), text.len)) ==
                   0);
    } else if (exit_code == CLI_OK && (operation == NULL || given)) {
        exit_code = cli__fail(CLI_USAGE, "--data: this body must be text of at most %d KiB",
                              BODY_INLINE_MAX_BYTES / 1024);
    } else if (exit_code == CLI_OK) {
        CHP_ASSERT(json_object_set_new(rest, "body_file", json_string(body_file)) == 0);
        exit_code = add_source(cli, operation, body_file, &source);
    }
    chp_buf_deinit(&text);
    cli__source_close(&source);
    return exit_code;
}

/* "Name: value" into a JSON object; with a body, Content-Type is JSON unless a header says
 * otherwise, and without one it is left out. */
static int add_headers(struct cli *cli, json_t *rest, bool has_body)
{
    json_t *headers = json_object();
    bool typed = !has_body;
    CHP_ASSERT(headers != NULL && json_object_set_new(rest, "headers", headers) == 0);
    for (size_t i = 0; i < cli->args.options[OPT_HEADER].count; i++) {
        const char *line = cli->args.options[OPT_HEADER].values[i];
        const char *colon = strchr(line, ':');
        size_t len = colon == NULL ? 0 : (size_t)(colon - line);
        const char *value = colon == NULL ? "" : colon + 1 + strspn(colon + 1, " ");
        if (len == 0 || strcspn(line, " \t") < len || line[strcspn(line, "\r\n")] != 0) {
            return cli__fail(CLI_USAGE, "-H takes 'Name: value', not '%s'", cli__clean(cli, line));
        }
        bool is_type = len == strlen("Content-Type") && strncasecmp(line, "Content-Type", len) == 0;
        if (is_type && !has_body && cli__given(&cli->args, OPT_DATA)) {
            continue; /* of the body that another request has */
        }
        typed = typed || is_type;
        if (json_object_set_new(headers, chp_arena_strndup(&cli->arena, line, len),
                                json_string(value)) != 0) {
            return cli__fail(CLI_USAGE, "-H: the header is not valid UTF-8");
        }
    }
    if (!typed) {
        CHP_ASSERT(json_object_set_new(headers, "Content-Type", json_string("application/json")) ==
                   0);
    }
    return CLI_OK;
}

/* service/path with headers, no body. */
static json_t *rest_json(struct cli *cli, const char *verb, const char *target, bool has_body,
                         int *exit_code)
{
    char *method = chp_arena_strdup(&cli->arena, verb);
    const char *slash = strchr(target, '/');
    for (char *c = method; *c != 0; c++) {
        *c = (char)toupper((unsigned char)*c);
    }
    if (method[0] == 0 || method[strspn(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ")] != 0) {
        *exit_code =
            cli__fail(CLI_USAGE,
                      "'%s' is not an HTTP method; usage: cheops http … METHOD service/path", verb);
        return NULL;
    }
    if (target[0] == 0 || slash == target || strstr(target, "://") != NULL) {
        *exit_code = cli__fail(CLI_USAGE,
                               "'%s' must be service/path, with a service that the sites "
                               "configure, as inventory/items/7",
                               target);
        return NULL;
    }
    const char *service =
        slash == NULL ? target : chp_arena_strndup(&cli->arena, target, (size_t)(slash - target));
    json_t *rest = json_object();
    CHP_ASSERT(rest != NULL && json_object_set_new(rest, "method", json_string(method)) == 0);
    *exit_code = set_text(rest, "service", service, "the service");
    if (*exit_code == CLI_OK) {
        *exit_code = set_text(rest, "path", slash == NULL ? "" : slash + 1, "the path");
    }
    if (*exit_code == CLI_OK) {
        *exit_code = add_headers(cli, rest, has_body);
    }
    if (*exit_code != CLI_OK) {
        json_decref(rest);
        return NULL;
    }
    return rest;
}

json_t *cli__rest_json(struct cli *cli, struct cli_operation *operation, size_t first,
                       int *exit_code)
{
    json_t *rest = rest_json(cli, cli->args.operands[first], cli->args.operands[first + 1],
                             cli__given(&cli->args, OPT_DATA), exit_code);
    if (rest != NULL) {
        *exit_code = add_body(cli, operation, rest);
    }
    if (*exit_code != CLI_OK) {
        json_decref(rest);
        return NULL;
    }
    return rest;
}

int cli__operation_undo(struct cli *cli, json_t *body, bool is_rest)
{
    const char *line = cli__arg(&cli->args, OPT_UNDO);
    const char **words;
    size_t count;
    struct chp_error error = {0};
    int exit_code = CLI_OK;
    if (line == NULL) {
        return CLI_OK;
    }
    if (cli__split(line, &cli->arena, &words, &count, &error) != 0) {
        return cli__fail(CLI_USAGE, "--undo: %s", error.text);
    }
    if (is_rest && count != 2) {
        return cli__fail(CLI_USAGE, "--undo takes 'METHOD service/path', not '%s'",
                         cli__clean(cli, line));
    }
    json_t *task = is_rest ? rest_json(cli, words[0], words[1], false, &exit_code)
                           : words_json(words, count, "--undo");
    json_t *undo = json_object();
    if (task == NULL) {
        exit_code = exit_code == CLI_OK ? CLI_USAGE : exit_code;
    } else {
        CHP_ASSERT(json_object_set_new(undo, is_rest ? "http" : "command", task) == 0);
    }
    CHP_ASSERT(json_object_set_new(body, "undo", undo) == 0);
    return exit_code;
}
