/* SPDX-License-Identifier: AGPL-3.0-only */
/* What is heard of other sites: low-water marks and heartbeats; and the tick, which notices what is
 * not heard. */
#include "engine/internal.h"
#include "wire/version.h"

#include <stdio.h>

/* What a peer has of this site's streams says whether this database is the one that wrote them.
 * False: it is not. */
static bool check_mark(struct chp_engine *engine, struct peer *peer, const struct chp_mark *mark,
                       struct chp_effects *effects)
{
    if (mark->incarnation > engine->incarnation) {
        life__regressed(engine, "another site knows of a later life of this site",
                        mark->incarnation, effects);
        return false;
    }
    if (mark->incarnation < engine->incarnation) {
        life__earlier(peer, effects);
    } else if (mark->n > peer->out[mark->key].last) {
        life__regressed(engine, "another site has more of this site's streams than its database",
                        mark->incarnation, effects);
        return false;
    }
    return true;
}

void engine__on_marks(struct chp_engine *engine, const struct chp_event *event,
                      struct chp_effects *effects)
{
    struct peer *peer = engine__peer(engine, event->marks.from);
    if (peer != NULL && event->marks.next != 0) {
        stream__expect(peer, event, effects);
    }
    for (size_t i = 0; peer != NULL && i < event->marks.count; i++) {
        const struct chp_mark *mark = &event->marks.marks[i];
        struct stream_out *stream = &peer->out[mark->key];
        if (!check_mark(engine, peer, mark, effects)) {
            return;
        }
        if (mark->incarnation != engine->incarnation || mark->n <= stream->mark) {
            continue;
        }
        stream->mark = mark->n;
        struct chp_write *write = chp_batch_write(&effects->batch, CHP_WRITE_STREAM_OUT);
        write->stream.site = peer->site;
        write->stream.key = mark->key;
        write->stream.incarnation = engine->incarnation;
        write->stream.mark = mark->n;
        struct chp_after *after = chp_effects_after(effects, CHP_AFTER_MARK);
        after->stream.site = peer->site;
        after->stream.key = mark->key;
        after->stream.mark = mark->n;
        after->stream.last = stream->last;
        if (mark->key == CHP_KEY_OPERATION) {
            tracked__delivered(peer, effects);
        }
    }
}

static void set_up(struct chp_engine *engine, struct peer *peer, bool up, const struct chp_now *now,
                   struct chp_effects *effects)
{
    if (peer->state_known && peer->up == up) {
        return;
    }
    uint64_t silent_ms = (now->mono_us - peer->heard_us) / 1000;
    peer->up = up;
    peer->state_known = true;
    peer->since_ms = now->wall_ms;
    struct chp_write *write = chp_batch_write(&effects->batch, CHP_WRITE_PEER);
    write->peer.site = peer->site;
    write->peer.up = up;
    write->peer.since_ms = now->wall_ms;
    write->peer.heard_ms = peer->heard_ms;
    write->peer.round_trip_us = peer->round_trip_us;
    struct chp_buf data = {0};
    chp_buf_printf(&data, "{\"silent_ms\":%llu}", (unsigned long long)silent_ms);
    journal__add(engine,
                 &(struct journal_entry){.kind = up ? "site.up" : "site.down",
                                         .site = peer->site,
                                         .data = journal__take(&data, effects)},
                 now, effects);
    /* What it missed, or what a site that has gone gave only here. */
    for (size_t i = 0; i < engine->config.peer_count; i++) {
        struct peer *other = &engine->peers[i];
        other->reporting.due |= up ? other == peer : other != peer;
    }
    struct chp_after *after = chp_effects_after(effects, CHP_AFTER_PEER);
    after->peer.site = peer->site;
    after->peer.up = up;
}

/* Design section 3: the lower of the two highest; 0 when one's highest is below the other's lowest.
 */
static uint32_t common_version(const struct chp_beat *beat)
{
    uint32_t version = beat->version < CHP_WIRE_VERSION ? beat->version : CHP_WIRE_VERSION;
    return version < CHP_WIRE_VERSION_MIN || version < beat->version_min ? 0 : version;
}

void engine__on_beat(struct chp_engine *engine, const struct chp_event *event,
                     struct chp_effects *effects)
{
    struct peer *peer = engine__peer(engine, event->beat.from);
    if (peer == NULL) {
        return;
    }
    const struct chp_beat *beat = event->beat.beat;
    const struct chp_now *now = &event->now;
    set_up(engine, peer, true, now, effects);
    if (beat->echo_us != 0 && beat->echo_us + beat->held_us <= now->mono_us) {
        /* Exponentially weighted, an eighth each. A beat that waited for a link to heal is no
         * measurement: what it echoes is older than a site may be silent. */
        uint64_t round_trip_us = now->mono_us - beat->echo_us - beat->held_us;
        if (round_trip_us < engine->config.down_after_ms * 1000) {
            peer->round_trip_us = peer->round_trip_us == 0
                                      ? round_trip_us
                                      : (7 * peer->round_trip_us + round_trip_us) / 8;
        }
    }
    peer->heard = true;
    peer->heard_us = now->mono_us;
    peer->heard_ms = now->wall_ms;
    peer->beat_sent_us = beat->sent_us;
    peer->beat_wall_ms = beat->wall_ms;
    peer->version = common_version(beat);
    peer->version_max = beat->version;
    peer->version_min = beat->version_min;
    if (peer->incarnation != event->beat.incarnation) {
        if (peer->incarnation != 0) {
            report__restart(peer);
        }
        peer->incarnation = event->beat.incarnation;
    }
    (void)snprintf(peer->software, sizeof peer->software, "%s", beat->software);
}

void engine__on_tick(struct chp_engine *engine, const struct chp_event *event,
                     struct chp_effects *effects)
{
    if (!engine->started) {
        return;
    }
    for (size_t i = 0; i < engine->config.peer_count; i++) {
        struct peer *peer = &engine->peers[i];
        if (event->now.mono_us - peer->heard_us > engine->config.down_after_ms * 1000) {
            set_up(engine, peer, false, &event->now, effects);
        }
        report__tick(engine, peer, &event->now, effects);
    }
    void *value;
    for (const void *at = NULL; (value = chp_map_next(engine->resources, &at, NULL)) != NULL;) {
        run__tell(engine, value, &event->now, effects);
        causes__tick(engine, value, &event->now, effects);
        outcome__tick(engine, value, &event->now, effects);
    }
    engine__scan_busy(engine, effects);
    forget__tick(engine, &event->now, effects);
}
