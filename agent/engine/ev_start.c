/* SPDX-License-Identifier: AGPL-3.0-only */
/* The first event: reads what is not per resource, then finds the resources that have work. */
#include "engine/internal.h"

#include <stdlib.h>
#include <string.h>

void engine__on_start(struct chp_engine *engine, const struct chp_event *event,
                      struct chp_effects *effects)
{
    CHP_ASSERT(!engine->started);
    CHP_ASSERT(event->start.incarnation_proposed != 0);
    engine->incarnation = event->start.incarnation_proposed;
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
        return;
    }
    peer->out[row->key].last = row->last;
    peer->out[row->key].mark = row->mark;
    struct chp_after *after = chp_effects_after(effects, CHP_AFTER_STARTED);
    after->stream.site = peer->site;
    after->stream.key = row->key;
    after->stream.mark = row->mark;
    after->stream.last = row->last;
}

void engine__on_started(struct chp_engine *engine, const struct chp_load *load,
                        struct chp_effects *effects)
{
    engine->started = true;
    engine->event_last = load->start.event_last;
    engine->reply_last = load->start.reply_last;
    if (load->start.site != NULL) {
        engine->incarnation = load->start.incarnation;
    } else {
        struct chp_write *write = chp_batch_write(&effects->batch, CHP_WRITE_SELF);
        write->self.site = engine->config.site;
        write->self.incarnation = engine->incarnation;
    }
    for (size_t i = 0; i < load->start.stream_count; i++) {
        restore_stream(engine, &load->start.streams[i], effects);
    }
    struct chp_after *after = chp_effects_after(effects, CHP_AFTER_STARTED);
    after->stream.mark = load->start.event_published;
    after->stream.last = load->start.event_last;
    after->stream.reply_last = load->start.reply_last;
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
