/* SPDX-License-Identifier: AGPL-3.0-only */
/* What runs next (design 4.4, 4.5): one operation at a time per resource, each after its causes. */
#include "engine/internal.h"

#include <string.h>

static bool in_context(const struct chp_operation *operation, const struct chp_dot *dot)
{
    return chp_vector_get(&operation->context, dot->origin, dot->incarnation) >= dot->n;
}

/* An operation may run when all its causes are held here and none of them has yet to run. Causes
 * come earlier in the list, since a stamp is higher than those of its causes. */
static bool may_run(const struct resource *resource, const struct pending *pending)
{
    if (resource->row.level == CHP_LEVEL_NONE) {
        return true;
    }
    if (!chp_vector_includes(&resource->row.vector, &pending->operation->context)) {
        return false;
    }
    for (struct chp_list *link = resource->pending.next; link != &pending->link;
         link = link->next) {
        const struct pending *earlier = CHP_CONTAINER(link, struct pending, link);
        if (in_context(pending->operation, &earlier->operation->dot)) {
            return false;
        }
    }
    return true;
}

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
}

void run__next(struct chp_engine *engine, struct resource *resource, const struct chp_now *now,
               struct chp_effects *effects)
{
    if (resource->running != NULL || resource->refilling) {
        return;
    }
    CHP_LIST_FOREACH_SAFE(&resource->pending, link, following)
    {
        struct pending *pending = CHP_CONTAINER(link, struct pending, link);
        if (!may_run(resource, pending)) {
            continue;
        }
        if (pending->state == CHP_STATE_IN_DOUBT) {
            resource->running = pending; /* holds the resource until it is resolved */
        } else if (pending->state != CHP_STATE_RUNNING && needs_files(pending)) {
            resource->running = pending;
            pending->fetching = true;
            struct chp_after *after = chp_effects_after(effects, CHP_AFTER_FETCH);
            after->run.item = chp_arena_bytes(&effects->batch.arena, pending->item);
        } else {
            start(engine, resource, pending, now, effects);
        }
        return;
    }
    refill(engine, resource, effects);
}

/* What an earlier life of the database has left is in doubt: it may have ended in the time that was
 * lost. */
static void doubt(struct chp_engine *engine, struct pending *pending, const struct chp_now *now,
                  struct chp_effects *effects)
{
    struct chp_ack ack = life__doubt(engine, pending->operation, pending->run, now);
    pending->state = CHP_STATE_IN_DOUBT;
    pending->run = ack.run;
    engine__conclude(engine, pending->operation, &ack, now, effects);
}

void run__loaded(struct chp_engine *engine, struct resource *resource,
                 const struct chp_pending_row *row, const struct chp_now *now,
                 struct chp_effects *effects)
{
    struct pending *pending = resource__find_pending(resource, &row->operation->id);
    if (pending == NULL) {
        return; /* there was no room for it in memory: loaded again later */
    }
    if (row->incarnation != engine->incarnation && row->state != CHP_STATE_IN_DOUBT) {
        doubt(engine, pending, now, effects);
    } else if (resource->row.level != CHP_LEVEL_NONE) {
        causes__want_all(engine, resource, pending->operation, now, effects);
    }
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
