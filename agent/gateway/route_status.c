/* SPDX-License-Identifier: AGPL-3.0-only */
/* How the agent is: for load balancers, monitoring, people, and the description of all calls. */
#include "gateway/internal.h"

#include "base/clock.h"

#include <string.h>

void gateway__health(struct gateway_exchange *exchange)
{
    gateway__reply_json(exchange, 200, json_pack("{s:b}", "ok", 1));
}

void gateway__ready(struct gateway_exchange *exchange)
{
    struct chp_agent_port *port = &exchange->door->port;
    struct chp_error error = {0};
    if (port->vtable->ready(port->agent, &error) != 0) {
        gateway__refuse(exchange, 503, CHP_EUNAVAILABLE, "%s", error.text);
        return;
    }
    gateway__reply_json(exchange, 200, json_pack("{s:b}", "ready", 1));
}

void gateway__metrics(struct gateway_exchange *exchange)
{
    struct chp_agent_port *port = &exchange->door->port;
    struct chp_buf out = {0};
    chp_metrics_render(port->vtable->metrics(port->agent), port->vtable->site(port->agent), &out);
    gateway__reply_text(exchange, 200, "text/plain; version=0.0.4; charset=utf-8", out.data,
                        out.len);
    chp_buf_deinit(&out);
}

void gateway__openapi(struct gateway_exchange *exchange)
{
    gateway__reply_text(exchange, 200, "application/json", gateway__openapi_json,
                        gateway__openapi_json_bytes);
}

static void status_on_answer(void *user, int code, const char *text, const struct chp_error *error)
{
    struct gateway_exchange *exchange = gateway__exchange_of(user);
    if (exchange == NULL) {
        return;
    }
    json_t *stored = code == 0 && text != NULL ? json_loads(text, 0, NULL) : NULL;
    if (stored == NULL) {
        gateway__reply_error(exchange, 0, code != 0 ? code : CHP_EINTERNAL,
                             error ? error->text : NULL);
        return;
    }
    struct chp_agent_port *port = &exchange->door->port;
    char started[CHP_TIME_TEXT_BYTES];
    uint64_t uptime_ms = (chp_clock_mono_us() - exchange->door->started_us) / 1000;
    chp_clock_format(chp_clock_wall_ms() - uptime_ms, started);
    json_t *json = json_pack("{s:s, s:s, s:s, s:I}", "agent", CHEOPS_VERSION, "site",
                             port->vtable->site(port->agent), "started_at", started, "uptime_ms",
                             (json_int_t)uptime_ms);
    (void)json_object_update_missing(json, stored);
    json_decref(stored);
    gateway__reply_json(exchange, 200, json);
}

void gateway__status(struct gateway_exchange *exchange)
{
    struct chp_agent_port *port = &exchange->door->port;
    exchange->asked = true;
    port->vtable->query(port->agent, CHP_QUERY_STATUS, NULL, 0, status_on_answer, exchange);
}
