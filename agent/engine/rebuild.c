/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * A person has a replica rebuilt, since it is diverged, or its application lost what it had (design
 * section 6): nothing that ran here counts any more, and what makes the state runs again. That is
 * no guess only if the first that runs makes the whole state, or the application was emptied.
 */
#include "engine/internal.h"

#include <string.h>

/* Without the effects: what has to run. Tells why it can't be rebuilt, or NULL. */
static const char *refusal(struct resource *resource, bool emptied, struct chp_arena *arena)
{
    struct chp_plan plan;
    if (resource->replica == NULL) {
        return "at level none there is no sequence that could be run again";
    }
    if (resource->running != NULL || resource->item_loading) {
        return "an operation of it runs here, or is in doubt: wait for it, or resolve it first";
    }
    size_t count = chp_replica_count(resource->replica);
    uint64_t *effects = chp_arena_calloc(arena, count, sizeof *effects);
    for (size_t i = 0; i < count; i++) {
        struct chp_entry *entry = chp_replica_entry(resource->replica, i);
        effects[i] = entry->effect;
        entry->effect = 0;
    }
    chp_replica_plan(resource->replica, arena, &plan);
    for (size_t i = 0; i < count; i++) {
        chp_replica_entry(resource->replica, i)->effect = effects[i];
    }
    bool whole = plan.run_count > 0 && plan.kind != CHP_PLAN_DIVERGED &&
                 chp_sequence_establishes(chp_replica_sequence(resource->replica), &plan.run[0]);
    if (!emptied && !whole) {
        return "no operation of it makes the whole state: empty it in the application, then "
               "rebuild "
               "it from empty";
    }
    return emptied && resource->row.forgotten.count > 0 && !whole
               ? "operations that it would need are forgotten"
               : NULL;
}

static void journal(struct chp_engine *engine, const struct chp_event *event,
                    const struct resource *resource, struct chp_effects *effects)
{
    struct chp_buf data = {0};
    chp_buf_add_text(&data, "{\"principal\":");
    journal__add_string(&data, event->resolve.principal);
    chp_buf_add_text(&data, event->resolve.resolution == CHP_RESOLVE_REBUILD_EMPTY
                                ? ",\"from_empty\":true}"
                                : ",\"from_empty\":false}");
    journal__add(engine,
                 &(struct journal_entry){.kind = "resource.rebuilt",
                                         .resource = resource->row.id,
                                         .data = journal__take(&data, effects)},
                 &event->now, effects);
}

const char *rebuild__start(struct chp_engine *engine, const struct chp_event *event,
                           struct resource *resource, struct chp_effects *effects)
{
    struct chp_arena *arena = &effects->batch.arena;
    bool emptied = event->resolve.resolution == CHP_RESOLVE_REBUILD_EMPTY;
    const char *reason = refusal(resource, emptied, arena);
    if (reason != NULL) {
        return reason;
    }
    for (size_t i = 0; i < chp_replica_count(resource->replica); i++) {
        chp_replica_entry(resource->replica, i)->effect = 0;
    }
    chp_batch_write(&effects->batch, CHP_WRITE_REBUILD)->rebuild =
        chp_arena_strdup(arena, resource->row.id);
    journal(engine, event, resource, effects);
    converge__changed(resource);
    run__next(engine, resource, &event->now, effects);
    return NULL;
}
