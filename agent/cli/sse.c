/* SPDX-License-Identifier: AGPL-3.0-only */
/* Only data matters to this client: the objects say themselves what they are, and numbers are in
 * them. */
#include "cli/sse.h"

#include <string.h>

void cli__sse_deinit(struct cli_sse *sse)
{
    chp_buf_deinit(&sse->data);
}

bool cli__sse_line(struct cli_sse *sse, const char *line, size_t len, size_t max_bytes)
{
    static const char field[] = "data:";
    if (sse->ended) {
        chp_buf_clear(&sse->data);
        sse->ended = false;
    }
    if (len == 0) {
        sse->ended = true;
        return sse->data.len > 0 && sse->data.len <= max_bytes;
    }
    if (len < sizeof field - 1 || memcmp(line, field, sizeof field - 1) != 0) {
        return false;
    }
    size_t skip = sizeof field - 1;
    skip += skip < len && line[skip] == ' ' ? 1 : 0;
    if (sse->data.len > 0) {
        chp_buf_add_byte(&sse->data, '\n');
    }
    if (sse->data.len <= max_bytes) {
        chp_buf_add(&sse->data, line + skip, len - skip);
    }
    return false;
}
