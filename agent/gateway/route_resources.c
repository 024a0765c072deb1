/* SPDX-License-Identifier: AGPL-3.0-only */
/* /v1/resources: what the site holds, and what its replicas look like now. */
#include "gateway/internal.h"

#include <string.h>

static const char *limit_text(struct gateway_exchange *exchange, uint64_t limit)
{
    return chp_arena_printf(&exchange->arena, "%llu", (unsigned long long)limit);
}

static int path_resource(struct gateway_exchange *exchange)
{
    struct chp_error error = {0};
    int rc = chp_resource_id_check(exchange->id, &error);
    if (rc != 0) {
        gateway__refuse(exchange, 0, rc, "%s", error.text);
    }
    return rc;
}

void gateway__resource_list(struct gateway_exchange *exchange)
{
    const char *after = gateway__param(exchange, "after");
    uint64_t limit = GATEWAY_PAGE_DEFAULT;
    if (gateway__param_number(exchange, "limit", 1, GATEWAY_PAGE_MAX, &limit) == 0) {
        const char *params[] = {after != NULL ? after : "", limit_text(exchange, limit)};
        gateway__query_reply(exchange, CHP_QUERY_RESOURCES, params, 2);
    }
}

void gateway__resource_get(struct gateway_exchange *exchange)
{
    if (path_resource(exchange) == 0) {
        const char *params[] = {exchange->id};
        gateway__query_reply(exchange, CHP_QUERY_RESOURCE, params, 1);
    }
}

static void history_on_answer(void *user, int code, json_t *json, const struct chp_error *error)
{
    struct gateway_exchange *exchange = gateway__exchange_of(user);
    if (exchange == NULL) {
        return;
    }
    if (code != 0) {
        gateway__reply_error(exchange, 0, code, error->text);
    } else {
        gateway__reply_json(exchange, 200, json_incref(json));
    }
}

void gateway__resource_history(struct gateway_exchange *exchange)
{
    struct chp_agent_port *port = &exchange->door->port;
    uint64_t limit = GATEWAY_HISTORY_DEFAULT;
    if (path_resource(exchange) == 0 &&
        gateway__param_number(exchange, "limit", 1, GATEWAY_HISTORY_MAX, &limit) == 0) {
        exchange->asked = true;
        port->vtable->history(port->agent, exchange->id, (size_t)limit, history_on_answer,
                              exchange);
    }
}

static void show_done(struct gateway_exchange *exchange, json_t *answers)
{
    json_t *json = json_object();
    (void)json_object_set_new(json, "resource", gateway__json_text(exchange->id));
    (void)json_object_set(json, "sites", answers);
    json_t *groups = gateway__answer_groups(answers, &exchange->arena);
    (void)json_object_set_new(json, "differ", json_boolean(json_array_size(groups) > 1));
    json_decref(groups);
    gateway__reply_json(exchange, 200, json);
}

void gateway__resource_show(struct gateway_exchange *exchange)
{
    struct chp_show show = {.deadline_ms = GATEWAY_EXEC_TIMEOUT_MS};
    struct chp_error error = {0};
    json_t *body = gateway__body_json(exchange);
    if (body == NULL) {
        return;
    }
    int rc = gateway__show_from_json(body, &exchange->arena, &show, &error);
    json_decref(body);
    if (rc != 0) {
        gateway__refuse(exchange, 0, rc, "%s", error.text);
        return;
    }
    gateway__show(exchange, &show, show_done);
}
