/* SPDX-License-Identifier: AGPL-3.0-only */
/* Server-sent events, line by line. Pure. */
#ifndef CHP_CLI_SSE_H
#define CHP_CLI_SSE_H

#include "base/buf.h"

/* Zero-initialise. */
struct cli_sse {
    struct chp_buf data;
    bool ended; /* data is of an event that was given out */
};

void cli__sse_deinit(struct cli_sse *sse);
/* Takes a line without its end. True when it ends an event that has data, which is then in
 * sse->data until the next line. Data over max_bytes is dropped with its event. */
bool cli__sse_line(struct cli_sse *sse, const char *line, size_t len, size_t max_bytes);

#endif
