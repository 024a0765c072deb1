/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Dots that were given twice (design section 4, incarnations): a database that went back in time,
 * together with everything that could show it, gives known dots to new operations until a peer
 * notices. The peer does not take such an operation and demands a new life; in it, the operations
 * of the earlier one from that dot on get dots of the new one and are delivered again. A site that
 * had taken one of them with its first dot follows, so that the first owner of the dot can come.
 */
#include "engine/internal.h"

#include <string.h>

bool redot__has_other_lives(const struct chp_vector *vector, const struct chp_dot *dot)
{
    for (size_t i = 0; i < vector->count; i++) {
        if (vector->entries[i].incarnation != dot->incarnation &&
            strcmp(vector->entries[i].origin, dot->origin) == 0) {
            return true;
        }
    }
    return false;
}

void redot__demand(struct chp_engine *engine, const char *origin,
                   const struct chp_operation *operation, struct chp_effects *effects)
{
    struct peer *peer = engine__peer(engine, origin);
    struct chp_item item = {.kind = CHP_ITEM_REINCARNATE,
                            .reincarnate = {.resource = operation->resource,
                                            .dot = operation->dot,
                                            .operation = operation->id}};
    struct chp_buf bytes = {0};
    CHP_ASSERT(peer != NULL);
    if (peer->version < VERSION_WITH_PAST) {
        return; /* it would not understand */
    }
    CHP_ASSERT(chp_item_encode(&item, &bytes, NULL) == 0);
    /* In the stream of acks: it must arrive. */
    (void)stream__put(peer, CHP_KEY_ACK, NULL,
                      chp_arena_bytes(&effects->batch.arena, chp_buf_bytes(&bytes)), effects);
    chp_buf_deinit(&bytes);
}

static void write_redot(const struct chp_operation *operation, struct chp_bytes item,
                        struct chp_effects *effects)
{
    struct chp_write *write = chp_batch_write(&effects->batch, CHP_WRITE_REDOT);
    write->redot.operation = operation->id;
    write->redot.incarnation = operation->dot.incarnation;
    write->redot.n = operation->dot.n;
    write->redot.stamp = operation->stamp;
    write->redot.item = item;
}

/* From n on, nothing of the earlier life is held any more. */
static void give_up(struct chp_engine *engine, struct resource *resource, const struct chp_dot *dot)
{
    struct chp_vector *vector = &resource->row.vector;
    if (chp_vector_get(vector, dot->origin, dot->incarnation) >= dot->n) {
        chp_vector_set(vector, &resource->arena, engine__intern(engine, dot->origin),
                       dot->incarnation, dot->n - 1);
    }
}

void redot__follow(struct chp_engine *engine, struct resource *resource,
                   const struct chp_operation *operation, struct chp_bytes item,
                   const struct chp_dot *known, struct chp_effects *effects)
{
    const struct chp_dot *dot = &operation->dot;
    if (dot->incarnation < known->incarnation) {
        return; /* its dot of the time before: it has another one now */
    }
    if (dot->incarnation > known->incarnation) {
        write_redot(operation, item, effects);
        give_up(engine, resource, known);
    }
    resource__hold(engine, resource, operation);
    resource__write(resource, effects);
    report__held(engine, resource, effects);
    resource__reload(engine, resource, effects);
}

void engine__on_reincarnate(struct chp_engine *engine, const struct chp_event *event,
                            struct chp_effects *effects)
{
    const struct chp_reincarnate *told = &event->item.item->reincarnate;
    if (strcmp(told->dot.origin, engine->config.site) != 0 ||
        told->dot.incarnation > engine->incarnation || told->dot.n == 0) {
        stream__settle(engine, event, effects);
        return;
    }
    if (told->dot.incarnation == engine->incarnation) {
        life__regressed(engine, "another site knows a dot of this site with another operation", 0,
                        effects);
        return; /* not settled: it comes to the next life */
    }
    struct deferred *deferred = chp_alloc(sizeof *deferred);
    deferred->event = *event;
    chp_list_append(&engine->redots, &deferred->link);
    struct chp_load *load = chp_batch_load(&effects->batch, CHP_LOAD_RANGE);
    load->resource = chp_arena_strdup(&effects->batch.arena, told->resource);
    load->range = (struct chp_range){.origin = engine->config.site,
                                     .incarnation = told->dot.incarnation,
                                     .first = told->dot.n,
                                     .last = INT64_MAX};
    load->site = engine->config.site;
    load->limit = WANT_RANGE_MAX;
    load->token = REDOT_TOKEN;
}

/* As if it were made now, since of a chain each operation has seen those before: its context is
 * what is held but for itself, its stamp is above all. What it displaces stays. */
static void see_all(struct chp_engine *engine, struct resource *resource,
                    const struct chp_dot *before, const struct chp_now *now,
                    struct chp_effects *effects, struct chp_operation *operation)
{
    struct chp_arena *arena = &effects->batch.arena;
    chp_replica_context(resource->replica, &resource->row.vector, arena, &operation->context);
    if (chp_vector_get(&operation->context, before->origin, before->incarnation) >= before->n) {
        chp_vector_set(&operation->context, arena, before->origin, before->incarnation,
                       before->n - 1);
    }
    operation->stamp = engine__next_stamp(engine, resource, now);
}

/* One operation of an earlier life gets the next dot of this one. */
static void move(struct chp_engine *engine, struct resource *resource,
                 const struct chp_item_row *row, const struct chp_now *now,
                 struct chp_effects *effects)
{
    struct chp_arena *arena = &effects->batch.arena;
    struct chp_item *item = chp_arena_alloc(arena, sizeof *item);
    struct chp_buf bytes = {0};
    if (chp_item_decode(row->item, arena, item, NULL) != 0 || item->kind != CHP_ITEM_OPERATION) {
        return; /* the store has said so */
    }
    struct chp_operation *operation = &item->operation;
    struct chp_dot before = operation->dot;
    operation->dot.incarnation = engine->incarnation;
    operation->dot.n =
        chp_vector_get(&resource->row.vector, engine->config.site, engine->incarnation) + 1;
    if (resource->replica != NULL) {
        see_all(engine, resource, &before, now, effects, operation);
    }
    CHP_ASSERT(chp_item_encode(item, &bytes, NULL) == 0);
    struct chp_bytes encoded = chp_arena_bytes(arena, chp_buf_bytes(&bytes));
    chp_buf_deinit(&bytes);
    write_redot(operation, encoded, effects);
    give_up(engine, resource, &before);
    resource__hold(engine, resource, operation);
    for (size_t i = 0; i < operation->member_count; i++) {
        struct peer *peer = engine__peer(engine, operation->members[i]);
        if (peer != NULL) {
            (void)stream__put(peer, CHP_KEY_OPERATION, &operation->id, encoded, effects);
        }
    }
}

void redot__loaded(struct chp_engine *engine, const struct chp_load *load,
                   const struct chp_now *now, struct chp_effects *effects)
{
    CHP_LIST_FOREACH_SAFE(&engine->redots, link, following)
    {
        struct deferred *deferred = CHP_CONTAINER(link, struct deferred, link);
        const struct chp_reincarnate *told = &deferred->event.item.item->reincarnate;
        if (strcmp(told->resource, load->resource) != 0 || told->dot.n != load->range.first) {
            continue;
        }
        struct chp_event event = deferred->event;
        event.now = *now;
        engine__free_deferred(deferred);
        struct resource *resource = resource__get(engine, load->resource);
        if (resource == NULL) {
            resource__defer(engine, load->resource, &event, effects);
            return;
        }
        for (size_t i = 0; i < load->items.count; i++) {
            move(engine, resource, &load->items.rows[i], now, effects);
        }
        resource__write(resource, effects);
        resource__reload(engine, resource, effects);
        if (load->items.count == load->limit) {
            engine__on_reincarnate(engine, &event, effects); /* what follows */
        } else {
            stream__settle(engine, &event, effects);
        }
        return;
    }
    CHP_ASSERT(!"operations that nobody moves");
}
