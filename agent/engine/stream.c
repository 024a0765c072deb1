/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Streams (design 4.7): for each ordered pair of sites and routing key, items numbered without gaps
 * by the single writer.
 *
 * The receiver takes the items of a stream strictly in order. A repetition is settled at once.
 * Behind a gap nothing is taken: the receiver asks for the stream again from its last number, and
 * the sender reads it from the database, where an item stays until the receiver's low-water mark
 * has passed it. Keeping what lies behind a gap was rejected: gaps are rare (the broker lost
 * messages, or reordered them when a link was reset), and this way the mark alone says what is
 * missing.
 *
 * An item of a kind that only a later version knows is kept as it is, and its stream passes it; the
 * version that knows it steps it like one that arrives. What is kept is bounded: then the stream
 * stops before it, and the items wait at their sender.
 */
#include "engine/internal.h"

#include <stdlib.h>
#include <string.h>

uint64_t stream__put(struct peer *peer, enum chp_key key, const struct chp_uuid *operation,
                     struct chp_bytes item, struct chp_effects *effects)
{
    CHP_ASSERT(key == CHP_KEY_OPERATION || key == CHP_KEY_ACK);
    struct stream_out *stream = &peer->out[key];
    uint64_t number = ++stream->last;
    struct chp_write *write = chp_batch_write(&effects->batch, CHP_WRITE_OUTBOUND);
    write->outbound.site = peer->site;
    write->outbound.key = key;
    write->outbound.number = number;
    if (operation != NULL) {
        write->outbound.is_operation = true;
        write->outbound.operation = *operation;
    } else {
        write->outbound.item = item;
    }
    struct chp_after *after = chp_effects_after(effects, CHP_AFTER_SEND);
    after->send.site = peer->site;
    after->send.key = key;
    after->send.number = number;
    after->send.item = item;
    return number;
}

bool stream__control(struct peer *peer, const struct chp_item *item, struct chp_effects *effects)
{
    struct chp_buf bytes = {0};
    bool fits = chp_item_encode(item, &bytes, NULL) == 0;
    if (fits) {
        struct chp_after *after = chp_effects_after(effects, CHP_AFTER_CONTROL);
        after->send.site = peer->site;
        after->send.key = CHP_KEY_CONTROL;
        after->send.item = chp_arena_bytes(&effects->batch.arena, chp_buf_bytes(&bytes));
    }
    chp_buf_deinit(&bytes);
    return fits;
}

static void ask_repair(struct peer *peer, enum chp_key key, const struct chp_now *now,
                       struct chp_effects *effects)
{
    struct stream_in *stream = &peer->in[key];
    if (stream->full || (stream->repair_asked_us != 0 &&
                         now->mono_us - stream->repair_asked_us < REPAIR_INTERVAL_US)) {
        return;
    }
    stream->repair_asked_us = now->mono_us;
    struct chp_item item = {.kind = CHP_ITEM_REPAIR,
                            .repair = {.key = key, .after = stream->accepted}};
    (void)stream__control(peer, &item, effects);
}

/* A new life of the sender's database: its streams begin anew. */
static void follow_incarnation(struct stream_in *stream, uint64_t incarnation)
{
    if (incarnation > stream->incarnation) {
        free(stream->ahead.ranges);
        *stream = (struct stream_in){.incarnation = incarnation};
    }
}

void stream__expect(struct peer *peer, const struct chp_event *event, struct chp_effects *effects)
{
    struct stream_in *stream = &peer->in[event->marks.key];
    follow_incarnation(stream, event->marks.incarnation);
    if (event->marks.incarnation == stream->incarnation &&
        event->marks.next > stream->accepted + 1) {
        ask_repair(peer, event->marks.key, &event->now, effects);
    }
}

static bool room_for(const struct peer *peer, size_t len)
{
    return peer->undecoded.rows < CHP_UNDECODED_MAX &&
           peer->undecoded.bytes + len <= CHP_UNDECODED_MAX_BYTES;
}

enum stream_verdict stream__accept(struct chp_engine *engine, const struct chp_event *event,
                                   struct chp_effects *effects)
{
    struct peer *peer = engine__peer(engine, event->item.from);
    uint64_t number = event->item.number;
    if (peer == NULL || number == 0 || event->item.stored != 0) {
        return STREAM_NEXT;
    }
    struct stream_in *stream = &peer->in[event->item.key];
    follow_incarnation(stream, event->item.incarnation);
    if (event->item.incarnation < stream->incarnation || number <= stream->accepted) {
        return STREAM_REPEATED;
    }
    if (number > stream->accepted + 1) {
        ask_repair(peer, event->item.key, &event->now, effects);
        return STREAM_GAP;
    }
    if (event->item.unknown && !room_for(peer, event->item.bytes.len)) {
        stream->full = true;
        return STREAM_GAP;
    }
    stream->accepted = number;
    stream->repair_asked_us = 0;
    return STREAM_NEXT;
}

/* Adds number to the ranges and moves the mark over what has become contiguous. */
static void advance(struct stream_in *stream, uint64_t number)
{
    struct settled_ahead *ahead = &stream->ahead;
    CHP_ASSERT(number > stream->mark);
    size_t i = 0;
    while (i < ahead->count && ahead->ranges[i].last + 1 < number) {
        i++;
    }
    if (i < ahead->count && ahead->ranges[i].first <= number + 1) {
        CHP_ASSERT(number < ahead->ranges[i].first || number > ahead->ranges[i].last);
        if (number < ahead->ranges[i].first) {
            ahead->ranges[i].first = number;
        } else {
            ahead->ranges[i].last = number;
        }
        if (i + 1 < ahead->count && ahead->ranges[i].last + 1 == ahead->ranges[i + 1].first) {
            ahead->ranges[i].last = ahead->ranges[i + 1].last;
            memmove(&ahead->ranges[i + 1], &ahead->ranges[i + 2],
                    (ahead->count - i - 2) * sizeof *ahead->ranges);
            ahead->count--;
        }
    } else {
        if (ahead->count == ahead->cap) {
            ahead->cap = ahead->cap == 0 ? 8 : ahead->cap * 2;
            ahead->ranges = chp_realloc(ahead->ranges, ahead->cap * sizeof *ahead->ranges);
        }
        memmove(&ahead->ranges[i + 1], &ahead->ranges[i],
                (ahead->count - i) * sizeof *ahead->ranges);
        ahead->ranges[i].first = ahead->ranges[i].last = number;
        ahead->count++;
    }
    if (ahead->ranges[0].first == stream->mark + 1) {
        stream->mark = ahead->ranges[0].last;
        memmove(&ahead->ranges[0], &ahead->ranges[1], (ahead->count - 1) * sizeof *ahead->ranges);
        ahead->count--;
    }
}

/* One write for each stream and batch: an earlier one of the same batch is brought up to date. */
static void write_mark(struct peer *peer, enum chp_key key, struct chp_effects *effects)
{
    struct stream_in *stream = &peer->in[key];
    struct chp_batch *batch = &effects->batch;
    struct chp_write *write = NULL;
    if (stream->write_index < batch->write_count) {
        write = &batch->writes[stream->write_index];
        if (write->kind != CHP_WRITE_STREAM_IN || write->stream.site != peer->site ||
            write->stream.key != key) {
            write = NULL;
        }
    }
    if (write == NULL) {
        stream->write_index = batch->write_count;
        write = chp_batch_write(batch, CHP_WRITE_STREAM_IN);
        write->stream.site = peer->site;
        write->stream.key = key;
    }
    write->stream.incarnation = stream->incarnation;
    write->stream.mark = stream->mark;
}

void stream__skip(struct peer *peer, enum chp_key key, uint64_t mark, struct chp_effects *effects)
{
    struct stream_in *stream = &peer->in[key];
    CHP_ASSERT(mark > stream->accepted);
    stream->ahead.count = 0; /* what was settled ahead is before it */
    stream->accepted = stream->mark = mark;
    stream->repair_asked_us = 0;
    write_mark(peer, key, effects);
}

void stream__keep(struct chp_engine *engine, const struct chp_event *event,
                  struct chp_effects *effects)
{
    struct peer *peer = engine__peer(engine, event->item.from);
    if (peer == NULL || event->item.number == 0) {
        return;
    }
    struct chp_write *write = chp_batch_write(&effects->batch, CHP_WRITE_UNDECODED);
    write->undecoded.site = peer->site;
    write->undecoded.key = event->item.key;
    write->undecoded.incarnation = event->item.incarnation;
    write->undecoded.number = event->item.number;
    write->undecoded.item = event->item.bytes;
    peer->undecoded.rows++;
    peer->undecoded.bytes += event->item.bytes.len;
}

/* It is safe as what it was decoded to. */
static void forget_kept(struct peer *peer, const struct chp_event *event,
                        struct chp_effects *effects)
{
    chp_batch_write(&effects->batch, CHP_WRITE_DECODED)->decoded = event->item.stored;
    if (peer != NULL) {
        CHP_ASSERT(peer->undecoded.rows > 0 && peer->undecoded.bytes >= event->item.bytes.len);
        peer->undecoded.rows--;
        peer->undecoded.bytes -= event->item.bytes.len;
        peer->in[CHP_KEY_OPERATION].full = peer->in[CHP_KEY_ACK].full = false;
    }
}

void stream__settle(struct chp_engine *engine, const struct chp_event *event,
                    struct chp_effects *effects)
{
    struct peer *peer = engine__peer(engine, event->item.from);
    if (event->item.stored != 0) {
        forget_kept(peer, event, effects);
    } else if (peer != NULL && event->item.number != 0 && !event->item.repeated) {
        struct stream_in *stream = &peer->in[event->item.key];
        if (event->item.incarnation == stream->incarnation && event->item.number > stream->mark &&
            event->item.number <= stream->accepted) {
            uint64_t before = stream->mark;
            advance(stream, event->item.number);
            if (stream->mark != before) {
                write_mark(peer, event->item.key, effects);
            }
        }
    }
    chp_effects_after(effects, CHP_AFTER_SETTLE)->settle.delivery = event->item.delivery;
}

void stream__deinit(struct peer *peer)
{
    for (int key = 0; key < CHP_KEY_COUNT; key++) {
        free(peer->in[key].ahead.ranges);
    }
}
