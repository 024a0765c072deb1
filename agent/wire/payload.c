/* SPDX-License-Identifier: AGPL-3.0-only */
/* Payloads: commands and REST requests, and the rules that keep a REST request inside its service.
 */
#include "wire/payload.h"

#include "wire/schemas.h"

#include <string.h>
#include <strings.h>

enum {
    PATH_MAX_BYTES = 4096,
    HEADERS_MAX = 64,
    HEADER_MAX_BYTES = 8192,
    SUMMARY_MAX_BYTES = 200,
};

/* Command. */

static const struct wire__field argument = {.type = WIRE_TYPE_TEXT, .max = CHP_PAYLOAD_MAX_BYTES};

static int check_command(const void *object, struct chp_error *error)
{
    const struct chp_command *command = object;
    return command->argc > 0 && command->argv[0][0] != 0
               ? 0
               : chp_error_set(error, CHP_EINVAL, "the command needs a program");
}

static const struct wire__field command_fields[] = {
    {.name = "argv",
     .type = WIRE_TYPE_LIST,
     .offset = offsetof(struct chp_command, argv),
     .count = offsetof(struct chp_command, argc),
     .element = &argument,
     .element_bytes = sizeof(const char *),
     .min = 1,
     .max = CHP_ARGV_MAX},
};
const struct wire__schema wire__command_schema = {
    .fields = command_fields, .field_count = WIRE_LENGTH(command_fields), .check = check_command};

/* REST request. */

static int check_method(const char *method, struct chp_error *error)
{
    static const char *const methods[] = {"GET",   "HEAD",   "POST",   "PUT",
                                          "PATCH", "DELETE", "OPTIONS"};
    for (size_t i = 0; i < WIRE_LENGTH(methods); i++) {
        if (strcmp(methods[i], method) == 0) {
            return 0;
        }
    }
    return chp_error_set(
        error, CHP_EINVAL,
        "must be one of GET, HEAD, POST, PUT, PATCH, DELETE and OPTIONS, in upper case");
}

/* True when the segment is "..", however its dots are written. */
static bool climbs(const char *segment, size_t len)
{
    size_t dots = 0;
    for (size_t i = 0; i < len; dots++) {
        bool escaped = len - i >= 3 && strncasecmp(segment + i, "%2e", 3) == 0;
        if (!escaped && segment[i] != '.') {
            return false;
        }
        i += escaped ? 3 : 1;
    }
    return dots == 2;
}

/* The path is put behind the service's url: nothing in it may lead out of the service. */
static int check_path(const char *path, struct chp_error *error)
{
    for (const char *c = path; *c != 0; c++) {
        if (*c <= ' ' || *c > '~' || *c == '\\' || *c == '#') {
            return chp_error_set(error, CHP_EINVAL,
                                 "has a space, '\\', '#', a control character or one that is "
                                 "not ASCII: write it as %%XX");
        }
    }
    size_t len = strcspn(path, "?");
    const char *scheme = strstr(path, "://");
    if (path[0] == '/' || (scheme != NULL && scheme < path + len)) {
        return chp_error_set(error, CHP_EINVAL,
                             "must be relative to the service's url: no scheme and no '/' "
                             "at its start");
    }
    for (size_t start = 0; start < len;) {
        size_t segment = strcspn(path + start, "/?");
        if (climbs(path + start, segment)) {
            return chp_error_set(error, CHP_EINVAL, "has a '..' segment, which is not allowed");
        }
        start += segment + 1;
    }
    return 0;
}

static bool is_token(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

/* Of the connection, or made by the driver: not the client's to set. */
static bool header_reserved(const char *header, size_t name_len)
{
    static const char *const reserved[] = {
        "Host",
        "Content-Length",
        "Connection",
        "Keep-Alive",
        "Proxy-Connection",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
        "Proxy-Authenticate",
        "Expect",
        "Proxy-Authorization",
    };
    for (size_t i = 0; i < WIRE_LENGTH(reserved); i++) {
        if (strlen(reserved[i]) == name_len && strncasecmp(reserved[i], header, name_len) == 0) {
            return true;
        }
    }
    return false;
}

static int check_header(const char *header, struct chp_error *error)
{
    size_t name_len = 0;
    while (is_token(header[name_len])) {
        name_len++;
    }
    if (name_len == 0 || header[name_len] != ':') {
        return chp_error_set(error, CHP_EINVAL, "must be \"Name: value\"");
    }
    for (const char *c = header + name_len; *c != 0; c++) {
        if (((unsigned char)*c < ' ' && *c != '\t') || *c == 0x7f) {
            return chp_error_set(error, CHP_EINVAL, "has a line end or another control character");
        }
    }
    if (header_reserved(header, name_len)) {
        return chp_error_set(error, CHP_EINVAL, "%.*s is set by the agent, not by a request",
                             (int)name_len, header);
    }
    return 0;
}

static const struct wire__field header_element = {
    .type = WIRE_TYPE_TEXT, .min = 1, .max = HEADER_MAX_BYTES, .check = check_header};

static int check_rest(const void *object, struct chp_error *error)
{
    const struct chp_rest *rest = object;
    return rest->body_file == NULL || rest->body.len == 0
               ? 0
               : chp_error_set(error, CHP_EINVAL,
                               "has both body and body_file, one of them is allowed");
}

#define REST(member) offsetof(struct chp_rest, member)

static const struct wire__field rest_fields[] = {
    {.name = "service",
     .type = WIRE_TYPE_TEXT,
     .offset = REST(service),
     .min = 1,
     .max = CHP_ID_MAX_BYTES,
     .check = wire__printable_check},
    {.name = "method",
     .type = WIRE_TYPE_TEXT,
     .offset = REST(method),
     .max = CHP_ID_MAX_BYTES,
     .check = check_method},
    {.name = "path",
     .type = WIRE_TYPE_TEXT,
     .offset = REST(path),
     .max = PATH_MAX_BYTES,
     .check = check_path},
    {.name = "headers",
     .type = WIRE_TYPE_LIST,
     .offset = REST(headers),
     .count = REST(header_count),
     .optional = true,
     .element = &header_element,
     .element_bytes = sizeof(const char *),
     .max = HEADERS_MAX},
    {.name = "body",
     .type = WIRE_TYPE_BYTES,
     .offset = REST(body),
     .optional = true,
     .max = CHP_PAYLOAD_MAX_BYTES},
    {.name = "body_file",
     .type = WIRE_TYPE_TEXT,
     .offset = REST(body_file),
     .optional = true,
     .max = CHP_FILE_NAME_MAX_BYTES,
     .check = chp_file_name_check},
};
const struct wire__schema wire__rest_schema = {
    .fields = rest_fields, .field_count = WIRE_LENGTH(rest_fields), .check = check_rest};

/* Both. */

static int encode(const struct wire__schema *schema, const char *what, const void *object,
                  struct chp_buf *out, struct chp_error *error)
{
    size_t start = out->len;
    msgpack_packer packer = wire__packer(out);
    int code = wire__write(schema, what, object, &packer, error);
    if (code == 0 && out->len - start > CHP_PAYLOAD_MAX_BYTES) {
        code =
            chp_error_set(error, CHP_ETOOBIG,
                          "%s: %zu bytes, at most %d are allowed; what is bigger goes into a file",
                          what, out->len - start, CHP_PAYLOAD_MAX_BYTES);
    }
    if (code != 0) {
        chp_buf_truncate(out, start);
    }
    return code;
}

static int decode(const struct wire__schema *schema, const char *what, struct chp_bytes payload,
                  struct chp_arena *arena, void *object, struct chp_error *error)
{
    if (payload.len > CHP_PAYLOAD_MAX_BYTES) {
        return chp_error_set(error, CHP_ETOOBIG, "%s: %zu bytes, at most %d are allowed", what,
                             payload.len, CHP_PAYLOAD_MAX_BYTES);
    }
    int code = wire__scan(payload, error);
    return code != 0 ? code : wire__read(schema, what, &payload, arena, object, error);
}

int chp_command_encode(const struct chp_command *command, struct chp_buf *out,
                       struct chp_error *error)
{
    return encode(&wire__command_schema, "command", command, out, error);
}

int chp_command_decode(struct chp_bytes payload, struct chp_arena *arena,
                       struct chp_command *command, struct chp_error *error)
{
    *command = (struct chp_command){0};
    return decode(&wire__command_schema, "command", payload, arena, command, error);
}

int chp_rest_encode(const struct chp_rest *rest, struct chp_buf *out, struct chp_error *error)
{
    return encode(&wire__rest_schema, "http", rest, out, error);
}

int chp_rest_decode(struct chp_bytes payload, struct chp_arena *arena, struct chp_rest *rest,
                    struct chp_error *error)
{
    *rest = (struct chp_rest){0};
    return decode(&wire__rest_schema, "http", payload, arena, rest, error);
}

int chp_undo_check(struct chp_bytes undo, struct chp_error *error)
{
    return undo.len <= CHP_UNDO_MAX_BYTES
               ? 0
               : chp_error_set(error, CHP_ETOOBIG, "undo: %zu bytes, at most %d are allowed",
                               undo.len, CHP_UNDO_MAX_BYTES);
}

/* Summary. */

static bool is_plain(const char *word)
{
    for (const char *c = word; *c != 0; c++) {
        if (!is_token(*c) && strchr("/:=@,{}", *c) == NULL) {
            return false;
        }
        if (strchr("!#$&'*`|~^", *c) != NULL) { /* tokens of HTTP that a shell would read */
            return false;
        }
    }
    return word[0] != 0;
}

/* As one word of a shell, on one line. */
static void add_quoted(struct chp_buf *line, const char *word)
{
    if (is_plain(word)) {
        chp_buf_add_text(line, word);
        return;
    }
    bool controls = wire__printable_check(word, NULL) != 0;
    chp_buf_add_text(line, controls ? "$'" : "'");
    for (const char *c = word; *c != 0 && line->len <= SUMMARY_MAX_BYTES; c++) {
        if ((unsigned char)*c < ' ' || *c == 0x7f) {
            chp_buf_printf(line, *c == '\n' ? "\\n" : "\\x%02x", (unsigned)*c);
        } else if (*c == '\'') {
            chp_buf_add_text(line, controls ? "\\'" : "'\\''");
        } else if (*c == '\\' && controls) {
            chp_buf_add_text(line, "\\\\");
        } else {
            chp_buf_add_byte(line, (uint8_t)*c);
        }
    }
    chp_buf_add_byte(line, '\'');
}

static void summarize_command(const struct chp_command *command, struct chp_buf *line)
{
    for (size_t i = 0; i < command->argc && line->len <= SUMMARY_MAX_BYTES; i++) {
        if (i > 0) {
            chp_buf_add_byte(line, ' ');
        }
        add_quoted(line, command->argv[i]);
    }
}

/* Cuts at a character, marked. */
static char *cut(const struct chp_buf *line, struct chp_arena *arena)
{
    size_t len = line->len;
    if (len <= SUMMARY_MAX_BYTES) {
        return chp_arena_strndup(arena, line->data, len);
    }
    len = SUMMARY_MAX_BYTES - 3;
    while (len > 0 && (line->data[len] & 0xc0) == 0x80) {
        len--;
    }
    return chp_arena_printf(arena, "%.*s...", (int)len, (const char *)line->data);
}

char *chp_payload_summary(const char *driver, struct chp_bytes payload, struct chp_arena *arena)
{
    struct chp_buf line = {0};
    struct chp_command command;
    struct chp_rest rest;
    struct chp_arena scratch = {0};
    if (strcmp(driver, "shell") == 0 &&
        chp_command_decode(payload, &scratch, &command, NULL) == 0) {
        summarize_command(&command, &line);
    } else if (strcmp(driver, "http") == 0 &&
               chp_rest_decode(payload, &scratch, &rest, NULL) == 0) {
        chp_buf_printf(&line, "%s %s/%s", rest.method, rest.service, rest.path);
    } else {
        chp_buf_printf(&line, "(%zu bytes for driver %s that this agent cannot read)", payload.len,
                       driver);
    }
    char *summary = cut(&line, arena);
    chp_arena_deinit(&scratch);
    chp_buf_deinit(&line);
    return summary;
}

char *chp_operation_summary(const char *driver, struct chp_bytes payload, struct chp_bytes undo,
                            struct chp_arena *arena)
{
    char *summary = chp_payload_summary(driver, payload, arena);
    return undo.len == 0 ? summary
                         : chp_arena_printf(arena, "%s (undo: %s)", summary,
                                            chp_payload_summary(driver, undo, arena));
}
