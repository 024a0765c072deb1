/* SPDX-License-Identifier: AGPL-3.0-only */
/* What enters through a door (design 4.1), and what goes back to who asked. */
#ifndef CHP_WIRE_REQUEST_H
#define CHP_WIRE_REQUEST_H

#include "wire/item.h"

/* One change asked of a resource, before it is admitted. Borrowed from whoever built it. */
struct chp_request {
    struct chp_uuid id; /* of the operation that this may become; made by the door */
    const char *key;    /* idempotency key; never NULL (the HTTP door makes one) */
    bool key_given;     /* by the client: looked up before admission */
    const char *principal;
    const char *resource;
    const char *type;
    const char *scope; /* NULL: the resource's own */
    enum chp_level level;
    bool level_given;
    const char *driver;
    struct chp_bytes payload;
    struct chp_bytes undo; /* payload that takes its effect back; or empty */
    struct chp_file *files;
    size_t file_count;
    const char *config;   /* resolution matrix as JSON text, or NULL */
    uint64_t deadline_ms; /* 0: CHP_DEADLINE_DEFAULT_MS */
    const char *reply_to; /* AMQP only, else NULL */
    const char *correlation_id;
    const char *warning; /* what the door's checks noted, to be told with the answer; or NULL */
};

/* Answer to a request. On error nothing was admitted. */
struct chp_reply {
    int code;           /* 0 or CHP_E* */
    const char *error;  /* sentence, when code != 0 */
    struct chp_uuid id; /* of the operation: of the first one, when the key was known already */
    bool duplicate;     /* the key was known with the same content: nothing new was admitted */
    const char *resource;
    const char *scope;
    const char **members;
    size_t member_count;
    const char *warning; /* or NULL */
};

/* Something new about one operation at one site, or about the whole. Committed before it is told.
 */
struct chp_notice {
    struct chp_uuid operation;
    const char *resource;
    bool completed;  /* every member has answered: the fields of one site are then not set */
    bool failed;     /* with completed: at least one member did not end as done */
    size_t answered; /* members that have answered so far */
    size_t member_count;
    struct chp_ack ack;  /* operation, site, run, state, ... */
    uint64_t elapsed_ms; /* since the operation entered, at the origin */
};

/* A request from the AMQP door: msgpack map, see schema/wire.md. Sets all but id, principal,
 * reply_to, correlation_id and warning; key is NULL when the body has none. */
int chp_request_decode(struct chp_bytes body, struct chp_arena *arena, struct chp_request *request,
                       struct chp_error *error) CHP_MUST_CHECK;
/* What the AMQP door sends to reply_to: {"kind": "accepted" | "refused" | "result" | "completed",
 * ...}. */
void chp_reply_encode(const struct chp_reply *reply, struct chp_buf *out);
void chp_notice_encode(const struct chp_notice *notice, struct chp_buf *out);
/* Hash of what the client asked, so that the same key with other content is noticed. */
struct chp_sha256 chp_request_hash(const struct chp_request *request);

#endif
