/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * An execution in doubt is resolved by a person (design 4.5): it counts as done or failed with a
 * run of its own, since the highest run wins, or it runs again.
 *
 * The operation is read from the store first, which names its resource and brings back the record
 * of one of this origin. What is known in memory goes before what was read. An execution that is
 * only in the store, far behind others of its resource, is resolved there; should another have been
 * resolved since the operation was read, it is read again, for it may have been the same one.
 */
#include "engine/internal.h"

#include <string.h>

static void answer(const struct chp_event *event, int code, const char *text,
                   struct chp_effects *effects)
{
    struct chp_after *after = chp_effects_after(effects, CHP_AFTER_RESOLVED);
    after->resolved.ticket = event->resolve.ticket;
    after->resolved.code = code;
    after->resolved.error = text;
}

void engine__on_resolve(struct chp_engine *engine, const struct chp_event *event,
                        struct chp_effects *effects)
{
    struct chp_event waiting = *event;
    waiting.resolve.as_of = engine->resolved;
    tracked__defer(engine, &event->resolve.operation, &waiting, effects);
}

static const struct chp_ack *own_execution(const struct chp_engine *engine,
                                           const struct chp_load *load)
{
    for (size_t i = 0; i < load->operation_result.execution_count; i++) {
        const struct chp_ack *ack = &load->operation_result.executions[i].ack;
        if (strcmp(ack->site, engine->config.site) == 0) {
            return ack;
        }
    }
    return NULL;
}

static void journal(struct chp_engine *engine, const struct chp_event *event,
                    const struct chp_ack *ack, struct chp_effects *effects)
{
    struct chp_buf data = {0};
    chp_buf_printf(&data, "{\"resolution\":\"%s\",\"run\":%u,\"principal\":",
                   chp_resolution_name(event->resolve.resolution), ack->run);
    journal__add_string(&data, event->resolve.principal);
    chp_buf_add_byte(&data, '}');
    journal__add(engine,
                 &(struct journal_entry){.kind = "operation.resolved",
                                         .resource = ack->resource,
                                         .operation = &ack->operation,
                                         .data = journal__take(&data, effects)},
                 &event->now, effects);
}

/* The execution of the run after the one in doubt, as it is resolved. */
static struct chp_ack resolved_ack(struct chp_engine *engine, const struct chp_event *event,
                                   const struct chp_operation *operation, uint32_t run,
                                   struct chp_effects *effects)
{
    bool own = strcmp(operation->dot.origin, engine->config.site) == 0;
    struct chp_ack ack = {
        .operation = operation->id,
        .resource = chp_arena_strdup(&effects->batch.arena, operation->resource),
        .site = engine->config.site,
        .incarnation = engine->incarnation,
        .run = run + 1,
        .state = own ? CHP_STATE_ACCEPTED : CHP_STATE_DELIVERED,
        .exit_code = -1,
    };
    if (event->resolve.resolution != CHP_RESOLVE_RERUN) {
        ack.state =
            event->resolve.resolution == CHP_RESOLVE_DONE ? CHP_STATE_DONE : CHP_STATE_FAILED;
        ack.started_ms = event->now.wall_ms;
        ack.reason = chp_arena_printf(&effects->batch.arena, "resolved as %s by %s",
                                      chp_resolution_name(event->resolve.resolution),
                                      event->resolve.principal);
        CHP_ASSERT(strlen(ack.reason) <= CHP_REASON_MAX_BYTES);
    }
    return ack;
}

/* pending is NULL when the execution is only in the store. */
static void apply(struct chp_engine *engine, const struct chp_event *event,
                  struct resource *resource, struct pending *pending,
                  const struct chp_operation *operation, uint32_t run, struct chp_effects *effects)
{
    struct chp_ack ack = resolved_ack(engine, event, operation, run, effects);
    engine->resolved++;
    journal(engine, event, &ack, effects);
    if (event->resolve.resolution == CHP_RESOLVE_RERUN) {
        converge__begin(engine, resource, operation, &ack);
        engine__answer(engine, operation, &ack, &event->now, effects);
    } else {
        /* If it ran, then before what waited for it. */
        struct chp_ack in_place = ack;
        converge__ended(engine, resource, operation, &event->now, &in_place);
        converge__changed(resource);
        engine__conclude(engine, operation, &ack, &event->now, effects);
    }
    if (pending == NULL) {
        resource->pending_stored -= chp_state_final(ack.state);
    } else if (chp_state_final(ack.state)) {
        resource__remove_pending(resource, pending);
    } else {
        pending->state = ack.state;
        pending->run = ack.run;
        pending->running_told = false;
        resource->running = resource->running == pending ? NULL : resource->running;
    }
    answer(event, 0, NULL, effects);
    run__next(engine, resource, &event->now, effects);
}

void engine__resolve(struct chp_engine *engine, const struct chp_event *event,
                     const struct chp_load *load, struct chp_effects *effects)
{
    struct chp_arena *arena = &effects->batch.arena;
    const char *site = engine->config.site;
    char id[CHP_UUID_TEXT_BYTES];
    chp_uuid_format(&event->resolve.operation, id);
    const struct chp_ack *known = load->found ? own_execution(engine, load) : NULL;
    if (known == NULL) {
        answer(event, CHP_ENOTFOUND,
               chp_arena_printf(arena,
                                load->found ? "operation %s does not run at %s"
                                            : "operation %s is not known at %s",
                                id, site),
               effects);
        return;
    }
    const struct chp_operation *operation = load->operation_result.row;
    struct resource *resource = resource__get(engine, operation->resource);
    if (resource == NULL) {
        resource__defer(engine, operation->resource, event, effects);
        return;
    }
    resource__touch(engine, resource);
    if (event->resolve.resolution >= CHP_RESOLVE_REBUILD) {
        const char *reason = rebuild__start(engine, event, resource, effects);
        answer(event, reason == NULL ? 0 : CHP_ECONFLICT, reason, effects);
        return;
    }
    struct pending *pending = resource__find_pending(resource, &operation->id);
    enum chp_state state = pending != NULL ? pending->state : known->state;
    if (state != CHP_STATE_IN_DOUBT) {
        answer(event, CHP_ECONFLICT,
               chp_arena_printf(arena,
                                "operation %s is %s at %s: only an execution in doubt is resolved",
                                id, chp_state_name(state), site),
               effects);
    } else if (pending != NULL) {
        apply(engine, event, resource, pending, pending->operation, pending->run, effects);
    } else if (resource->refilling || event->resolve.as_of != engine->resolved) {
        engine__on_resolve(engine, event, effects);
    } else {
        apply(engine, event, resource, NULL, operation, known->run, effects);
    }
}
