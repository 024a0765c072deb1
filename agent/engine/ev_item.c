/* SPDX-License-Identifier: AGPL-3.0-only */
/* An item of a message from another site: each is taken once, and settled when its effects are
 * committed. */
#include "engine/internal.h"

#include <string.h>

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
    if (peer != NULL && repair->after < peer->out[repair->key].mark) {
        /* What it asks for it had: its database went back in time, and the report says so. */
        peer->reporting.due = true;
    }
    if (peer != NULL && repair->after < peer->out[repair->key].last) {
        struct chp_after *after = chp_effects_after(effects, CHP_AFTER_RESEND);
        after->stream.site = peer->site;
        after->stream.key = repair->key;
        after->stream.mark = repair->after;
        after->stream.last = peer->out[repair->key].last;
    }
    stream__settle(engine, event, effects);
}

/* An item that waited for its resource. */
void engine__on_resource_item(struct chp_engine *engine, const struct chp_event *event,
                              struct chp_effects *effects)
{
    if (event->item.item->kind == CHP_ITEM_ACK) {
        engine__on_ack(engine, event, effects);
    } else if (event->item.item->kind == CHP_ITEM_REINCARNATE) {
        engine__on_reincarnate(engine, event, effects);
    } else if (event->item.item->kind == CHP_ITEM_WANT) {
        engine__on_want(engine, event, effects);
    } else {
        engine__on_operation(engine, event, effects);
    }
}

/* Whether this repetition has the highest number that was taken. A sender whose database went back
 * in time gives numbers again: either its stream is then shorter than what is told of it, or it
 * comes by this number, with another operation. */
static bool is_last_of_stream(const struct chp_engine *engine, const struct chp_event *event)
{
    const struct peer *peer = engine__peer(engine, event->item.from);
    const struct stream_in *stream = &peer->in[event->item.key];
    return event->item.key == CHP_KEY_OPERATION && event->item.number == stream->accepted &&
           event->item.number == stream->mark && /* the first one is stored */

           event->item.incarnation == stream->incarnation && event->item.item != NULL &&
           event->item.item->kind == CHP_ITEM_OPERATION &&
           strcmp(event->item.item->operation.dot.origin, peer->site) == 0;
}

void engine__on_item(struct chp_engine *engine, const struct chp_event *event,
                     struct chp_effects *effects)
{
    enum stream_verdict verdict = stream__accept(engine, event, effects);
    if (verdict == STREAM_REPEATED && is_last_of_stream(engine, event)) {
        struct chp_event repeated = *event;
        repeated.item.repeated = true;
        engine__look_up(engine, &repeated, effects);
        return;
    }
    if (verdict != STREAM_NEXT) {
        chp_effects_after(effects, CHP_AFTER_SETTLE)->settle.delivery = event->item.delivery;
        return;
    }
    if (event->item.item == NULL) {
        if (event->item.unknown) {
            stream__keep(engine, event, effects);
        }
        stream__settle(engine, event, effects);
        return;
    }
    switch (event->item.item->kind) {
    case CHP_ITEM_OPERATION:
    case CHP_ITEM_PAST:
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
    case CHP_ITEM_NONE:
        engine__on_none(engine, event, effects);
        return;
    case CHP_ITEM_REPORT:
        engine__on_report(engine, event, effects);
        return;
    case CHP_ITEM_REPORTED:
        engine__on_reported(engine, event, effects);
        return;
    case CHP_ITEM_REINCARNATE:
        engine__on_reincarnate(engine, event, effects);
        return;
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
    if (ack->state == CHP_STATE_DONE && tracked__failed_at(tracked, engine->config.site) &&
        resource__get(engine, ack->resource) == NULL) {
        /* The replica here is to say with the same commit that it is degraded. */
        resource__defer(engine, ack->resource, event, effects);
        return;
    }
    tracked__answer(engine, tracked, ack, &event->now, effects);
    stream__settle(engine, event, effects);
}
