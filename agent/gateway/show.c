/* SPDX-License-Identifier: AGPL-3.0-only */
/* A reading command on every site of a resource: collects the answers until all are in or the time
 * is over. */
#include "gateway/internal.h"

#include "base/mem.h"

#include <string.h>

struct show {
    json_t *answers; /* by site */
    gateway_show_fn *on_done;
};

static void show_free(void *state)
{
    struct show *show = state;
    json_decref(show->answers);
    free(show);
}

static void show_on_answer(void *user, int code, const struct chp_answer *answer,
                           const char *const *sites, size_t site_count,
                           const struct chp_error *error)
{
    struct gateway_exchange *exchange = gateway__exchange_of(user);
    if (exchange == NULL) {
        return;
    }
    struct show *show = exchange->state;
    if (code != 0) {
        gateway__reply_error(exchange, 0, code, error != NULL ? error->text : NULL);
    } else if (answer != NULL) {
        (void)json_object_set_new(show->answers, answer->site, gateway__json_of_answer(answer));
    } else {
        for (size_t i = 0; i < site_count; i++) {
            if (json_object_get(show->answers, sites[i]) == NULL) {
                json_t *silent = json_pack("{s:s, s:i, s:s, s:b, s:s, s:i}", "state", "timeout",
                                           "exit_code", -1, "output", "", "output_cut", 0, "reason",
                                           "the site did not answer in time", "duration_ms", 0);
                (void)json_object_set_new(show->answers, sites[i], silent);
            }
        }
        show->on_done(exchange, show->answers);
    }
}

void gateway__show(struct gateway_exchange *exchange, struct chp_show *asked,
                   gateway_show_fn *on_done)
{
    struct chp_agent_port *port = &exchange->door->port;
    struct chp_error error = {0};
    int rc = chp_resource_id_check(exchange->id, &error);
    if (rc == 0) {
        rc = port->vtable->check(port->agent, asked->driver, asked->payload, NULL, 0, &error);
    }
    if (rc != 0) {
        gateway__refuse(exchange, 0, rc, "%s", error.text);
        return;
    }
    struct show *show = chp_alloc(sizeof *show);
    show->answers = json_object();
    show->on_done = on_done;
    exchange->state = show;
    exchange->state_free = show_free;
    asked->id = chp_uuid_new();
    asked->resource = exchange->id;
    asked->principal = exchange->principal;
    exchange->asked = true;
    port->vtable->show(port->agent, asked, show_on_answer, exchange);
}
