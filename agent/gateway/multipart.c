/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * A delimiter is CR LF -- boundary. CR can only be its first byte, so a match that fails can only
 * start again there: what was matched so far is content, and no text has to be held to find that
 * out.
 */
#include "gateway/multipart.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum state {
    STATE_PREAMBLE, /* before the first delimiter: ignored */
    STATE_LINE,     /* behind a delimiter: blanks and the line's end, or -- */
    STATE_LINE_CR,
    STATE_LINE_DASH,
    STATE_HEADER,
    STATE_DATA,
    STATE_EPILOGUE, /* behind the closing delimiter: ignored */
    STATE_FAILED,
};

struct gateway_multipart {
    struct gateway_multipart_callbacks callbacks;
    enum state state;
    char delimiter[4 + GATEWAY_MULTIPART_BOUNDARY_MAX_BYTES + 1];
    size_t delimiter_len;
    size_t matched; /* bytes of the delimiter that the input ends with */
    size_t
        implied; /* of these, bytes that were not there: a body or part may begin with the dashes */
    size_t preamble_bytes;
    size_t parts;
    struct chp_buf header;
    struct chp_error failure;
};

/* --- parameters of a header -------------------------------------------------------------- */

static const char *skip_blanks(const char *at)
{
    return at + strspn(at, " \t");
}

/* Reads one value, quoted or not, into out; returns behind it, or NULL. */
static const char *read_value(const char *at, struct chp_buf *out)
{
    if (*at != '"') {
        size_t len = strcspn(at, "; \t\"");
        chp_buf_add(out, at, len);
        return at + len;
    }
    for (at++; *at != '"'; at++) {
        if (*at == '\\' && (at[1] == '"' || at[1] == '\\')) {
            at++;
        }
        if (*at == '\0') {
            return NULL;
        }
        chp_buf_add_byte(out, (uint8_t)*at);
    }
    return at + 1;
}

/*
 * The parameter called name of a header value "type; a=b; c=\"d\"": 1 and *value when it is there,
 * 0 when not, CHP_EMALFORMED when the parameters cannot be read or it comes twice.
 */
static int find_parameter(const char *header, const char *name, struct chp_buf *value)
{
    int found = 0;
    const char *at = header + strcspn(header, ";");
    while (*at == ';') {
        at = skip_blanks(at + 1);
        size_t len = strcspn(at, "= \t;");
        if (len == 0 && *at == '\0') {
            return found; /* a semicolon at the end */
        }
        bool wanted = len == strlen(name) && strncasecmp(at, name, len) == 0;
        at = skip_blanks(at + len);
        if (*at != '=' || (wanted && found != 0)) {
            return CHP_EMALFORMED;
        }
        struct chp_buf other = {0};
        at = read_value(skip_blanks(at + 1), wanted ? value : &other);
        chp_buf_deinit(&other);
        if (at == NULL) {
            return CHP_EMALFORMED;
        }
        found = wanted ? 1 : found;
        at = skip_blanks(at);
    }
    return *at == '\0' ? found : CHP_EMALFORMED;
}

static bool is_type(const char *header, const char *type)
{
    size_t len = strlen(type);
    return strncasecmp(header, type, len) == 0 &&
           (header[len] == '\0' || strchr("; \t", header[len]) != NULL);
}

static bool boundary_valid(const struct chp_buf *boundary)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
                                  "'()+_,-./:=? ";
    const char *text = chp_buf_text(boundary);
    return boundary->len > 0 && boundary->len <= GATEWAY_MULTIPART_BOUNDARY_MAX_BYTES &&
           strspn(text, allowed) == boundary->len && text[boundary->len - 1] != ' ';
}

int gateway__multipart_new(const char *content_type,
                           const struct gateway_multipart_callbacks *callbacks,
                           struct gateway_multipart **parser, struct chp_error *error)
{
    struct chp_buf boundary = {0};
    int rc = 0;
    *parser = NULL;
    if (!is_type(content_type, "multipart/form-data") ||
        find_parameter(content_type, "boundary", &boundary) != 1 || !boundary_valid(&boundary)) {
        rc = chp_error_set(
            error, CHP_EINVAL,
            "Content-Type must be multipart/form-data with a boundary of 1 to %d characters",
            GATEWAY_MULTIPART_BOUNDARY_MAX_BYTES);
    } else {
        struct gateway_multipart *made = chp_alloc(sizeof *made);
        made->callbacks = *callbacks;
        made->delimiter_len = 4 + boundary.len;
        memcpy(made->delimiter, "\r\n--", 4);
        memcpy(made->delimiter + 4, boundary.data, boundary.len);
        made->matched = made->implied = 2;
        *parser = made;
    }
    chp_buf_deinit(&boundary);
    return rc;
}

void gateway__multipart_free(struct gateway_multipart *parser)
{
    if (parser != NULL) {
        chp_buf_deinit(&parser->header);
        free(parser);
    }
}

/* --- a part's header --------------------------------------------------------------------- */

static int begin_part(struct gateway_multipart *parser, const char *disposition,
                      struct chp_error *error)
{
    struct chp_buf name = {0};
    struct chp_buf filename = {0};
    int has_name = find_parameter(disposition, "name", &name);
    int has_filename = find_parameter(disposition, "filename", &filename);
    int rc;
    if (!is_type(disposition, "form-data") || has_name != 1 || has_filename < 0 || name.len == 0) {
        rc = chp_error_set(
            error, CHP_EMALFORMED,
            "part %zu of the form has no readable Content-Disposition: form-data; name=\"...\"",
            parser->parts);
    } else if (!chp_utf8_valid(name.data, name.len) ||
               !chp_utf8_valid(filename.data, filename.len)) {
        rc = chp_error_set(error, CHP_EMALFORMED, "the name of part %zu of the form is not UTF-8",
                           parser->parts);
    } else {
        rc = parser->callbacks.on_part(parser->callbacks.user, chp_buf_text(&name),
                                       has_filename == 1 ? chp_buf_text(&filename) : NULL, error);
    }
    chp_buf_deinit(&name);
    chp_buf_deinit(&filename);
    return rc;
}

/* The value of a header line that starts with name and a colon, or NULL. */
static char *value_of(char *line, const char *name)
{
    size_t len = strlen(name);
    return strncasecmp(line, name, len) == 0 && line[len] == ':'
               ? line + len + 1 + strspn(line + len + 1, " \t")
               : NULL;
}

static int read_header(struct gateway_multipart *parser, struct chp_error *error)
{
    char *disposition = NULL;
    char *rest = NULL;
    char *text = (char *)parser->header.data;
    parser->parts++;
    if (parser->parts > GATEWAY_MULTIPART_PARTS_MAX) {
        return chp_error_set(error, CHP_ETOOBIG, "the form has more than %d parts",
                             GATEWAY_MULTIPART_PARTS_MAX);
    }
    if (strlen(text) != parser->header.len) {
        return chp_error_set(error, CHP_EMALFORMED,
                             "the header of part %zu of the form has a zero byte", parser->parts);
    }
    for (char *line = strtok_r(text, "\r\n", &rest); line != NULL;
         line = strtok_r(NULL, "\r\n", &rest)) {
        char *encoding = value_of(line, "Content-Transfer-Encoding");
        if (encoding != NULL && strcasecmp(encoding, "binary") != 0 &&
            strcasecmp(encoding, "8bit") != 0 && strcasecmp(encoding, "7bit") != 0) {
            return chp_error_set(
                error, CHP_EINVAL,
                "Content-Transfer-Encoding of part %zu of the form may only be binary",
                parser->parts);
        }
        if (disposition == NULL) {
            disposition = value_of(line, "Content-Disposition");
        }
    }
    return begin_part(parser, disposition != NULL ? disposition : "", error);
}

static bool header_complete(const struct chp_buf *header)
{
    const uint8_t *end = header->data + header->len;
    return (header->len == 2 && memcmp(end - 2, "\r\n", 2) == 0) ||
           (header->len >= 4 && memcmp(end - 4, "\r\n\r\n", 4) == 0);
}

static int take_header_byte(struct gateway_multipart *parser, uint8_t byte, struct chp_error *error)
{
    chp_buf_add_byte(&parser->header, byte);
    if (!header_complete(&parser->header)) {
        return parser->header.len <= GATEWAY_MULTIPART_HEADER_MAX_BYTES
                   ? 0
                   : chp_error_set(error, CHP_EMALFORMED,
                                   "the header of a part of the form is over %d bytes",
                                   GATEWAY_MULTIPART_HEADER_MAX_BYTES);
    }
    int rc = read_header(parser, error);
    chp_buf_clear(&parser->header);
    parser->state = STATE_DATA;
    parser->matched = parser->implied = 2; /* the header's end is that of an empty part, too */
    return rc;
}

/* --- content ----------------------------------------------------------------------------- */

static int emit(struct gateway_multipart *parser, const void *data, size_t len,
                struct chp_error *error)
{
    if (len == 0) {
        return 0;
    }
    if (parser->state == STATE_DATA) {
        return parser->callbacks.on_data(parser->callbacks.user, data, len, error);
    }
    parser->preamble_bytes += len;
    return parser->preamble_bytes <= GATEWAY_MULTIPART_PREAMBLE_MAX_BYTES
               ? 0
               : chp_error_set(error, CHP_EMALFORMED, "the form does not begin with its boundary");
}

static int delimiter_found(struct gateway_multipart *parser, struct chp_error *error)
{
    enum state was = parser->state;
    parser->matched = parser->implied = 0;
    parser->state = STATE_LINE;
    return was == STATE_DATA ? parser->callbacks.on_end(parser->callbacks.user, error) : 0;
}

/* Takes bytes of a preamble or a part up to a delimiter; *taken says how many. */
static int take_content(struct gateway_multipart *parser, const uint8_t *data, size_t len,
                        size_t *taken, struct chp_error *error)
{
    size_t at = 0;
    int rc = 0;
    while (rc == 0 && at < len) {
        if (parser->matched == 0) {
            const uint8_t *cr = memchr(data + at, '\r', len - at);
            size_t span = cr != NULL ? (size_t)(cr - (data + at)) : len - at;
            rc = emit(parser, data + at, span, error);
            at += span;
            if (cr != NULL) {
                parser->matched = 1;
                at++;
            }
        } else if (data[at] == (uint8_t)parser->delimiter[parser->matched]) {
            parser->matched++;
            at++;
            if (parser->matched == parser->delimiter_len) {
                *taken = at;
                return delimiter_found(parser, error);
            }
        } else {
            size_t implied = parser->implied;
            size_t matched = parser->matched;
            parser->matched = parser->implied = 0;
            rc = emit(parser, parser->delimiter + implied, matched - implied, error);
        }
    }
    *taken = at;
    return rc;
}

static int take_line_byte(struct gateway_multipart *parser, uint8_t byte, struct chp_error *error)
{
    if (parser->state == STATE_LINE_DASH && byte == '-') {
        parser->state = STATE_EPILOGUE;
    } else if (parser->state == STATE_LINE_CR && byte == '\n') {
        parser->state = STATE_HEADER;
    } else if (parser->state == STATE_LINE && byte == '-') {
        parser->state = STATE_LINE_DASH;
    } else if (parser->state == STATE_LINE && byte == '\r') {
        parser->state = STATE_LINE_CR;
    } else if (parser->state != STATE_LINE || (byte != ' ' && byte != '\t')) {
        return chp_error_set(error, CHP_EMALFORMED,
                             "a boundary line of the form goes on with other text");
    }
    return 0;
}

/* --- the whole --------------------------------------------------------------------------- */

static int step(struct gateway_multipart *parser, const uint8_t *data, size_t len, size_t *taken,
                struct chp_error *error)
{
    *taken = 1;
    switch (parser->state) {
    case STATE_PREAMBLE:
    case STATE_DATA:
        return take_content(parser, data, len, taken, error);
    case STATE_LINE:
    case STATE_LINE_CR:
    case STATE_LINE_DASH:
        return take_line_byte(parser, *data, error);
    case STATE_HEADER:
        return take_header_byte(parser, *data, error);
    case STATE_EPILOGUE:
        *taken = len;
        return 0;
    case STATE_FAILED:
        break;
    }
    return chp_error_set(error, parser->failure.code, "%s", parser->failure.text);
}

int gateway__multipart_feed(struct gateway_multipart *parser, const void *data, size_t len,
                            struct chp_error *error)
{
    const uint8_t *at = data;
    while (len > 0) {
        size_t taken = 0;
        struct chp_error detail = {0};
        int rc = step(parser, at, len, &taken, &detail);
        if (rc != 0) {
            parser->state = STATE_FAILED;
            parser->failure = detail;
            parser->failure.code = rc;
            return chp_error_set(error, rc, "%s", detail.text);
        }
        CHP_ASSERT(taken > 0 && taken <= len);
        at += taken;
        len -= taken;
    }
    return 0;
}

int gateway__multipart_finish(struct gateway_multipart *parser, struct chp_error *error)
{
    if (parser->state == STATE_FAILED) {
        return chp_error_set(error, parser->failure.code, "%s", parser->failure.text);
    }
    if (parser->state != STATE_EPILOGUE) {
        return chp_error_set(error, CHP_EMALFORMED, "the form ends before its closing boundary");
    }
    return 0;
}
