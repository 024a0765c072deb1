/* SPDX-License-Identifier: AGPL-3.0-only */
/* Results of loads: resources go on with the events that waited for them. */
#include "engine/internal.h"

#include <stdlib.h>
#include <string.h>

/* An operation was loaded that has not ended here. */
static void take_up(struct chp_engine *engine, struct resource *resource, const struct chp_uuid *id,
                    uint64_t incarnation, const struct chp_now *now, struct chp_effects *effects)
{
    struct pending *pending = resource__find_pending(resource, id);
    if (pending != NULL && incarnation != engine->incarnation &&
        pending->state != CHP_STATE_IN_DOUBT) {
        run__doubt(engine, resource, pending, now, effects);
    }
}

/* Level none. */
static void take_pending(struct chp_engine *engine, struct resource *resource,
                         const struct chp_load *load, const struct chp_now *now,
                         struct chp_effects *effects)
{
    CHP_ASSERT(load->resource_result.pending_total >= load->resource_result.pending_count);
    for (size_t i = 0; i < load->resource_result.pending_count; i++) {
        const struct chp_pending_row *row = &load->resource_result.pending[i];
        if (resource__find_pending(resource, &row->operation->id) == NULL) {
            resource__add_pending(engine, resource, row->item, row->state, row->run);
            take_up(engine, resource, &row->operation->id, row->incarnation, now, effects);
        }
    }
    resource->pending_stored +=
        load->resource_result.pending_total - load->resource_result.pending_count;
}

static void restore_entry(struct resource *resource, struct chp_entry *entry,
                          const struct chp_history_row *row, const struct chp_now *now)
{
    entry->state = row->state;
    entry->run = row->run;
    entry->effect = row->effect;
    entry->undoing = row->undoing;
    entry->done_elsewhere = row->done_elsewhere;
    entry->held_back = row->state == CHP_STATE_FAILED || row->state == CHP_STATE_REFUSED;
    if (entry->held_back) {
        resource->has_failed = true;
        outcome__retry_later(entry, now);
    }
    if (row->effect > resource->effect_last) {
        resource->effect_last = row->effect;
    }
}

static int by_arbitration(const void *a, const void *b)
{
    const struct chp_operation *x = (*(const struct chp_history_row *const *)a)->operation;
    const struct chp_operation *y = (*(const struct chp_history_row *const *)b)->operation;
    return chp_arbitration_compare(x->stamp, x->dot.origin, &x->id, y->stamp, y->dot.origin,
                                   &y->id);
}

/* The rows so that causes come before what they cause, which they need not have done when they
 * arrived: which matrix an operation was made under follows from what it has seen. */
static const struct chp_history_row **causes_first(const struct chp_load *load,
                                                   struct chp_arena *arena)
{
    size_t count = load->resource_result.history_count;
    const struct chp_history_row **rows =
        chp_arena_calloc(arena, count, sizeof(struct chp_history_row *));
    for (size_t i = 0; i < count; i++) {
        rows[i] = &load->resource_result.history[i];
    }
    if (count > 1) {
        qsort(rows, count, sizeof(struct chp_history_row *), by_arbitration);
    }
    return rows;
}

/* Level eventual: everything that is held, and what became of it here. */
static void take_history(struct chp_engine *engine, struct resource *resource,
                         const struct chp_load *load, const struct chp_now *now,
                         struct chp_effects *effects)
{
    struct chp_arena arena = {0};
    const struct chp_history_row **rows = causes_first(load, &arena);
    for (size_t i = 0; i < load->resource_result.history_count; i++) {
        const struct chp_history_row *row = rows[i];
        if (resource__take(engine, resource, row->operation, row->executes, NULL) != 0) {
            continue; /* it was taken before: what it can't be with came since */
        }
        struct chp_entry *entry = chp_replica_find(resource->replica, &row->operation->id);
        entry->completed = row->completed;
        if (row->failed_everywhere) { /* voided before, unless there was no time for it */
            outcome__failed_everywhere(engine, resource->row.id, &row->operation->id);
        }
        if (!row->executes) {
            continue;
        }
        restore_entry(resource, entry, row, now);
        if (!chp_state_final(row->state)) {
            resource__add_pending(engine, resource, row->item, row->state, row->run);
            take_up(engine, resource, &row->operation->id, row->incarnation, now, effects);
        }
        if (entry->waits) {
            causes__want_all(engine, resource, row->operation, now, effects);
        }
    }
    chp_arena_deinit(&arena);
    struct pending *undoing = resource__undoing(resource);
    if (undoing != NULL) {
        undoing->undo = true;
    }
    converge__changed(resource);
}

static void on_resource(struct chp_engine *engine, const struct chp_event *event,
                        struct chp_effects *effects)
{
    const struct chp_load *load = event->loaded;
    struct resource *resource = chp_map_get(engine->resources, chp_bytes_of(load->resource));
    CHP_ASSERT(resource != NULL);
    if (resource->refilling) {
        resource->refilling = false;
        take_pending(engine, resource, load, &event->now, effects);
        run__next(engine, resource, &event->now, effects);
        return;
    }
    CHP_ASSERT(resource->state == RESOURCE_LOADING);
    resource->state = RESOURCE_READY;
    if (load->found) {
        resource__set_row(engine, resource, &load->resource_result.row);
        if (resource->replica == NULL) {
            take_pending(engine, resource, load, &event->now, effects);
        } else {
            take_history(engine, resource, load, &event->now, effects);
        }
        run__next(engine, resource, &event->now, effects);
    }
    struct chp_list waiting;
    chp_list_init(&waiting);
    CHP_LIST_FOREACH_SAFE(&resource->deferred, link, following)
    {
        chp_list_remove(link);
        chp_list_append(&waiting, link);
    }
    CHP_LIST_FOREACH_SAFE(&waiting, link, following)
    {
        struct deferred *deferred = CHP_CONTAINER(link, struct deferred, link);
        struct chp_event again = deferred->event;
        again.now = event->now;
        if (again.kind == CHP_EVENT_REQUEST) {
            engine__on_request(engine, &again, effects);
        } else if (again.kind == CHP_EVENT_RESOLVE) {
            engine__on_resolve(engine, &again, effects);
        } else {
            CHP_ASSERT(again.kind == CHP_EVENT_ITEM);
            engine__on_resource_item(engine, &again, effects);
        }
        engine__free_deferred(deferred);
    }
}

void engine__on_loaded(struct chp_engine *engine, const struct chp_event *event,
                       struct chp_effects *effects)
{
    switch (event->loaded->kind) {
    case CHP_LOAD_START:
        engine__on_started(engine, event->loaded, &event->now, effects);
        break;
    case CHP_LOAD_RESOURCE:
        on_resource(engine, event, effects);
        break;
    case CHP_LOAD_KEY:
        engine__on_key(engine, event, effects);
        break;
    case CHP_LOAD_BUSY:
        engine__on_busy(engine, event->loaded, effects);
        break;
    case CHP_LOAD_OPERATION:
        if (event->loaded->token == RUN_TOKEN) {
            run__item_loaded(engine, event->loaded, &event->now, effects);
        } else if (event->loaded->token == AGAIN_TOKEN) {
            engine__on_looked_up(engine, event->loaded, &event->now, effects);
        } else {
            tracked__loaded(engine, event->loaded, &event->now, effects);
        }
        break;
    case CHP_LOAD_RANGE:
        if (event->loaded->token == REDOT_TOKEN) {
            redot__loaded(engine, event->loaded, &event->now, effects);
        } else {
            engine__on_range(engine, event->loaded, effects);
        }
        break;
    case CHP_LOAD_OLDEST:
        forget__loaded(engine, event->loaded, &event->now);
        break;
    case CHP_LOAD_REPORT:
    case CHP_LOAD_VECTORS:
        report__loaded(engine, event->loaded, &event->now, effects);
        break;
    case CHP_LOAD_OUTBOUND: /* the daemon's own */
    case CHP_LOAD_UNDECODED:
    case CHP_LOAD_EVENTS:
    case CHP_LOAD_REPLIES:
        CHP_ASSERT(!"load of another module");
        break;
    }
}
