/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Operations that are not needed any more are forgotten (design 4.8).
 *
 * Each origin watches over its own: an ack says that its site holds the operation, and how many it
 * had made itself by then; what it makes later has seen it. So when every member has acked, and the
 * origin holds all that they had made before, the operation is stable: nothing that is concurrent
 * with it can turn up any more. The origin's next operations say so, and who holds those with their
 * causes holds all that the origin held.
 *
 * Behind an operation that makes the whole state, is stable, and has succeeded here, what is stable
 * and has ended is not needed any more: nothing that comes can have to run before it. What is
 * forgotten is in earlier causal blocks than all that stays, so that nothing of the sequence that
 * stays depends on it. The last operations_kept stay for the history.
 */
#include "engine/internal.h"

#include <stdlib.h>
#include <string.h>

static struct acked *acked_of(struct chp_engine *engine, struct resource *resource,
                              const char *site)
{
    for (size_t i = 0; i < resource->acked_count; i++) {
        if (strcmp(resource->acked[i].site, site) == 0) {
            return &resource->acked[i];
        }
    }
    resource->acked =
        chp_realloc(resource->acked, (resource->acked_count + 1) * sizeof *resource->acked);
    struct acked *acked = &resource->acked[resource->acked_count++];
    *acked = (struct acked){.site = engine__intern(engine, site)};
    return acked;
}

void stable__acked(struct chp_engine *engine, const struct tracked *tracked,
                   const struct chp_ack *ack)
{
    struct resource *resource = resource__get(engine, tracked->resource);
    if (resource == NULL || !ack->own_given || tracked->incarnation != engine->incarnation ||
        strcmp(ack->site, engine->config.site) == 0) {
        return;
    }
    struct acked *acked = acked_of(engine, resource, ack->site);
    if (tracked->n > acked->n) {
        acked->n = tracked->n;
        acked->incarnation = ack->incarnation;
        acked->own = ack->own;
    }
}

uint64_t stable__own(struct chp_engine *engine, struct resource *resource,
                     const struct chp_vector *context)
{
    const struct chp_resource_row *row = &resource->row;
    uint64_t stable = chp_vector_get(context, engine->config.site, engine->incarnation);
    for (size_t i = 0; i < row->member_count && stable > 0; i++) {
        const char *site = row->members[i];
        if (strcmp(site, engine->config.site) == 0) {
            continue;
        }
        const struct acked *acked = acked_of(engine, resource, site);
        if (chp_vector_get(context, site, acked->incarnation) < acked->own) {
            return 0; /* something of it is on its way */
        }
        stable = acked->n < stable ? acked->n : stable;
    }
    return stable;
}

void stable__learn(struct chp_engine *engine, struct resource *resource,
                   const struct chp_operation *operation)
{
    const struct chp_dot *dot = &operation->dot;
    if (operation->stable > chp_vector_get(&resource->stable, dot->origin, dot->incarnation)) {
        chp_vector_set(&resource->stable, &resource->arena, engine__intern(engine, dot->origin),
                       dot->incarnation, operation->stable);
    }
}

/* Whether it could go, as far as it alone is concerned. */
static bool has_ended(const struct chp_engine *engine, const struct resource *resource,
                      const struct chp_entry *entry)
{
    const struct chp_dot *dot = &entry->dot;
    return chp_vector_get(&resource->stable, dot->origin, dot->incarnation) >= dot->n &&
           chp_state_final(entry->state) && !entry->undoing && !entry->held_back &&
           (entry->completed || strcmp(dot->origin, engine->config.site) != 0);
}

/* Whether all before it may go: then the state follows from it and what comes after. */
static bool is_start(struct resource *resource, const struct chp_entry *entry)
{
    struct chp_fate fate;
    return entry->effect > 0 && entry->state == CHP_STATE_DONE &&
           chp_sequence_fate(chp_replica_sequence(resource->replica), &entry->id, &fate) &&
           (fate.displaced == CHP_DISPLACED_NOT || fate.displaced == CHP_DISPLACED_PAST) &&
           chp_sequence_establishes(chp_replica_sequence(resource->replica), &entry->id);
}

/* The first block that has something that can't go; SIZE_MAX: something waits, or is unknown. */
static size_t first_needed(const struct chp_engine *engine, struct resource *resource)
{
    struct chp_sequence *sequence = chp_replica_sequence(resource->replica);
    size_t first = SIZE_MAX - 1;
    for (size_t i = 0; i < chp_replica_count(resource->replica); i++) {
        const struct chp_entry *entry = chp_replica_entry(resource->replica, i);
        const struct chp_uuid *id = entry->is_void ? &entry->target : &entry->id;
        struct chp_fate fate;
        bool single;
        if (entry->waits || entry->refused || !chp_sequence_fate(sequence, id, &fate)) {
            return 0;
        }
        size_t block = chp_sequence_block(sequence, id, &single);
        if (!has_ended(engine, resource, entry) && block < first) {
            first = block;
        }
    }
    return first;
}

/* The block to begin with, so that enough stay; 0: none. */
static size_t find_start(const struct chp_engine *engine, struct resource *resource)
{
    struct chp_sequence *sequence = chp_replica_sequence(resource->replica);
    size_t count = chp_replica_count(resource->replica);
    size_t needed = first_needed(engine, resource);
    size_t *sizes = chp_calloc(count + 1, sizeof *sizes); /* by block, then of it and the later */
    bool *starts = chp_calloc(count + 1, sizeof *starts);
    size_t best = 0;
    for (size_t i = 0; i < count && needed > 0; i++) {
        const struct chp_entry *entry = chp_replica_entry(resource->replica, i);
        bool single = false;
        if (entry->is_void) {
            continue;
        }
        size_t block = chp_sequence_block(sequence, &entry->id, &single);
        sizes[block]++;
        starts[block] = single && block <= needed && has_ended(engine, resource, entry) &&
                        is_start(resource, entry);
    }
    size_t stay = 0;
    for (size_t block = count; block > 0 && best == 0; block--) {
        stay += sizes[block];
        if (starts[block] && stay >= engine->config.operations_kept) {
            best = block;
        }
    }
    free(sizes);
    free(starts);
    return best;
}

/* Moves the row's vector on to what is in the blocks before start; false: it was there. */
static bool move_on(struct chp_engine *engine, struct resource *resource, size_t start)
{
    struct chp_sequence *sequence = chp_replica_sequence(resource->replica);
    struct chp_vector *forgotten = &resource->row.forgotten;
    bool moved = false;
    for (size_t i = 0; i < chp_replica_count(resource->replica); i++) {
        const struct chp_entry *entry = chp_replica_entry(resource->replica, i);
        const struct chp_dot *dot = &entry->dot;
        bool single;
        if (!entry->is_void && chp_sequence_block(sequence, &entry->id, &single) < start &&
            chp_vector_get(forgotten, dot->origin, dot->incarnation) < dot->n) {
            chp_vector_set(forgotten, &resource->arena, engine__intern(engine, dot->origin),
                           dot->incarnation, dot->n);
            moved = true;
        }
    }
    return moved;
}

static void forget(struct chp_engine *engine, struct resource *resource,
                   struct chp_effects *effects)
{
    struct chp_arena *arena = &effects->batch.arena;
    struct chp_write *write = chp_batch_write(&effects->batch, CHP_WRITE_FORGOTTEN);
    write->forgotten.resource = chp_arena_strdup(arena, resource->row.id);
    write->forgotten.vector = chp_vector_copy(&resource->row.forgotten, arena);
    resource->look_at = 0;
    resource->row.base_config = chp_arena_strdup(
        &resource->arena, chp_replica_config_seen(resource->replica, &resource->row.forgotten));
    resource__write(resource, effects);
    resource__reload(engine, resource, effects);
}

bool stable__forget(struct chp_engine *engine, struct resource *resource,
                    struct chp_effects *effects)
{
    const struct course *course = &resource->course;
    size_t count = chp_replica_count(resource->replica);
    size_t kept = engine->config.operations_kept;
    if (count < kept + kept / 4 || count < resource->look_at || !course->valid ||
        course->plan.kind == CHP_PLAN_DIVERGED || resource->row.degraded) {
        return false;
    }
    resource->look_at = count + kept / 4 + 1;
    size_t start = find_start(engine, resource);
    if (start == 0 || !move_on(engine, resource, start)) {
        return false;
    }
    forget(engine, resource, effects);
    return true;
}
