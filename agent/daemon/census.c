/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * How many replicas here are diverged or degraded, for /metrics: asked of the database now and
 * then, so that who reads metrics never waits for it. While it does not answer, what it said last
 * stands (store_up says so).
 */
#include "daemon/daemon.h"

#include <jansson.h>
#include <stdlib.h>

enum { PAUSE_S = 5 };

struct census {
    struct chp_agent *agent;
    bool asked;
    uint64_t not_before_us;
};

struct census *census__new(struct chp_agent *agent)
{
    struct census *census = chp_alloc(sizeof *census);
    census->agent = agent;
    return census;
}

void census__free(struct census *census)
{
    if (census->asked) {
        chp_store_query_cancel(census->agent->store, census);
    }
    free(census);
}

static void census_on_answer(void *user, int code, const char *text, const struct chp_error *error)
{
    struct census *census = user;
    struct chp_metrics *metrics = &census->agent->metrics;
    json_t *json = code == 0 && text != NULL ? json_loads(text, 0, NULL) : NULL;
    (void)error;
    census->asked = false;
    if (json != NULL) {
        metrics->resources_diverged = (double)json_integer_value(json_object_get(json, "diverged"));
        metrics->resources_degraded = (double)json_integer_value(json_object_get(json, "degraded"));
        json_decref(json);
    }
}

void census__tick(struct census *census)
{
    uint64_t now_us = chp_clock_mono_us();
    struct chp_agent *agent = census->agent;
    if (!agent->engine_started || census->asked || now_us < census->not_before_us) {
        return;
    }
    census->not_before_us = now_us + PAUSE_S * UINT64_C(1000000);
    census->asked = true;
    chp_store_query(agent->store, CHP_QUERY_TROUBLED, NULL, 0, census_on_answer, census);
}
