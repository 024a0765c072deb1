/* SPDX-License-Identifier: AGPL-3.0-only */
/* Payloads that drivers take, as msgpack. The engine passes them on unread. */
#ifndef CHP_WIRE_PAYLOAD_H
#define CHP_WIRE_PAYLOAD_H

#include "wire/item.h"

struct chp_command {
    const char **argv; /* argv[0] is the program; NULL-terminated behind argc */
    size_t argc;
};

struct chp_rest {
    const char *service;  /* configured on each site */
    const char *method;   /* upper case */
    const char *path;     /* relative to the service's url, with its query string; no leading '/' */
    const char **headers; /* "Name: value" */
    size_t header_count;
    struct chp_bytes body;
    const char
        *body_file; /* name of one of the operation's files whose content is the body, or NULL */
};

int chp_command_encode(const struct chp_command *command, struct chp_buf *out,
                       struct chp_error *error) CHP_MUST_CHECK;
int chp_command_decode(struct chp_bytes payload, struct chp_arena *arena,
                       struct chp_command *command, struct chp_error *error) CHP_MUST_CHECK;
int chp_rest_encode(const struct chp_rest *rest, struct chp_buf *out,
                    struct chp_error *error) CHP_MUST_CHECK;
int chp_rest_decode(struct chp_bytes payload, struct chp_arena *arena, struct chp_rest *rest,
                    struct chp_error *error) CHP_MUST_CHECK;
/* CHP_ETOOBIG: the payload has more bytes than one that takes another back may have. */
int chp_undo_check(struct chp_bytes undo, struct chp_error *error) CHP_MUST_CHECK;
/* One line for people, cut at 200 bytes: the command quoted for a shell, or "PUT
 * inventory/items/7". Never fails: says so when the payload cannot be read. */
char *chp_payload_summary(const char *driver, struct chp_bytes payload, struct chp_arena *arena);
/* The same of an operation: "touch /tmp/a (undo: rm /tmp/a)", each of the two cut at 200 bytes. */
char *chp_operation_summary(const char *driver, struct chp_bytes payload, struct chp_bytes undo,
                            struct chp_arena *arena);

#endif
