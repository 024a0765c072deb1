/* SPDX-License-Identifier: AGPL-3.0-only */
/* POST /v1/blobs: the body went to the writer as it arrived (exchange.c). */
#include "gateway/internal.h"

void gateway__blob_create(struct gateway_exchange *exchange)
{
    struct chp_agent_port *port = &exchange->door->port;
    struct chp_blob_writer *writer = exchange->writer;
    struct chp_sha256 sha256;
    char text[CHP_SHA256_TEXT_BYTES];
    uint64_t size = 0;
    struct chp_error error = {0};
    exchange->writer = NULL;
    int rc = port->vtable->blob_finish(writer, &sha256, &size, &error);
    if (rc != 0) {
        gateway__refuse(exchange, 0, rc, "%s", error.text);
        return;
    }
    chp_sha256_format(&sha256, text);
    gateway__reply_json(exchange, 201,
                        json_pack("{s:s, s:I}", "sha256", text, "size", (json_int_t)size));
}
