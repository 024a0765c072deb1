/* SPDX-License-Identifier: AGPL-3.0-only */
/* /v1/doctor: what the database and the broker know is asked of each, then the agent judges. Either
 * may be what is wrong, so none is needed for an answer. */
#include "gateway/internal.h"

#include "base/mem.h"

#include <string.h>

struct doctor {
    struct gateway_exchange *exchange; /* NULL when it is gone */
    json_t *streams;
    json_t *troubled;
    bool dead_asked; /* that cannot be cancelled */
};

static void doctor_free(struct doctor *doctor)
{
    json_decref(doctor->streams);
    json_decref(doctor->troubled);
    free(doctor);
}

static void doctor_forget(void *state)
{
    struct doctor *doctor = state;
    doctor->exchange = NULL;
    if (!doctor->dead_asked) {
        doctor_free(doctor);
    }
}

static void answer(struct gateway_exchange *exchange, const struct chp_doctor_facts *facts)
{
    struct chp_agent_port *port = &exchange->door->port;
    json_t *checks = port->vtable->doctor(port->agent, facts);
    bool ok = true;
    size_t i;
    json_t *check;
    json_array_foreach(checks, i, check)
    {
        ok = ok && json_is_true(json_object_get(check, "ok"));
    }
    gateway__reply_json(exchange, 200, json_pack("{s:b, s:o}", "ok", (int)ok, "checks", checks));
}

static json_t *reasons(const struct chp_dead_letter *letters, size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        (void)json_array_append_new(
            list, json_pack("{s:o}", "reason", gateway__json_text(letters[i].reason)));
    }
    return list;
}

static void doctor_on_dead(void *user, int code, const struct chp_dead_letter *letters,
                           size_t count, const struct chp_error *error)
{
    struct doctor *doctor = user;
    struct gateway_exchange *exchange =
        doctor->exchange != NULL ? gateway__exchange_of(doctor->exchange) : NULL;
    (void)error;
    if (doctor->exchange != NULL) {
        doctor->exchange->state = NULL;
    }
    if (exchange != NULL) {
        json_t *dead = code == 0 ? reasons(letters, count) : NULL;
        struct chp_doctor_facts facts = {
            .streams = doctor->streams, .dead = dead, .troubled = doctor->troubled};
        answer(exchange, &facts);
        json_decref(dead);
    }
    doctor_free(doctor);
}

static json_t *parsed(int code, const char *text)
{
    return code == 0 && text != NULL ? json_loads(text, 0, NULL) : NULL;
}

static void doctor_on_troubled(void *user, int code, const char *text,
                               const struct chp_error *error)
{
    struct gateway_exchange *exchange = gateway__exchange_of(user);
    (void)error;
    if (exchange == NULL) {
        return;
    }
    struct doctor *doctor = exchange->state;
    struct chp_agent_port *port = &exchange->door->port;
    doctor->troubled = parsed(code, text);
    doctor->dead_asked = true;
    port->vtable->dead(port->agent, CHP_DEAD_LIST, NULL, doctor_on_dead, doctor);
}

static void doctor_on_streams(void *user, int code, const char *text, const struct chp_error *error)
{
    struct gateway_exchange *exchange = gateway__exchange_of(user);
    (void)error;
    if (exchange == NULL) {
        return;
    }
    struct doctor *doctor = exchange->state;
    struct chp_agent_port *port = &exchange->door->port;
    doctor->streams = parsed(code, text);
    exchange->asked = true;
    port->vtable->query(port->agent, CHP_QUERY_TROUBLED, NULL, 0, doctor_on_troubled, exchange);
}

void gateway__doctor(struct gateway_exchange *exchange)
{
    struct chp_agent_port *port = &exchange->door->port;
    struct doctor *doctor = chp_alloc(sizeof *doctor);
    doctor->exchange = exchange;
    exchange->state = doctor;
    exchange->state_free = doctor_forget;
    exchange->asked = true;
    port->vtable->query(port->agent, CHP_QUERY_SITES, NULL, 0, doctor_on_streams, exchange);
}
