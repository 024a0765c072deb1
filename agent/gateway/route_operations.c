/* SPDX-License-Identifier: AGPL-3.0-only */
/* /v1/operations: the way in, and what became of what entered. */
#include "gateway/internal.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

/* How the answer to a new operation is wanted. */
struct wait_options {
    bool wait;
    struct gateway_watch_options watch;
};

static int read_options(struct gateway_exchange *exchange, struct wait_options *options)
{
    options->watch.language = GATEWAY_LINES;
    options->watch.timeout_ms = GATEWAY_WAIT_DEFAULT_MS;
    if (gateway__param_flag(exchange, "wait", &options->wait) != 0 ||
        gateway__param_flag(exchange, "progress", &options->watch.progress) != 0 ||
        gateway__param_number(exchange, "timeout_ms", 1, CHP_DEADLINE_MAX_MS,
                              &options->watch.timeout_ms) != 0) {
        return CHP_EINVAL;
    }
    return 0;
}

static void create_on_reply(void *user, const struct chp_reply *reply)
{
    struct gateway_exchange *exchange = gateway__exchange_of(user);
    if (exchange == NULL) {
        return;
    }
    if (reply->code != 0) {
        gateway__reply_error(exchange, 0, reply->code, reply->error);
        return;
    }
    struct wait_options *options = exchange->state;
    if (!options->wait) {
        gateway__reply_json(exchange, 202, gateway__json_of_reply(reply));
        return;
    }
    struct gateway_watch_options watch = options->watch;
    exchange->state = NULL; /* the watch's from here */
    free(options);
    gateway__watch_reply(exchange, reply, &watch);
}

void gateway__operation_create(struct gateway_exchange *exchange)
{
    struct chp_agent_port *port = &exchange->door->port;
    struct chp_request request = {.id = chp_uuid_new(), .principal = exchange->principal};
    struct chp_error error = {0};
    struct wait_options *options = chp_alloc(sizeof *options);
    exchange->state = options;
    exchange->state_free = free;
    if (read_options(exchange, options) != 0 || gateway__request_key(exchange, &request) != 0) {
        return;
    }
    json_t *body = gateway__body_json(exchange);
    if (body == NULL) {
        return;
    }
    int rc = gateway__request_from_json(port, body, &exchange->arena, &request, &error);
    json_decref(body);
    if (rc == 0) {
        rc = gateway__request_check(port, &request, &error);
    }
    if (rc != 0) {
        gateway__refuse(exchange, 0, rc, "%s", error.text);
        return;
    }
    exchange->asked = true;
    port->vtable->submit(port->agent, &request, create_on_reply, exchange);
}

void gateway__operation_list(struct gateway_exchange *exchange)
{
    const char *resource = gateway__param(exchange, "resource");
    const char *state = gateway__param(exchange, "state");
    const char *site = gateway__param(exchange, "site");
    const char *before = gateway__param(exchange, "before");
    struct chp_error error = {0};
    uint64_t limit = GATEWAY_PAGE_DEFAULT;
    enum chp_state parsed;
    struct chp_uuid id;
    if (state != NULL && chp_state_parse(state, &parsed) != 0) {
        gateway__refuse(exchange, 0, CHP_EINVAL, "state \"%.60s\" is not known: see /openapi.json",
                        state);
    } else if (site != NULL && chp_site_name_check(site, &error) != 0) {
        gateway__refuse(exchange, 0, CHP_EINVAL, "%s", error.text);
    } else if (before != NULL && chp_uuid_parse(before, &id) != 0) {
        gateway__refuse(exchange, 0, CHP_EINVAL, "before must be an operation's id");
    } else if (gateway__param_number(exchange, "limit", 1, GATEWAY_PAGE_MAX, &limit) == 0) {
        const char *params[] = {
            resource ? resource : "", state ? state : "", before ? before : "",
            chp_arena_printf(&exchange->arena, "%llu", (unsigned long long)limit),
            site ? site : ""};
        gateway__query_reply(exchange, CHP_QUERY_OPERATIONS, params, 5);
    }
}

/* The operation's id of the path, in its one form. */
static int path_operation(struct gateway_exchange *exchange, struct chp_uuid *id)
{
    if (chp_uuid_parse(exchange->id, id) != 0) {
        gateway__refuse(exchange, 0, CHP_EINVAL, "\"%.60s\" is not an operation's id",
                        exchange->id);
        return CHP_EINVAL;
    }
    return 0;
}

void gateway__operation_get(struct gateway_exchange *exchange)
{
    struct chp_uuid id;
    if (path_operation(exchange, &id) == 0) {
        char text[CHP_UUID_TEXT_BYTES];
        chp_uuid_format(&id, text);
        const char *params[] = {text};
        gateway__query_reply(exchange, CHP_QUERY_OPERATION, params, 1);
    }
}

void gateway__operation_watch(struct gateway_exchange *exchange)
{
    struct gateway_watch_options options = {.language = GATEWAY_SSE};
    struct chp_uuid id;
    if (path_operation(exchange, &id) == 0 &&
        gateway__param_flag(exchange, "progress", &options.progress) == 0) {
        gateway__watch_known(exchange, &id, &options);
    }
}

/* What the body of a resolve says: the site, which is allocated in the exchange's arena, and how.
 */
static int read_resolve(struct gateway_exchange *exchange, const char **site,
                        enum chp_resolution *resolution, struct chp_error *error)
{
    static const char *const fields[] = {"site", "resolution"};
    json_t *body = gateway__body_json(exchange);
    if (body == NULL) {
        return CHP_EMALFORMED; /* refused already: the first refusal counts */
    }
    const char *how = json_string_value(json_object_get(body, "resolution"));
    *site = chp_arena_strdup(&exchange->arena, json_string_value(json_object_get(body, "site")));
    int rc = gateway__json_fields_check(body, "the body", fields, 2, error);
    if (rc == 0 && *site == NULL) {
        rc = chp_error_set(error, CHP_EINVAL, "field \"site\" is missing or no string");
    }
    if (rc == 0) {
        rc = chp_site_name_check(*site, error);
    }
    if (rc == 0 && (how == NULL || chp_resolution_parse(how, resolution) != 0)) {
        rc = chp_error_set(
            error, CHP_EINVAL,
            "field \"resolution\" must be \"done\", \"failed\" or \"rerun\"; or, for the "
            "replica that the operation is of, \"rebuild\" or \"rebuild-empty\"");
    }
    json_decref(body);
    return rc;
}

/* Kept until the answer. */
struct resolve_state {
    const char *site;
    enum chp_resolution resolution;
};

static void resolve_on_done(void *user, int code, const char *error)
{
    struct gateway_exchange *exchange = gateway__exchange_of(user);
    if (exchange == NULL) {
        return;
    }
    if (code != 0) {
        gateway__reply_error(exchange, 0, code, error);
        return;
    }
    const struct resolve_state *state = exchange->state;
    gateway__reply_json(exchange, 200,
                        json_pack("{s:s, s:s, s:s}", "operation", exchange->id, "site", state->site,
                                  "resolution", chp_resolution_name(state->resolution)));
}

void gateway__operation_resolve(struct gateway_exchange *exchange)
{
    struct chp_agent_port *port = &exchange->door->port;
    struct chp_resolve resolve = {.id = chp_uuid_new(), .principal = exchange->principal};
    struct chp_error error = {0};
    uint64_t timeout_ms = GATEWAY_RESOLVE_TIMEOUT_MS;
    struct resolve_state *state = chp_alloc(sizeof *state);
    exchange->state = state;
    exchange->state_free = free;
    if (path_operation(exchange, &resolve.operation) != 0 ||
        gateway__param_number(exchange, "timeout_ms", 1, CHP_DEADLINE_MAX_MS, &timeout_ms) != 0) {
        return;
    }
    int rc = read_resolve(exchange, &state->site, &state->resolution, &error);
    if (rc != 0) {
        gateway__refuse(exchange, 0, rc, "%s", error.text);
        return;
    }
    char id[CHP_UUID_TEXT_BYTES];
    chp_uuid_format(&resolve.operation, id);
    exchange->id = chp_arena_strdup(&exchange->arena, id);
    exchange->asked = true;
    resolve.resolution = state->resolution;
    port->vtable->resolve(port->agent, &resolve, state->site, timeout_ms, resolve_on_done,
                          exchange);
}
