/* SPDX-License-Identifier: AGPL-3.0-only */
/* Server-sent events (the EventSource format of HTML). */
#include "gateway/internal.h"

#include <string.h>

void gateway__sse_start(struct gateway_exchange *exchange)
{
    static const char hello[] = "retry: 2000\n\n";
    exchange->heartbeat = true;
    gateway__stream_start(exchange, "text/event-stream");
    (void)gateway__stream_write(exchange, hello, sizeof hello - 1);
}

bool gateway__sse_write(struct gateway_exchange *exchange, const char *name, uint64_t number,
                        const char *json)
{
    struct chp_buf out = {0};
    if (number > 0) {
        chp_buf_printf(&out, "id: %llu\n", (unsigned long long)number);
    }
    if (name != NULL) {
        chp_buf_printf(&out, "event: %s\n", name);
    }
    chp_buf_add_text(&out, "data: ");
    size_t start = out.len;
    chp_buf_add_text(&out, json);
    for (size_t i = start; i < out.len; i++) {
        /* Outside strings a line's end is blank space, and inside it is escaped. */
        if (out.data[i] == '\n' || out.data[i] == '\r') {
            out.data[i] = ' ';
        }
    }
    chp_buf_add_text(&out, "\n\n");
    bool written = gateway__stream_write(exchange, out.data, out.len);
    chp_buf_deinit(&out);
    return written;
}
