/* SPDX-License-Identifier: AGPL-3.0-only */
/* The first event: reads what is not per resource, then finds the resources that have work. */
#include "engine/internal.h"

#include <stdlib.h>
#include <string.h>

/* Copied: the file moves on before the load is in. */
static void take_high_water(struct chp_engine *engine, const struct chp_high_water *known)
{
    struct chp_arena *arena = &engine->start_arena;
    if (known == NULL) {
        return;
    }
    engine->high_water = *known;
    engine->high_water.doubt = chp_arena_strdup(arena, known->doubt);
    engine->high_water.database = chp_arena_strdup(arena, known->database);
    struct chp_taken *taken = chp_arena_calloc(arena, known->taken_count, sizeof *taken);
    for (size_t i = 0; i < known->taken_count; i++) {
        taken[i] = known->taken[i];
        taken[i].site = chp_arena_strdup(arena, taken[i].site);
    }
    engine->high_water.taken = taken;
}

void engine__on_start(struct chp_engine *engine, const struct chp_event *event,
                      struct chp_effects *effects)
{
    CHP_ASSERT(!engine->started);
    CHP_ASSERT(event->start.incarnation_proposed != 0);
    engine->incarnation = event->start.incarnation_proposed;
    engine->regressed_reason = chp_arena_strdup(&engine->start_arena, event->start.regressed);
    engine->arrived_us = event->now.mono_us;
    take_high_water(engine, event->start.high_water);
    for (size_t i = 0; i < engine->config.peer_count; i++) {
        /* Nobody is called down before down_after has passed here. */
        engine->peers[i].heard_us = event->now.mono_us;
        engine->peers[i].since_ms = event->now.wall_ms;
    }
    chp_batch_load(&effects->batch, CHP_LOAD_START);
}

static void restore_stream(struct chp_engine *engine, const struct chp_stream_row *row,
                           struct chp_effects *effects)
{
    struct peer *peer = engine__peer(engine, row->site);
    if (peer == NULL) {
        return; /* a site that is no longer configured: its rows wait for it */
    }
    if (!row->out) {
        peer->in[row->key].incarnation = row->incarnation;
        peer->in[row->key].accepted = peer->in[row->key].mark = row->mark;
        peer->in[row->key].committed = row->mark;
        return;
    }
    if (row->incarnation != engine->incarnation) {
        return; /* of an earlier life: what waited was numbered anew */
    }
    peer->out[row->key].last = row->last;
    peer->out[row->key].mark = row->mark;
    struct chp_after *after = chp_effects_after(effects, CHP_AFTER_STARTED);
    after->stream.site = peer->site;
    after->stream.key = row->key;
    after->stream.mark = row->mark;
    after->stream.last = row->last;
}

static void restore_peer(struct chp_engine *engine, const struct chp_peer_row *row)
{
    struct peer *peer = engine__peer(engine, row->site);
    if (peer != NULL) {
        peer->gap_open = row->gap_open;
        peer->gap_mark = row->gap_mark;
        peer->reporting.incarnation = row->reported_incarnation;
        peer->reporting.arrival = row->reported_arrival;
        peer->reporting.stale = true;
    }
}

static void write_self(const struct chp_engine *engine, const struct chp_load *load,
                       struct chp_effects *effects)
{
    struct chp_write *write = chp_batch_write(&effects->batch, CHP_WRITE_SELF);
    write->self.site = engine->config.site;
    write->self.incarnation = engine->incarnation;
    write->self.database = chp_arena_strdup(&effects->batch.arena, load->start.database);
}

void engine__on_started(struct chp_engine *engine, const struct chp_load *load,
                        const struct chp_now *now, struct chp_effects *effects)
{
    engine->serial = load->start.serial;
    if (!engine->judged) {
        engine->judged = true;
        engine->database = chp_arena_strdup(&engine->start_arena, load->start.database);
        if (life__judge(engine, load, effects)) {
            return;
        }
    }
    engine->started = true;
    engine->event_last = load->start.event_last;
    engine->reply_last = load->start.reply_last;
    if (load->start.site != NULL) {
        engine->incarnation = load->start.incarnation;
    }
    if (load->start.site == NULL ||
        (load->start.database != NULL && load->start.database_known == NULL)) {
        write_self(engine, load, effects);
    }
    for (size_t i = 0; i < load->start.stream_count; i++) {
        restore_stream(engine, &load->start.streams[i], effects);
    }
    for (size_t i = 0; i < load->start.peer_count; i++) {
        restore_peer(engine, &load->start.peers[i]);
    }
    for (size_t i = 0; i < load->start.undecoded_count; i++) {
        const struct chp_undecoded_total *total = &load->start.undecoded[i];
        struct peer *peer = engine__peer(engine, total->site);
        if (peer != NULL) {
            peer->undecoded.rows = total->rows;
            peer->undecoded.bytes = total->bytes;
        }
    }
    struct chp_after *after = chp_effects_after(effects, CHP_AFTER_STARTED);
    after->stream.mark = load->start.event_published;
    after->stream.last = load->start.event_last;
    after->stream.reply_last = load->start.reply_last;
    if (engine->life_reason != NULL) {
        if (engine->event_last < engine->high_water.event_last) {
            engine->event_last = engine->high_water.event_last; /* no number means two things */
        }
        life__tell(engine, now, effects);
    }
    engine->busy_left = true;
    engine__scan_busy(engine, effects);
}

void engine__scan_busy(struct chp_engine *engine, struct chp_effects *effects)
{
    if (!engine->busy_left || engine->busy_loading ||
        chp_map_count(engine->resources) >= engine->config.resources_max) {
        return;
    }
    engine->busy_loading = true;
    if (engine->busy_after == NULL) {
        engine->busy_left = false; /* set again by what is evicted during the scan */
    }
    struct chp_load *load = chp_batch_load(&effects->batch, CHP_LOAD_BUSY);
    load->resource = chp_arena_strdup(&effects->batch.arena,
                                      engine->busy_after == NULL ? "" : engine->busy_after);
    load->limit = BUSY_PAGE;
}

void engine__on_busy(struct chp_engine *engine, const struct chp_load *load,
                     struct chp_effects *effects)
{
    engine->busy_loading = false;
    free(engine->busy_after);
    engine->busy_after = NULL;
    for (size_t i = 0; i < load->busy.count; i++) {
        if (chp_map_get(engine->resources, chp_bytes_of(load->busy.ids[i])) == NULL) {
            resource__defer(engine, load->busy.ids[i], NULL, effects);
        }
    }
    if (load->busy.count == load->limit) {
        engine->busy_after = chp_strdup(load->busy.ids[load->busy.count - 1]);
        engine->busy_left = true;
        engine__scan_busy(engine, effects);
    }
}
