/* SPDX-License-Identifier: AGPL-3.0-only */
/* Input: a line with the content type, then the body. What comes out must not depend on the pieces
 * that go in. */
#include "gateway/multipart.h"

#include <string.h>

struct trace {
    struct chp_buf text;
    bool open; /* in a part */
};

static int trace_on_part(void *user, const char *name, const char *filename,
                         struct chp_error *error)
{
    struct trace *trace = user;
    (void)error;
    CHP_ASSERT(!trace->open);
    CHP_ASSERT(chp_utf8_valid(name, strlen(name)) && name[0] != '\0');
    trace->open = true;
    chp_buf_printf(&trace->text, "[%s|%s]", name, filename != NULL ? filename : "-");
    return 0;
}

static int trace_on_data(void *user, const void *data, size_t len, struct chp_error *error)
{
    struct trace *trace = user;
    (void)error;
    CHP_ASSERT(trace->open && len > 0);
    chp_buf_add(&trace->text, data, len);
    return 0;
}

static int trace_on_end(void *user, struct chp_error *error)
{
    struct trace *trace = user;
    (void)error;
    CHP_ASSERT(trace->open);
    trace->open = false;
    chp_buf_add_text(&trace->text, ";");
    return 0;
}

static int parse(const char *type, const uint8_t *body, size_t len, size_t piece,
                 struct trace *trace)
{
    struct gateway_multipart_callbacks callbacks = {trace, trace_on_part, trace_on_data,
                                                    trace_on_end};
    struct gateway_multipart *parser;
    struct chp_error error = {0};
    int rc = gateway__multipart_new(type, &callbacks, &parser, &error);
    for (size_t at = 0; rc == 0 && at < len; at += piece) {
        rc =
            gateway__multipart_feed(parser, body + at, piece < len - at ? piece : len - at, &error);
    }
    rc = rc != 0 ? rc : gateway__multipart_finish(parser, &error);
    CHP_ASSERT(rc == 0 || error.text[0] != '\0');
    CHP_ASSERT(rc != 0 || !trace->open);
    gateway__multipart_free(parser);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *line_end = memchr(data, '\n', size);
    char type[256];
    size_t type_len = line_end != NULL ? (size_t)(line_end - data) : 0;
    if (line_end == NULL || type_len >= sizeof type) {
        return 0;
    }
    memcpy(type, data, type_len);
    type[type_len] = '\0';
    const uint8_t *body = line_end + 1;
    size_t len = size - type_len - 1;
    struct trace whole = {0};
    int rc = parse(type, body, len, len + 1, &whole);
    static const size_t pieces[] = {1, 2, 7};
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        struct trace other = {0};
        CHP_ASSERT(parse(type, body, len, pieces[i], &other) == rc);
        CHP_ASSERT(chp_bytes_equal(chp_buf_bytes(&whole.text), chp_buf_bytes(&other.text)));
        chp_buf_deinit(&other.text);
    }
    chp_buf_deinit(&whole.text);
    return 0;
}
