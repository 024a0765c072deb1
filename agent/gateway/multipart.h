/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * multipart/form-data (RFC 7578) as a push parser: bytes go in as they arrive, in pieces of any
 * size, parts come out. It does no I/O and holds at most one part's header and one boundary; what
 * the parts' contents become is the caller's.
 */
#ifndef CHP_GATEWAY_MULTIPART_H
#define CHP_GATEWAY_MULTIPART_H

#include "base/buf.h"

enum {
    GATEWAY_MULTIPART_BOUNDARY_MAX_BYTES = 70,     /* RFC 2046 */
    GATEWAY_MULTIPART_HEADER_MAX_BYTES = 8 * 1024, /* of one part */
    GATEWAY_MULTIPART_PREAMBLE_MAX_BYTES = 4 * 1024,
    GATEWAY_MULTIPART_PARTS_MAX = 128,
};

struct gateway_multipart;

/* Each returns 0, or a negative code with *error, which ends the parsing. */
struct gateway_multipart_callbacks {
    void *user;
    /* filename is NULL when the part has none; both are UTF-8 without NUL, valid during the call.
     */
    int (*on_part)(void *user, const char *name, const char *filename, struct chp_error *error);
    int (*on_data)(void *user, const void *data, size_t len, struct chp_error *error);
    int (*on_end)(void *user, struct chp_error *error);
};

/* content_type is the header's value: multipart/form-data with a boundary. CHP_EINVAL otherwise. */
int gateway__multipart_new(const char *content_type,
                           const struct gateway_multipart_callbacks *callbacks,
                           struct gateway_multipart **parser,
                           struct chp_error *error) CHP_MUST_CHECK;
/* After an error every further call returns it again. */
int gateway__multipart_feed(struct gateway_multipart *parser, const void *data, size_t len,
                            struct chp_error *error) CHP_MUST_CHECK;
/* The body is over: CHP_EMALFORMED when the closing boundary has not been seen. */
int gateway__multipart_finish(struct gateway_multipart *parser,
                              struct chp_error *error) CHP_MUST_CHECK;
void gateway__multipart_free(struct gateway_multipart *parser);

#endif
