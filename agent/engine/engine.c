/* SPDX-License-Identifier: AGPL-3.0-only */
/* The engine's life, its dispatch, and what doors may look at. */
#include "engine/internal.h"
#include "wire/version.h"

#include <stdlib.h>
#include <string.h>

struct chp_engine *chp_engine_new(const struct chp_engine_config *config)
{
    CHP_ASSERT(config->site != NULL);
    CHP_ASSERT(config->peer_count < CHP_SITES_MAX);
    struct chp_engine *engine = chp_alloc(sizeof *engine);
    engine->magic = ENGINE_MAGIC;
    engine->config = *config;
    engine->peers = chp_calloc(config->peer_count, sizeof *engine->peers);
    for (size_t i = 0; i < config->peer_count; i++) {
        engine->peers[i].site = config->peers[i].site;
        engine->peers[i].version = CHP_WIRE_VERSION_MIN;
        chp_list_init(&engine->peers[i].undelivered);
    }
    engine->resources = chp_map_new(config->map_seed);
    engine->tracked = chp_map_new(config->map_seed);
    engine->tracked_loading = chp_map_new(config->map_seed);
    engine->keys = chp_map_new(config->map_seed);
    engine->names = chp_map_new(config->map_seed);
    engine->matrices = chp_matrices_new();
    chp_list_init(&engine->voids);
    chp_list_init(&engine->lru);
    chp_list_init(&engine->tracked_lru);
    chp_list_init(&engine->keys_order);
    chp_list_init(&engine->key_waiting);
    chp_list_init(&engine->again);
    chp_list_init(&engine->redots);
    return engine;
}

void engine__free_deferred(struct deferred *deferred)
{
    chp_list_remove(&deferred->link);
    chp_arena_deinit(&deferred->arena);
    free(deferred);
}

static void free_all_deferred(struct chp_list *list)
{
    CHP_LIST_FOREACH_SAFE(list, link, following)
    {
        engine__free_deferred(CHP_CONTAINER(link, struct deferred, link));
    }
}

void chp_engine_free(struct chp_engine *engine)
{
    if (engine == NULL) {
        return;
    }
    CHP_ASSERT(engine->magic == ENGINE_MAGIC);
    engine->magic = 0;
    void *value;
    for (const void *at = NULL; (value = chp_map_next(engine->resources, &at, NULL)) != NULL;) {
        resource__free(value);
    }
    for (const void *at = NULL; (value = chp_map_next(engine->tracked, &at, NULL)) != NULL;) {
        tracked__free(value);
    }
    for (const void *at = NULL;
         (value = chp_map_next(engine->tracked_loading, &at, NULL)) != NULL;) {
        free_all_deferred(value);
        free(value);
    }
    outcome__deinit(engine);
    chp_matrices_free(engine->matrices);
    free_all_deferred(&engine->key_waiting);
    free_all_deferred(&engine->again);
    free_all_deferred(&engine->redots);
    for (const void *at = NULL; (value = chp_map_next(engine->keys, &at, NULL)) != NULL;) {
        free(value);
    }
    for (const void *at = NULL; (value = chp_map_next(engine->names, &at, NULL)) != NULL;) {
        free(value);
    }
    for (size_t i = 0; i < engine->config.peer_count; i++) {
        stream__deinit(&engine->peers[i]);
        report__deinit(&engine->peers[i]);
    }
    chp_arena_deinit(&engine->start_arena);
    chp_map_free(engine->resources);
    chp_map_free(engine->tracked);
    chp_map_free(engine->tracked_loading);
    chp_map_free(engine->keys);
    chp_map_free(engine->names);
    free(engine->peers);
    free(engine->busy_after);
    free(engine);
}

void chp_engine_step(struct chp_engine *engine, const struct chp_event *event,
                     struct chp_effects *effects)
{
    CHP_ASSERT(engine->magic == ENGINE_MAGIC);
    CHP_ASSERT(engine->started || event->kind == CHP_EVENT_START ||
               event->kind == CHP_EVENT_LOADED || event->kind == CHP_EVENT_TICK);
    if (engine->regressed) {
        return; /* what is not settled or answered comes to the next engine */
    }
    switch (event->kind) {
    case CHP_EVENT_START:
        engine__on_start(engine, event, effects);
        break;
    case CHP_EVENT_LOADED:
        engine__on_loaded(engine, event, effects);
        break;
    case CHP_EVENT_REQUEST:
        engine__on_request(engine, event, effects);
        break;
    case CHP_EVENT_ITEM:
        engine__on_item(engine, event, effects);
        break;
    case CHP_EVENT_MARKS:
        engine__on_marks(engine, event, effects);
        break;
    case CHP_EVENT_BEAT:
        engine__on_beat(engine, event, effects);
        break;
    case CHP_EVENT_FETCHED:
        engine__on_fetched(engine, event, effects);
        break;
    case CHP_EVENT_EXECUTED:
        engine__on_executed(engine, event, effects);
        break;
    case CHP_EVENT_RESOLVE:
        engine__on_resolve(engine, event, effects);
        break;
    case CHP_EVENT_TICK:
        engine__on_tick(engine, event, effects);
        break;
    case CHP_EVENT_ANSWER:
        CHP_ASSERT(!"an event of the engine's own");
        break;
    }
    outcome__issue_voids(engine, &event->now, effects);
    resource__evict(engine);
    tracked__evict(engine);
}

struct chp_after *chp_effects_after(struct chp_effects *effects, enum chp_after_kind kind)
{
    if (effects->after_count == effects->after_cap) {
        effects->after_cap = effects->after_cap == 0 ? 8 : effects->after_cap * 2;
        struct chp_after *grown =
            chp_arena_calloc(&effects->batch.arena, effects->after_cap, sizeof *grown);
        if (effects->after_count > 0) {
            memcpy(grown, effects->after, effects->after_count * sizeof *grown);
        }
        effects->after = grown;
    }
    struct chp_after *after = &effects->after[effects->after_count++];
    after->kind = kind;
    return after;
}

void chp_effects_deinit(struct chp_effects *effects)
{
    chp_batch_deinit(&effects->batch);
    *effects = (struct chp_effects){0};
}

struct peer *engine__peer(const struct chp_engine *engine, const char *site)
{
    for (size_t i = 0; i < engine->config.peer_count; i++) {
        if (strcmp(engine->peers[i].site, site) == 0) {
            return &engine->peers[i];
        }
    }
    return NULL;
}

bool engine__is_known(const struct chp_engine *engine, const char *site)
{
    return strcmp(engine->config.site, site) == 0 || engine__peer(engine, site) != NULL;
}

bool engine__contains(const char *const *sites, size_t count, const char *site)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(sites[i], site) == 0) {
            return true;
        }
    }
    return false;
}

const char *engine__intern(struct chp_engine *engine, const char *name)
{
    if (name == NULL) {
        return NULL;
    }
    char *known = chp_map_get(engine->names, chp_bytes_of(name));
    if (known == NULL) {
        known = chp_strdup(name);
        chp_map_put(engine->names, chp_bytes_of(name), known);
    }
    return known;
}

/* The wall clock of a peer, as far as it is known; 0 when it was not heard since the start. What it
 * said goes on with the monotonic clock, so that the clock of a site that is cut off is still
 * checked, and a peer whose clock is behind is not believed as soon as the others are silent. */
static uint64_t wall_ms_of(const struct peer *peer, const struct chp_now *now)
{
    return peer->heard ? peer->beat_wall_ms + (now->mono_us - peer->heard_us) / 1000 : 0;
}

/* The latest wall clock that a peer confirms; 0 when none was heard. */
static uint64_t confirmed_wall_ms(const struct chp_engine *engine, const struct chp_now *now)
{
    uint64_t latest = 0;
    for (size_t i = 0; i < engine->config.peer_count; i++) {
        uint64_t wall_ms = wall_ms_of(&engine->peers[i], now);
        latest = wall_ms > latest ? wall_ms : latest;
    }
    return latest;
}

bool engine__clock_lags(const struct chp_engine *engine, const struct chp_now *now)
{
    uint64_t earliest = UINT64_MAX;
    for (size_t i = 0; i < engine->config.peer_count; i++) {
        uint64_t wall_ms = wall_ms_of(&engine->peers[i], now);
        earliest = wall_ms != 0 && wall_ms < earliest ? wall_ms : earliest;
    }
    return earliest != UINT64_MAX && earliest > now->wall_ms + engine->config.max_skew_ms;
}

bool chp_engine_clock_suspect(const struct chp_engine *engine, const struct chp_now *now)
{
    uint64_t confirmed = confirmed_wall_ms(engine, now);
    return confirmed != 0 && now->wall_ms > confirmed + engine->config.max_skew_ms;
}

/* Design 4.2: a wall clock that leads what peers confirm by more than max_skew is not trusted. */
uint64_t engine__trusted_wall_ms(const struct chp_engine *engine, const struct chp_now *now)
{
    return chp_engine_clock_suspect(engine, now) ? confirmed_wall_ms(engine, now) : now->wall_ms;
}

bool engine__leads(const struct chp_engine *engine, struct chp_stamp stamp,
                   const struct chp_now *now)
{
    return stamp.ms > engine__trusted_wall_ms(engine, now) + engine->config.max_skew_ms;
}

bool chp_engine_peer(const struct chp_engine *engine, size_t index, struct chp_peer_view *view)
{
    if (index >= engine->config.peer_count) {
        return false;
    }
    const struct peer *peer = &engine->peers[index];
    *view = (struct chp_peer_view){
        .site = peer->site,
        .up = peer->up,
        .state_known = peer->state_known,
        .since_ms = peer->since_ms,
        .heard_ms = peer->heard_ms,
        .round_trip_us = peer->round_trip_us,
        .clock_offset_ms = peer->heard ? (int64_t)(peer->beat_wall_ms - peer->heard_ms) : 0,
        .version = peer->version,
        .version_max = peer->version_max,
        .version_min = peer->version_min,
        .undecoded = peer->undecoded.rows,
        .software = peer->software,
        .incarnation = peer->incarnation,
        .taken_incarnation = peer->in[CHP_KEY_OPERATION].incarnation,
        .taken = peer->in[CHP_KEY_OPERATION].committed,
        .gap_open = peer->gap_open,
    };
    return true;
}

size_t chp_engine_marks(const struct chp_engine *engine, const char *site, struct chp_mark *marks)
{
    const struct peer *peer = engine__peer(engine, site);
    size_t count = 0;
    for (int key = 0; peer != NULL && key < CHP_KEY_COUNT; key++) {
        if (peer->in[key].incarnation != 0) {
            marks[count++] = (struct chp_mark){.key = (enum chp_key)key,
                                               .incarnation = peer->in[key].incarnation,
                                               .n = peer->in[key].committed};
        }
    }
    return count;
}

void chp_engine_committed(struct chp_engine *engine, const struct chp_batch *batch)
{
    for (size_t i = 0; i < batch->write_count; i++) {
        const struct chp_write *write = &batch->writes[i];
        struct peer *peer =
            write->kind == CHP_WRITE_STREAM_IN ? engine__peer(engine, write->stream.site) : NULL;
        if (peer != NULL && peer->in[write->stream.key].incarnation == write->stream.incarnation) {
            peer->in[write->stream.key].committed = write->stream.mark;
        }
    }
}

void chp_engine_beat(const struct chp_engine *engine, const char *site, const struct chp_now *now,
                     struct chp_beat *beat)
{
    const struct peer *peer = engine__peer(engine, site);
    CHP_ASSERT(peer != NULL);
    *beat = (struct chp_beat){
        .sent_us = now->mono_us,
        .echo_us = peer->beat_sent_us,
        .held_us = peer->heard ? now->mono_us - peer->heard_us : 0,
        .wall_ms = now->wall_ms,
        .version = CHP_WIRE_VERSION,
        .version_min = CHP_WIRE_VERSION_MIN,
        .software = CHEOPS_VERSION,
    };
}

uint32_t chp_engine_version(const struct chp_engine *engine, const char *site)
{
    const struct peer *peer = engine__peer(engine, site);
    return peer == NULL ? CHP_WIRE_VERSION_MIN : peer->version;
}

uint64_t chp_engine_incarnation(const struct chp_engine *engine)
{
    return engine->incarnation;
}

uint64_t chp_engine_serial(const struct chp_engine *engine)
{
    return engine->serial;
}

uint64_t chp_engine_event_last(const struct chp_engine *engine)
{
    return engine->event_last;
}

const char *chp_engine_database(const struct chp_engine *engine)
{
    return engine->database;
}

size_t chp_engine_resource_count(const struct chp_engine *engine)
{
    return chp_map_count(engine->resources);
}

size_t chp_engine_in_doubt(const struct chp_engine *engine, struct chp_doubt_view *views,
                           size_t max)
{
    size_t count = 0;
    void *value;
    for (const void *at = NULL; (value = chp_map_next(engine->resources, &at, NULL)) != NULL;) {
        const struct pending *running = ((const struct resource *)value)->running;
        if (running != NULL && running->state == CHP_STATE_IN_DOUBT && count++ < max) {
            views[count - 1].operation = running->operation->id;
            views[count - 1].site = engine->config.site;
        }
    }
    for (const void *at = NULL; (value = chp_map_next(engine->tracked, &at, NULL)) != NULL;) {
        const struct tracked *tracked = value;
        for (size_t i = 0; i < tracked->member_count; i++) {
            const struct member_progress *member = &tracked->members[i];
            if (member->state == CHP_STATE_IN_DOUBT &&
                strcmp(member->site, engine->config.site) != 0 && count++ < max) {
                views[count - 1].operation = tracked->id;
                views[count - 1].site = member->site;
            }
        }
    }
    return count;
}
