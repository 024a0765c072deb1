/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Operations that others depend on (design 4.4): what is missing is asked of its origin, then of
 * the other members in turn, ever less often. Only when every one of them has said that it does not
 * have it either, it is lost: recorded, and the operations that depend on it go on without it.
 *
 * What is asked for is kept with the resource in memory. It is found again when the resource is
 * loaded with operations that can't run, and by the members' reports.
 */
#include "engine/internal.h"

#include <stdlib.h>
#include <string.h>

enum { MISSING_MAX = 64, ASK_AFTER_US = 2000000, ASK_AFTER_MAX_US = 60000000 };

static uint64_t held(const struct resource *resource, const struct missing *missing)
{
    return chp_vector_get(&resource->row.vector, missing->origin, missing->incarnation);
}

/* The members that may have it, the origin first; returns how many. */
static size_t holders(const struct chp_engine *engine, const struct resource *resource,
                      const struct missing *missing, struct peer **peers)
{
    size_t count = 0;
    struct peer *origin = engine__peer(engine, missing->origin);
    if (origin != NULL) {
        peers[count++] = origin;
    }
    for (size_t i = 0; i < resource->row.member_count && count < CHP_SITES_MAX; i++) {
        struct peer *peer = engine__peer(engine, resource->row.members[i]);
        if (peer != NULL && peer != origin) {
            peers[count++] = peer;
        }
    }
    return count;
}

static void ask(struct chp_engine *engine, struct resource *resource, struct missing *missing,
                const struct chp_now *now, struct chp_effects *effects)
{
    struct peer *peers[CHP_SITES_MAX];
    size_t count = holders(engine, resource, missing, peers);
    if (count == 0) {
        return; /* an origin that is not known here: only its configuration can help */
    }
    struct peer *chosen = peers[missing->asked % count];
    for (size_t i = 0; i < count && chosen->state_known && !chosen->up; i++) {
        chosen = peers[++missing->asked % count];
    }
    missing->asked++;
    missing->asked_us = now->mono_us;
    struct chp_item item = {.kind = CHP_ITEM_WANT,
                            .want = {.resource = resource->row.id,
                                     .range = {.origin = missing->origin,
                                               .incarnation = missing->incarnation,
                                               .first = held(resource, missing) + 1,
                                               .last = missing->n}}};
    (void)stream__control(chosen, &item, effects);
}

static struct missing *find(struct resource *resource, const char *origin, uint64_t incarnation)
{
    for (size_t i = 0; i < resource->missing_count; i++) {
        struct missing *missing = &resource->missing[i];
        if (missing->incarnation == incarnation && strcmp(missing->origin, origin) == 0) {
            return missing;
        }
    }
    return NULL;
}

static void forget(struct resource *resource, struct missing *missing)
{
    free(missing->none);
    *missing = resource->missing[--resource->missing_count];
}

void causes__want(struct chp_engine *engine, struct resource *resource, const struct chp_dot *dot,
                  const struct chp_now *now, struct chp_effects *effects)
{
    struct missing *missing = find(resource, dot->origin, dot->incarnation);
    if (missing != NULL) {
        missing->n = dot->n > missing->n ? dot->n : missing->n;
        return; /* asked for already: again by the tick */
    }
    if (resource->missing_count == MISSING_MAX) {
        return; /* when some of them have come the tick of the others' turn comes: want_all */
    }
    resource->missing =
        chp_realloc(resource->missing, (resource->missing_count + 1) * sizeof *resource->missing);
    missing = &resource->missing[resource->missing_count++];
    *missing = (struct missing){.origin = engine__intern(engine, dot->origin),
                                .incarnation = dot->incarnation,
                                .n = dot->n,
                                .wait_us = ASK_AFTER_US,
                                .none_last = UINT64_MAX};
    ask(engine, resource, missing, now, effects);
}

void causes__want_all(struct chp_engine *engine, struct resource *resource,
                      const struct chp_operation *operation, const struct chp_now *now,
                      struct chp_effects *effects)
{
    for (size_t i = 0; i < operation->context.count; i++) {
        const struct chp_dot *dot = &operation->context.entries[i];
        if (chp_vector_get(&resource->row.vector, dot->origin, dot->incarnation) < dot->n) {
            causes__want(engine, resource, dot, now, effects);
        }
    }
}

void causes__tick(struct chp_engine *engine, struct resource *resource, const struct chp_now *now,
                  struct chp_effects *effects)
{
    for (size_t i = resource->missing_count; i-- > 0;) {
        struct missing *missing = &resource->missing[i];
        if (held(resource, missing) >= missing->n) {
            forget(resource, missing);
        } else if (now->mono_us - missing->asked_us >= missing->wait_us) {
            missing->wait_us =
                missing->wait_us * 2 > ASK_AFTER_MAX_US ? ASK_AFTER_MAX_US : missing->wait_us * 2;
            ask(engine, resource, missing, now, effects);
        }
    }
}

void causes__free(struct resource *resource)
{
    for (size_t i = 0; i < resource->missing_count; i++) {
        free(resource->missing[i].none);
    }
    free(resource->missing);
    resource->missing = NULL;
    resource->missing_count = 0;
}

static void lose(struct chp_engine *engine, struct resource *resource,
                 const struct chp_range *range, const struct chp_now *now,
                 struct chp_effects *effects)
{
    struct chp_write *write = chp_batch_write(&effects->batch, CHP_WRITE_LOST);
    write->lost.resource = chp_arena_strdup(&effects->batch.arena, resource->row.id);
    write->lost.range = *range;
    write->lost.range.origin = chp_arena_strdup(&effects->batch.arena, range->origin);
    write->lost.at_ms = now->wall_ms;
    struct chp_buf data = {0};
    chp_buf_add_text(&data, "{\"origin\":");
    journal__add_string(&data, range->origin);
    chp_buf_printf(&data, ",\"incarnation\":%llu,\"first\":%llu,\"last\":%llu}",
                   (unsigned long long)range->incarnation, (unsigned long long)range->first,
                   (unsigned long long)range->last);
    journal__add(engine,
                 &(struct journal_entry){.kind = "operation.lost",
                                         .resource = resource->row.id,
                                         .data = journal__take(&data, effects)},
                 now, effects);
    chp_vector_set(&resource->row.vector, &resource->arena, range->origin, range->incarnation,
                   range->last);
    resource__advance(resource);
    resource__write(resource, effects);
    report__held(engine, resource, effects);
    run__next(engine, resource, now, effects);
}

/* They were there, and whoever holds the rest does not need them. */
static void skip(struct chp_engine *engine, struct resource *resource,
                 const struct chp_range *range, const struct chp_now *now,
                 struct chp_effects *effects)
{
    struct chp_resource_row *row = &resource->row;
    const char *origin = engine__intern(engine, range->origin);
    chp_vector_set(&row->vector, &resource->arena, origin, range->incarnation, range->last);
    chp_vector_set(&row->forgotten, &resource->arena, origin, range->incarnation, range->last);
    resource__advance(resource);
    resource__write(resource, effects);
    report__held(engine, resource, effects);
    run__next(engine, resource, now, effects);
}

/* Notes that peer has nothing from the first missing one up to last; true when no member has. */
static bool nobody_has(struct chp_engine *engine, struct resource *resource,
                       struct missing *missing, const char *from, uint64_t last)
{
    struct peer *peers[CHP_SITES_MAX];
    size_t count = holders(engine, resource, missing, peers);
    struct peer *peer = engine__peer(engine, from);
    if (peer == NULL) {
        return false;
    }
    if (!engine__contains(missing->none, missing->none_count, peer->site)) {
        missing->none =
            chp_realloc(missing->none, (missing->none_count + 1) * sizeof *missing->none);
        missing->none[missing->none_count++] = peer->site;
    }
    missing->none_last = last < missing->none_last ? last : missing->none_last;
    for (size_t i = 0; i < count; i++) {
        if (!engine__contains(missing->none, missing->none_count, peers[i]->site)) {
            return false;
        }
    }
    return count > 0;
}

void engine__on_none(struct chp_engine *engine, const struct chp_event *event,
                     struct chp_effects *effects)
{
    const struct chp_none *none = &event->item.item->none;
    struct resource *resource = resource__get(engine, none->resource);
    struct missing *missing =
        resource == NULL ? NULL : find(resource, none->range.origin, none->range.incarnation);
    if (missing != NULL && none->forgotten && none->range.first <= held(resource, missing) + 1 &&
        none->range.last > held(resource, missing)) {
        skip(engine, resource, &none->range, &event->now, effects);
    } else if (missing != NULL && none->range.first == held(resource, missing) + 1 &&
               nobody_has(engine, resource, missing, event->item.from, none->range.last)) {
        struct chp_range range = {.origin = missing->origin,
                                  .incarnation = missing->incarnation,
                                  .first = none->range.first,
                                  .last = missing->none_last < missing->n ? missing->none_last
                                                                          : missing->n};
        forget(resource, missing);
        lose(engine, resource, &range, &event->now, effects);
    }
    stream__settle(engine, event, effects);
}
