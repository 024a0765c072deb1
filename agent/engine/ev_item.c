/* SPDX-License-Identifier: AGPL-3.0-only */
/* An item of a message from another site: each is taken once, and settled when its effects are
 * committed. */
#include "engine/internal.h"

static void dead(const struct chp_event *event, const char *reason, struct chp_effects *effects)
{
    struct chp_after *after = chp_effects_after(effects, CHP_AFTER_DEAD);
    after->settle.delivery = event->item.delivery;
    after->settle.reason = reason;
    after->settle.bytes = event->item.bytes;
}

static void on_repair(struct chp_engine *engine, const struct chp_event *event,
                      struct chp_effects *effects)
{
    const struct chp_repair *repair = &event->item.item->repair;
    struct peer *peer = engine__peer(engine, event->item.from);
    if (peer != NULL && repair->after < peer->out[repair->key].last) {
        struct chp_after *after = chp_effects_after(effects, CHP_AFTER_RESEND);
        after->stream.site = peer->site;
        after->stream.key = repair->key;
        after->stream.mark = repair->after;
        after->stream.last = peer->out[repair->key].last;
    }
    stream__settle(engine, event, effects);
}

void engine__on_item(struct chp_engine *engine, const struct chp_event *event,
                     struct chp_effects *effects)
{
    if (stream__accept(engine, event, effects) != STREAM_NEXT) {
        chp_effects_after(effects, CHP_AFTER_SETTLE)->settle.delivery = event->item.delivery;
        return;
    }
    if (event->item.item == NULL) {
        stream__settle(engine, event, effects);
        return;
    }
    switch (event->item.item->kind) {
    case CHP_ITEM_OPERATION:
        engine__on_operation(engine, event, effects);
        return;
    case CHP_ITEM_ACK:
        engine__on_ack(engine, event, effects);
        return;
    case CHP_ITEM_WANT:
        engine__on_want(engine, event, effects);
        return;
    case CHP_ITEM_REPAIR:
        on_repair(engine, event, effects);
        return;
    case CHP_ITEM_PAST:
    case CHP_ITEM_NONE:
    case CHP_ITEM_REPORT:
    case CHP_ITEM_REPORTED:
    case CHP_ITEM_REINCARNATE:
    case CHP_ITEM_RESOLVE:
    case CHP_ITEM_RESOLVED:
    case CHP_ITEM_SHOW: /* the daemon's own */
    case CHP_ITEM_ANSWER:
    case CHP_ITEM_FETCH:
    case CHP_ITEM_CHUNK:
    case CHP_ITEM_BEAT:
        break;
    }
    dead(event, "this kind of item does not belong into this queue", effects);
    stream__settle(engine, event, effects);
}

void engine__on_ack(struct chp_engine *engine, const struct chp_event *event,
                    struct chp_effects *effects)
{
    const struct chp_ack *ack = &event->item.item->ack;
    struct tracked *tracked = tracked__get(engine, &ack->operation);
    if (tracked == NULL) {
        tracked__defer(engine, &ack->operation, event, effects);
        return;
    }
    tracked__answer(engine, tracked, ack, &event->now, effects);
    stream__settle(engine, event, effects);
}

/* Gives what another site lacks, through the stream to it. */
void engine__on_want(struct chp_engine *engine, const struct chp_event *event,
                     struct chp_effects *effects)
{
    const struct chp_want *want = &event->item.item->want;
    struct peer *peer = engine__peer(engine, event->item.from);
    if (peer != NULL && want->range.first <= want->range.last) {
        struct chp_arena *arena = &effects->batch.arena;
        struct chp_load *load = chp_batch_load(&effects->batch, CHP_LOAD_RANGE);
        load->resource = chp_arena_strdup(arena, want->resource);
        load->range = want->range;
        load->range.origin = chp_arena_strdup(arena, want->range.origin);
        load->site = peer->site;
        load->limit = WANT_RANGE_MAX;
    }
    stream__settle(engine, event, effects);
}
