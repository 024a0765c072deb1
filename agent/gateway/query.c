/* SPDX-License-Identifier: AGPL-3.0-only */
/* Answers that are what the database made of its committed state. */
#include "gateway/internal.h"

#include <stdio.h>
#include <string.h>

static void query_on_answer(void *user, int code, const char *json, const struct chp_error *error)
{
    struct gateway_exchange *exchange = gateway__exchange_of(user);
    if (exchange == NULL) {
        return;
    }
    if (code != 0) {
        gateway__reply_error(exchange, 0, code, error != NULL ? error->text : NULL);
    } else if (json == NULL) {
        char text[CHP_ERROR_TEXT_BYTES];
        (void)snprintf(text, sizeof text, "this site holds nothing under the id \"%s\"",
                       exchange->wanted);
        gateway__reply_error(exchange, 0, CHP_ENOTFOUND, text);
    } else {
        gateway__reply_text(exchange, 200, "application/json", json, strlen(json));
    }
}

void gateway__query_reply(struct gateway_exchange *exchange, enum chp_query query,
                          const char *const *params, size_t count)
{
    struct chp_agent_port *port = &exchange->door->port;
    exchange->asked = true;
    exchange->wanted = count > 0 ? chp_arena_strdup(&exchange->arena, params[0]) : "";
    port->vtable->query(port->agent, query, params, count, query_on_answer, exchange);
}
