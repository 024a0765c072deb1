/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Gives another site operations that it lacks, through the stream to it, with what is known here of
 * their executions: the origin of an operation knows how the other site's ended, any member how its
 * own did.
 */
#include "engine/internal.h"

#include <string.h>

static void tell_forgotten(struct peer *peer, const char *resource, const struct chp_range *range,
                           struct chp_effects *effects)
{
    if (peer->version >= VERSION_WITH_PAST) {
        struct chp_item item = {.kind = CHP_ITEM_NONE,
                                .none = {.resource = resource, .range = *range, .forgotten = true}};
        (void)stream__control(peer, &item, effects);
    }
}

void engine__on_want(struct chp_engine *engine, const struct chp_event *event,
                     struct chp_effects *effects)
{
    const struct chp_want *want = &event->item.item->want;
    struct peer *peer = engine__peer(engine, event->item.from);
    const struct resource *resource = resource__get(engine, want->resource);
    if (resource == NULL) {
        resource__defer(engine, want->resource, event, effects);
        return;
    }
    struct chp_range range = want->range;
    uint64_t forgotten = chp_vector_get(&resource->row.forgotten, range.origin, range.incarnation);
    if (peer != NULL && range.first <= forgotten && range.first <= range.last) {
        range.last = range.last < forgotten ? range.last : forgotten;
        tell_forgotten(peer, want->resource, &range, effects);
        range = want->range;
        range.first = forgotten + 1;
    }
    if (peer != NULL && range.first <= range.last) {
        struct chp_arena *arena = &effects->batch.arena;
        struct chp_load *load = chp_batch_load(&effects->batch, CHP_LOAD_RANGE);
        load->resource = chp_arena_strdup(arena, want->resource);
        load->range = range;
        load->range.origin = chp_arena_strdup(arena, want->range.origin);
        load->site = peer->site;
        load->limit = WANT_RANGE_MAX;
        load->token = GIVE_TOKEN;
    }
    stream__settle(engine, event, effects);
}

/* An ack as an item, or no bytes. */
static struct chp_bytes encode_ack(const struct chp_execution_row *row, bool with_output,
                                   struct chp_effects *effects)
{
    struct chp_buf bytes = {0};
    struct chp_bytes copy = {0};
    if (row == NULL || (!chp_state_final(row->ack.state) && row->ack.state != CHP_STATE_IN_DOUBT)) {
        return copy;
    }
    struct chp_item item = {.kind = CHP_ITEM_ACK, .ack = row->ack};
    if (!with_output && item.ack.output.len > 0) {
        item.ack.output = (struct chp_bytes){0};
        item.ack.output_cut = true;
    }
    CHP_ASSERT(chp_item_encode(&item, &bytes, NULL) == 0); /* an ack fits: limits.h */
    copy = chp_arena_bytes(&effects->batch.arena, chp_buf_bytes(&bytes));
    chp_buf_deinit(&bytes);
    return copy;
}

/* The operation with what is known of it; without the output of commands when it would be too big.
 * False: it is too big in any case. */
static bool encode_past(const struct chp_engine *engine, const struct peer *peer,
                        const char *origin, const struct chp_item_row *row, bool with_output,
                        struct chp_effects *effects, struct chp_bytes *past)
{
    bool own = strcmp(origin, engine->config.site) == 0;
    bool theirs = strcmp(origin, peer->site) == 0;
    struct chp_item item = {
        .kind = CHP_ITEM_PAST,
        .past = {.operation = row->item,
                 .number = own && row->theirs != NULL ? row->theirs->number : 0,
                 .theirs = encode_ack(own ? row->theirs : NULL, with_output, effects),
                 .ours = encode_ack(theirs ? row->own : NULL, with_output, effects)}};
    struct chp_buf bytes = {0};
    bool fits = chp_item_encode(&item, &bytes, NULL) == 0;
    if (fits) {
        *past = chp_arena_bytes(&effects->batch.arena, chp_buf_bytes(&bytes));
    }
    chp_buf_deinit(&bytes);
    return fits;
}

static void give(const struct chp_engine *engine, struct peer *peer, const char *origin,
                 const struct chp_item_row *row, struct chp_effects *effects)
{
    struct chp_bytes past;
    if (peer->version >= VERSION_WITH_PAST &&
        (encode_past(engine, peer, origin, row, true, effects, &past) ||
         encode_past(engine, peer, origin, row, false, effects, &past))) {
        (void)stream__put(peer, CHP_KEY_OPERATION, NULL, past, effects);
        return;
    }
    struct chp_bytes item = chp_arena_bytes(&effects->batch.arena, row->item);
    (void)stream__put(peer, CHP_KEY_OPERATION, &row->operation, item, effects);
}

/* Tells who asked what of it is not here. */
static void tell_none(struct peer *peer, const struct chp_load *load, struct chp_effects *effects)
{
    uint64_t last = load->items.count == 0 ? load->range.last : load->items.rows[0].number - 1;
    if (peer->version >= VERSION_WITH_PAST && last >= load->range.first) {
        struct chp_item item = {.kind = CHP_ITEM_NONE,
                                .none = {.resource = load->resource, .range = load->range}};
        item.none.range.last = last;
        (void)stream__control(peer, &item, effects);
    }
}

void engine__on_range(struct chp_engine *engine, const struct chp_load *load,
                      struct chp_effects *effects)
{
    struct peer *peer = engine__peer(engine, load->site);
    CHP_ASSERT(peer != NULL);
    if (load->token == GIVE_TOKEN) {
        tell_none(peer, load, effects);
    }
    for (size_t i = 0; i < load->items.count; i++) {
        give(engine, peer, load->range.origin, &load->items.rows[i], effects);
    }
    if (load->items.count == load->limit &&
        load->items.rows[load->items.count - 1].number < load->range.last) {
        struct chp_arena *arena = &effects->batch.arena;
        struct chp_load *next = chp_batch_load(&effects->batch, CHP_LOAD_RANGE);
        next->resource = chp_arena_strdup(arena, load->resource);
        next->range = load->range;
        next->range.origin = chp_arena_strdup(arena, load->range.origin);
        next->range.first = load->items.rows[load->items.count - 1].number + 1;
        next->site = peer->site;
        next->limit = load->limit;
    }
}
