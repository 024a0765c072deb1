/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * What drivers kept of runs that have ended: an agent that died between the commit of a result and
 * the driver's forgetting left it. Looked for at the start and every hour, a few at a time, against
 * the database: what it knows as ended goes. What it does not know stays, since a database that was
 * restored from a backup would otherwise run again what ran.
 */
#include "daemon/daemon.h"

#include <stdlib.h>
#include <string.h>

enum { PAGE = 8, PAUSE_S = 3600 };

struct sweep {
    struct chp_agent *agent;
    size_t driver; /* whose turn it is */
    size_t asked;  /* loads that have not come back */
    size_t unknown;
    uint64_t not_before_us;
};

struct sweep *sweep__new(struct chp_agent *agent)
{
    struct sweep *sweep = chp_alloc(sizeof *sweep);
    sweep->agent = agent;
    return sweep;
}

void sweep__free(struct sweep *sweep)
{
    free(sweep);
}

void sweep__reset(struct sweep *sweep)
{
    sweep->asked = 0;
    sweep->not_before_us = 0;
}

/* false: that was all of this driver. */
static bool ask_page(struct sweep *sweep, struct chp_driver *driver)
{
    struct chp_agent *agent = sweep->agent;
    struct chp_run_id ids[PAGE];
    if (driver == NULL || driver->vtable->kept == NULL) {
        return false;
    }
    size_t count = driver->vtable->kept(driver, ids, PAGE);
    for (size_t i = 0; i < count; i++) {
        if (!executor__knows(agent->executor, &ids[i].operation, ids[i].run)) {
            struct chp_load *load = chp_batch_load(&agent->open->batch, CHP_LOAD_OPERATION);
            load->operation = ids[i].operation;
            load->token = token_of(TOKEN_SWEEP, ids[i].run);
            sweep->asked++;
            turn__arm(agent);
        }
    }
    return count == PAGE;
}

void sweep__tick(struct sweep *sweep)
{
    uint64_t now_us = chp_clock_mono_us();
    if (!sweep->agent->engine_started || sweep->asked > 0 || now_us < sweep->not_before_us ||
        ask_page(sweep, sweep->agent->drivers[sweep->driver])) {
        return;
    }
    if (++sweep->driver < DRIVERS) {
        return;
    }
    if (sweep->unknown > 0) {
        chp_log_warn("results are kept of operations that the database does not know",
                     CHP_I("runs", sweep->unknown));
    }
    sweep->driver = 0;
    sweep->unknown = 0;
    sweep->not_before_us = now_us + PAUSE_S * UINT64_C(1000000);
}

bool sweep__loaded(struct sweep *sweep, const struct chp_load *load)
{
    struct chp_agent *agent = sweep->agent;
    if (load->kind != CHP_LOAD_OPERATION || load->token >> TOKEN_SHIFT != TOKEN_SWEEP) {
        return false;
    }
    uint32_t run = (uint32_t)load->token;
    const struct chp_ack *here = NULL;
    sweep->asked--;
    for (size_t i = 0; i < load->operation_result.execution_count; i++) {
        const struct chp_ack *ack = &load->operation_result.executions[i].ack;
        here = strcmp(ack->site, agent->config->agent.site) == 0 ? ack : here;
    }
    if (!load->found || here == NULL || here->run < run) {
        sweep->unknown++;
    } else if (!executor__knows(agent->executor, &load->operation, run) &&
               (here->run > run || chp_state_final(here->state) ||
                here->state == CHP_STATE_IN_DOUBT)) {
        chp_log_info("forgotten after a crash", CHP_S("resource", here->resource),
                     CHP_I("run", run));
        executor__forget(agent->executor, &load->operation, run,
                         load->operation_result.row->driver);
    }
    return true;
}
