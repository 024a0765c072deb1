/* SPDX-License-Identifier: AGPL-3.0-only */
/* JSON <-> what the agent takes and gives; schema/openapi.json describes the shapes. */
#ifndef CHP_GATEWAY_JSON_H
#define CHP_GATEWAY_JSON_H

#include "port/agent.h"
#include "wire/payload.h"

enum { GATEWAY_JSON_DEPTH_MAX = 32 };

/* Parses a JSON object: depth bounded, no duplicate keys, no NUL in strings. New reference, or NULL
 * with *error. */
json_t *gateway__json_parse(const void *data, size_t len, struct chp_error *error);
/* CHP_EINVAL when object has a field that is not among names; *error tells what is allowed. what
 * names the object. */
int gateway__json_fields_check(const json_t *object, const char *what, const char *const *names,
                               size_t count, struct chp_error *error) CHP_MUST_CHECK;

/* The body of POST /v1/operations. Fills all but id, key, principal and the AMQP fields; everything
 * is allocated in arena. Files that are too big to travel inline become blobs, and blobs that are
 * named must be there. */
int gateway__request_from_json(const struct chp_agent_port *port, const json_t *body,
                               struct chp_arena *arena, struct chp_request *request,
                               struct chp_error *error) CHP_MUST_CHECK;
/* The driver's check of what a request wants done, and of what takes it back. */
int gateway__request_check(const struct chp_agent_port *port, const struct chp_request *request,
                           struct chp_error *error) CHP_MUST_CHECK;
/* The body of a show: command or http, timeout_ms. Fills driver, payload, deadline_ms. */
int gateway__show_from_json(const json_t *body, struct chp_arena *arena, struct chp_show *show,
                            struct chp_error *error) CHP_MUST_CHECK;
/* The body of a diff that reads nothing: timeout_ms. */
int gateway__ask_from_json(const json_t *body, uint64_t *deadline_ms,
                           struct chp_error *error) CHP_MUST_CHECK;
/* The body of a plan: type, timeout_ms, and command or http with undo, which may be left out:
 * driver is then NULL. */
int gateway__plan_from_json(const json_t *body, struct chp_arena *arena,
                            struct chp_request *request, uint64_t *deadline_ms,
                            struct chp_error *error) CHP_MUST_CHECK;
/* sh -c command, as a payload in arena. */
int gateway__payload_of_shell(const char *command, struct chp_arena *arena,
                              struct chp_bytes *payload, struct chp_error *error) CHP_MUST_CHECK;
/* A JSON object as compact text in arena, at most CHP_CONFIG_MAX_BYTES. */
int gateway__config_text(const json_t *config, struct chp_arena *arena, const char **text,
                         struct chp_error *error) CHP_MUST_CHECK;

/* A site result of an operation. New reference. */
json_t *gateway__json_of_ack(const struct chp_ack *ack, uint64_t elapsed_ms);
json_t *gateway__json_of_answer(const struct chp_answer *answer);
json_t *gateway__json_of_reply(const struct chp_reply *reply);
/* UTF-8 text, or NULL for null. */
json_t *gateway__json_text(const char *text);
json_t *gateway__json_strings(const char *const *texts, size_t count);
/* Standard base64. */
int gateway__base64_decode(const char *text, size_t len, struct chp_buf *out) CHP_MUST_CHECK;
void gateway__base64_encode(const void *data, size_t len, struct chp_buf *out);

#endif
