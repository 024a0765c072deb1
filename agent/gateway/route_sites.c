/* SPDX-License-Identifier: AGPL-3.0-only */
/* /v1/sites and /v1/scope/explain: what the agent knows of other sites. */
#include "gateway/internal.h"

#include <string.h>

/* Adds what the store knows: how much waits for each site. rows is NULL when the store is away. */
static json_t *merge_sites(json_t *live, const json_t *rows)
{
    size_t i;
    json_t *site;
    json_array_foreach(live, i, site)
    {
        const char *name = json_string_value(json_object_get(site, "site"));
        size_t k;
        json_t *row;
        json_array_foreach((json_t *)(uintptr_t)rows, k, row)
        {
            const char *of = json_string_value(json_object_get(row, "site"));
            if (name != NULL && of != NULL && strcmp(name, of) == 0) {
                (void)json_object_update_missing(site, row);
            }
        }
        json_t *absent = rows != NULL
                             ? json_pack("{s:i, s:n, s:{}}", "waiting", 0, "oldest_at", "marks")
                             : json_pack("{s:n, s:n, s:n}", "waiting", "oldest_at", "marks");
        (void)json_object_update_missing(site, absent);
        json_decref(absent);
    }
    return live;
}

static void sites_on_answer(void *user, int code, const char *text, const struct chp_error *error)
{
    struct gateway_exchange *exchange = gateway__exchange_of(user);
    (void)error;
    if (exchange == NULL) {
        return;
    }
    struct chp_agent_port *port = &exchange->door->port;
    /* Without the store, which sites are up is what one wants to know most. */
    json_t *rows = code == 0 && text != NULL ? json_loads(text, 0, NULL) : NULL;
    json_t *sites = merge_sites(port->vtable->sites(port->agent), rows);
    json_decref(rows);
    gateway__reply_json(exchange, 200, json_pack("{s:o}", "sites", sites));
}

void gateway__site_list(struct gateway_exchange *exchange)
{
    struct chp_agent_port *port = &exchange->door->port;
    exchange->asked = true;
    port->vtable->query(port->agent, CHP_QUERY_SITES, NULL, 0, sites_on_answer, exchange);
}

void gateway__scope_explain(struct gateway_exchange *exchange)
{
    static const char *const fields[] = {"scope"};
    struct chp_agent_port *port = &exchange->door->port;
    struct chp_error error = {0};
    json_t *body = gateway__body_json(exchange);
    if (body == NULL) {
        return;
    }
    const char *scope = json_string_value(json_object_get(body, "scope"));
    int rc = gateway__json_fields_check(body, "the body", fields, 1, &error);
    if (rc == 0 && scope == NULL) {
        rc = chp_error_set(&error, CHP_EINVAL, "field \"scope\" is missing or no string");
    }
    json_t *explained = rc == 0 ? port->vtable->scope_explain(port->agent, scope, &error) : NULL;
    json_decref(body);
    if (explained == NULL) {
        gateway__refuse(exchange, 0, error.code, "%s", error.text);
        return;
    }
    gateway__reply_json(exchange, 200, explained);
}
