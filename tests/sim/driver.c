/* SPDX-License-Identifier: AGPL-3.0-only */
/* Runs of commands on the model applications, as a driver with its runners does them: a run
 * outlives the agent, and is in doubt when the machine goes down before it has ended. */
#include "sim/world.h"

#include "base/mem.h"
#include "wire/payload.h"
#include "wire/wire.h"

#include <stdio.h>
#include <string.h>

static struct sim_run *find(struct sim_site *site, const struct sim_operation *operation,
                            uint32_t number)
{
    for (size_t i = site->run_count; i > 0; i--) {
        struct sim_run *run = &site->runs[i - 1];
        if (&site->sim->operations[run->operation] == operation && run->run == number &&
            !run->old) {
            return run;
        }
    }
    return NULL;
}

static bool goes_on(const struct sim_run *run)
{
    return !run->ended && !run->lost;
}

bool sim_driver_busy(const struct sim_site *site)
{
    for (size_t i = 0; i < site->run_count; i++) {
        if (goes_on(&site->runs[i])) {
            return true;
        }
    }
    return false;
}

static uint64_t duration_us(struct sim_site *site, const struct sim_operation *operation)
{
    const struct sim_schedule *schedule = site->sim->schedule;
    uint64_t ms = operation->action < 0 ? 1 : schedule->actions[operation->action].request.run_ms;
    uint64_t us = ms * 1000 + sim_rng_between(&site->rng, 0, 20000);
    return site->slow > 0 && !site->sim->calm ? us * 20 : us;
}

static bool is_to_fail(struct sim_site *site, struct sim_operation *operation)
{
    if (operation->action < 0) {
        return false;
    }
    const struct sim_action *action = &site->sim->schedule->actions[operation->action];
    return (action->request.fail_mask >> site->index & 1) != 0 &&
           operation->failures[site->index] < action->request.fail_times;
}

/* What no driver should be asked for. */
static void check_start(struct sim_site *site, const struct sim_operation *operation,
                        const struct sim_run *wanted)
{
    bool has_effect = false;
    for (size_t i = 0; i < site->run_count; i++) {
        const struct sim_run *run = &site->runs[i];
        if (run->resource == wanted->resource && goes_on(run)) {
            sim_fail(site->sim, "%s runs %s on r%d while %s runs there", site->name,
                     operation->label, wanted->resource,
                     site->sim->operations[run->operation].label);
        }
        if (&site->sim->operations[run->operation] != operation) {
            continue;
        }
        if (!run->old && run->run >= wanted->run) {
            sim_fail(site->sim, "%s begins run %u of %s after run %u", site->name, wanted->run,
                     operation->label, run->run);
        }
        has_effect = run->effected ? !run->undo : has_effect;
    }
    if (wanted->undo && !has_effect) {
        sim_fail(site->sim, "%s undoes %s, which has no effect there", site->name,
                 operation->label);
    }
}

static void begin(struct sim_site *site, struct sim_operation *operation, struct sim_run *wanted)
{
    struct sim *sim = site->sim;
    check_start(site, operation, wanted);
    wanted->fails = !wanted->undo && is_to_fail(site, operation);
    if (site->run_count == site->run_cap) {
        site->run_cap = site->run_cap == 0 ? 64 : site->run_cap * 2;
        site->runs = chp_realloc(site->runs, site->run_cap * sizeof *site->runs);
    }
    size_t index = site->run_count++;
    site->runs[index] = *wanted;
    sim->totals.runs++;
    sim->totals.runs_again += wanted->run > 1;
    uint64_t us = duration_us(site, operation);
    uint64_t effect_us = sim_rng_between(&site->rng, 0, us);
    sim_after(sim, effect_us, SIM_EVENT_EFFECT, site->index, index);
    sim_after(sim, us, SIM_EVENT_RUN_END, site->index, index);
}

static void give(struct sim_site *site, struct sim_run *run)
{
    const struct sim_operation *operation = &site->sim->operations[run->operation];
    char resource[8];
    (void)snprintf(resource, sizeof resource, "r%d", run->resource);
    struct chp_completion completion = {.operation = operation->id,
                                        .run = run->run,
                                        .state = CHP_STATE_DONE,
                                        .output = chp_bytes("ok", 2),
                                        .started_ms = sim_site_now(site).wall_ms,
                                        .duration_ms = 1};
    if (run->lost) {
        completion.state = CHP_STATE_IN_DOUBT;
        completion.exit_code = -1;
        completion.reason = "the machine went down while it ran";
    } else if (run->fails) {
        completion.state = CHP_STATE_FAILED;
        completion.exit_code = 1;
        completion.reason = "the model says no";
    }
    struct chp_event event = {.kind = CHP_EVENT_EXECUTED,
                              .executed = {.resource = resource, .completion = &completion}};
    sim_site_step(site, &event);
}

void sim_driver_start(struct sim_site *site, const struct chp_after *after)
{
    struct sim *sim = site->sim;
    struct chp_arena arena = {0};
    struct chp_item item;
    struct chp_command command;
    CHP_ASSERT(chp_item_decode(after->run.item, &arena, &item, NULL) == 0);
    CHP_ASSERT(item.kind == CHP_ITEM_OPERATION);
    struct sim_operation *operation = sim_operation_of(sim, &item.operation.id);
    CHP_ASSERT(operation != NULL);
    CHP_ASSERT(chp_command_decode(after->run.undo ? item.operation.undo : item.operation.payload,
                                  &arena, &command, NULL) == 0);
    sim->busy_us = sim->now_us;
    struct sim_run *known = find(site, operation, after->run.run);
    sim_trace(sim, site, "%s %s (%s), run %u%s", after->run.undo ? "undoes" : "runs",
              operation->label, command.argv[1], after->run.run,
              after->run.resume ? ", resumed" : "");
    if (known != NULL && !after->run.resume) {
        sim_fail(sim, "%s begins run %u of %s twice", site->name, after->run.run, operation->label);
    } else if (known == NULL) {
        struct sim_run wanted = {.operation = (int)(operation - sim->operations),
                                 .resource = sim_resource_of(sim, item.operation.resource),
                                 .run = after->run.run,
                                 .undo = after->run.undo};
        (void)snprintf(wanted.command, sizeof wanted.command, "%s", command.argv[1]);
        begin(site, operation, &wanted);
    } else if (!goes_on(known)) {
        sim_after(sim, 1000, SIM_EVENT_RUN_END, site->index, (uint64_t)(known - site->runs));
    }
    chp_arena_deinit(&arena);
}

void sim_driver_effect(struct sim_site *site, size_t index)
{
    struct sim_run *run = &site->runs[index];
    if (run->lost || run->fails || run->old) {
        return;
    }
    run->effected = true;
    if (!sim_app_run(&site->apps[run->resource], run->command)) {
        sim_fail(site->sim, "\"%s\" is no command of r%d", run->command, run->resource);
    }
    if (site->sim->trace != NULL) {
        struct chp_buf text = {0};
        sim_app_print(&site->apps[run->resource], &text);
        sim_trace(site->sim, site, "r%d is %s after %s of %s", run->resource, chp_buf_text(&text),
                  run->command, site->sim->operations[run->operation].label);
        chp_buf_deinit(&text);
    }
}

void sim_driver_end(struct sim_site *site, size_t index)
{
    struct sim_run *run = &site->runs[index];
    site->sim->busy_us = site->sim->now_us;
    if (run->forgotten || run->old) {
        return;
    }
    if (!run->lost && !run->ended) {
        run->ended = true;
        site->sim->operations[run->operation].failures[site->index] += run->fails;
    }
    give(site, run);
}

void sim_driver_forget(struct sim_site *site, const struct chp_uuid *id, uint32_t number)
{
    const struct sim_operation *operation = sim_operation_of(site->sim, id);
    struct sim_run *run = operation == NULL ? NULL : find(site, operation, number);
    if (run != NULL) {
        run->forgotten = true;
    }
}

void sim_driver_lose(struct sim_site *site)
{
    for (size_t i = 0; i < site->run_count; i++) {
        struct sim_run *run = &site->runs[i];
        if (goes_on(run)) {
            run->lost = true;
            sim_trace(site->sim, site, "run %u of %s is cut short, %s its effect", run->run,
                      site->sim->operations[run->operation].label,
                      run->effected ? "after" : "before");
        }
    }
}
