/* SPDX-License-Identifier: AGPL-3.0-only */
/* What runs next (design 4.4, 4.5): one operation at a time per resource. At level none in the
 * order of arrival, else as the plan says. */
#include "engine/internal.h"

#include <string.h>

static bool needs_files(const struct pending *pending)
{
    for (size_t i = 0; i < pending->operation->file_count; i++) {
        if (!pending->operation->files[i].is_inline) {
            return !pending->fetched;
        }
    }
    return false;
}

/* Reads the next operations from the store when those in memory have run out. */
static void refill(struct chp_engine *engine, struct resource *resource,
                   struct chp_effects *effects)
{
    if (resource->pending_count > 0 || resource->pending_stored == 0 || resource->refilling) {
        return;
    }
    resource->refilling = true;
    resource->pending_stored = 0; /* the load tells; what arrives from now on is kept in memory */
    struct chp_load *load = chp_batch_load(&effects->batch, CHP_LOAD_RESOURCE);
    load->resource = chp_arena_strdup(&effects->batch.arena, resource->row.id);
    load->limit = engine->config.pending_max;
}

static void note(struct resource *resource, const struct pending *pending)
{
    struct chp_entry *entry = resource->replica == NULL
                                  ? NULL
                                  : chp_replica_find(resource->replica, &pending->operation->id);
    if (entry != NULL) {
        entry->state = pending->state;
        entry->run = pending->run;
        entry->undoing = pending->undo;
    }
}

static void start(struct chp_engine *engine, struct resource *resource, struct pending *pending,
                  const struct chp_now *now, struct chp_effects *effects)
{
    bool resume = pending->state == CHP_STATE_RUNNING;
    struct chp_arena *arena = &effects->batch.arena;
    resource->running = pending;
    pending->started_us = now->mono_us;
    if (!resume) {
        pending->state = CHP_STATE_RUNNING;
        pending->run++;
        note(resource, pending);
        struct chp_ack ack = {
            .operation = pending->operation->id,
            .resource = chp_arena_strdup(arena, resource->row.id),
            .site = engine->config.site,
            .incarnation = engine->incarnation,
            .run = pending->run,
            .state = CHP_STATE_RUNNING,
            .exit_code = -1,
            .started_ms = now->wall_ms,
        };
        engine__answer(engine, pending->operation, &ack, now, effects);
    }
    struct chp_after *after = chp_effects_after(effects, CHP_AFTER_RUN);
    after->run.item = chp_arena_bytes(arena, pending->item);
    after->run.run = pending->run;
    after->run.resume = resume;
    after->run.undo = pending->undo;
}

/* What is pending holds the resource from now on. */
static void go(struct chp_engine *engine, struct resource *resource, struct pending *pending,
               const struct chp_now *now, struct chp_effects *effects)
{
    if (pending->state == CHP_STATE_IN_DOUBT) {
        resource->running = pending; /* until it is resolved */
    } else if (pending->state != CHP_STATE_RUNNING && needs_files(pending)) {
        resource->running = pending;
        pending->fetching = true;
        struct chp_after *after = chp_effects_after(effects, CHP_AFTER_FETCH);
        after->run.item = chp_arena_bytes(&effects->batch.arena, pending->item);
    } else {
        start(engine, resource, pending, now, effects);
    }
}

/* What runs already, or else may have, when it was loaded. */
static struct pending *find_held(struct resource *resource)
{
    struct pending *doubtful = NULL;
    CHP_LIST_FOREACH_SAFE(&resource->pending, link, following)
    {
        struct pending *pending = CHP_CONTAINER(link, struct pending, link);
        if (pending->state == CHP_STATE_RUNNING) {
            return pending;
        }
        if (pending->state == CHP_STATE_IN_DOUBT && doubtful == NULL) {
            doubtful = pending;
        }
    }
    return doubtful;
}

static void next_planned(struct chp_engine *engine, struct resource *resource,
                         const struct chp_now *now, struct chp_effects *effects)
{
    struct pending *held = find_held(resource);
    struct step step;
    if (held != NULL) {
        go(engine, resource, held, now, effects);
        return;
    }
    if (!converge__next(engine, resource, now, effects, &step)) {
        (void)stable__forget(engine, resource, effects);
        return;
    }
    struct pending *pending = resource__find_pending(resource, &step.entry->id);
    if (pending == NULL) {
        resource->item_loading = true;
        struct chp_load *load = chp_batch_load(&effects->batch, CHP_LOAD_OPERATION);
        load->operation = step.entry->id;
        load->resource = chp_arena_strdup(&effects->batch.arena, resource->row.id);
        load->token = RUN_TOKEN;
        return;
    }
    pending->undo = step.undo;
    pending->running_told = false;
    go(engine, resource, pending, now, effects);
}

void run__next(struct chp_engine *engine, struct resource *resource, const struct chp_now *now,
               struct chp_effects *effects)
{
    if (resource->running != NULL || resource->refilling || resource->item_loading) {
        return;
    }
    if (resource->replica != NULL) {
        next_planned(engine, resource, now, effects);
    } else if (!chp_list_empty(&resource->pending)) {
        struct chp_list *first = resource->pending.next;
        go(engine, resource, CHP_CONTAINER(first, struct pending, link), now, effects);
    } else {
        refill(engine, resource, effects);
    }
}

void run__item_loaded(struct chp_engine *engine, const struct chp_load *load,
                      const struct chp_now *now, struct chp_effects *effects)
{
    struct resource *resource = resource__get(engine, load->resource);
    if (resource == NULL || !resource->item_loading) {
        return; /* it was read again meanwhile */
    }
    struct chp_entry *entry = converge__entry(engine, load->resource, &load->operation);
    resource->item_loading = false;
    if (!load->found || entry == NULL) {
        return; /* the store has said so */
    }
    if (resource__find_pending(resource, &entry->id) == NULL) {
        resource__keep_pending(resource, load->operation_result.item, entry->state, entry->run);
    }
    run__next(engine, resource, now, effects);
}

void run__doubt(struct chp_engine *engine, struct resource *resource, struct pending *pending,
                const struct chp_now *now, struct chp_effects *effects)
{
    struct chp_ack ack = life__doubt(engine, pending->operation, pending->run, now);
    pending->state = CHP_STATE_IN_DOUBT;
    pending->run = ack.run;
    converge__recalled(engine, resource, pending->operation, now, &ack);
    engine__conclude(engine, pending->operation, &ack, now, effects);
}

void run__tell(struct chp_engine *engine, struct resource *resource, const struct chp_now *now,
               struct chp_effects *effects)
{
    struct pending *pending = resource->running;
    if (pending == NULL || pending->state != CHP_STATE_RUNNING || pending->running_told ||
        now->mono_us - pending->started_us < RUNNING_TOLD_AFTER_US) {
        return;
    }
    const char *origin = pending->operation->dot.origin;
    pending->running_told = true;
    if (engine__peer(engine, origin) == NULL) {
        return; /* this site itself, which knows */
    }
    struct chp_ack ack = {
        .operation = pending->operation->id,
        .resource = resource->row.id,
        .site = engine->config.site,
        .incarnation = engine->incarnation,
        .run = pending->run,
        .state = CHP_STATE_RUNNING,
        .exit_code = -1,
        .started_ms = now->wall_ms - (now->mono_us - pending->started_us) / 1000,
    };
    engine__send_ack(engine, origin, &ack, effects);
}
