/* SPDX-License-Identifier: AGPL-3.0-only */
/* Answers that are what the database made of its committed state. */
#include "gateway/internal.h"

#include "base/clock.h"

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

void gateway__retry_init(struct chp_backoff *backoff)
{
    uint64_t seed;
    chp_random(&seed, sizeof seed);
    chp_backoff_init(backoff, GATEWAY_RETRY_FIRST_MS / 4, GATEWAY_RETRY_FIRST_MS,
                     GATEWAY_RETRY_MAX_MS, seed);
}

void gateway__retry_later(struct event *event, struct chp_backoff *backoff)
{
    uint64_t ms = chp_backoff_next_ms(backoff);
    struct timeval pause = {.tv_sec = (time_t)(ms / 1000),
                            .tv_usec = (suseconds_t)(ms % 1000 * 1000)};
    CHP_ASSERT(event_add(event, &pause) == 0);
}

void gateway__query_reply(struct gateway_exchange *exchange, enum chp_query query,
                          const char *const *params, size_t count)
{
    struct chp_agent_port *port = &exchange->door->port;
    exchange->asked = true;
    exchange->wanted = count > 0 ? chp_arena_strdup(&exchange->arena, params[0]) : "";
    port->vtable->query(port->agent, query, params, count, query_on_answer, exchange);
}
