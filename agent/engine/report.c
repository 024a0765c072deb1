/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * What members hold of their common resources (design 4.7): so that what a dead site gave to only
 * some reaches all, and that a site whose database went back in time gets its past.
 *
 * A site reports to each peer, page by page, the vectors of the resources with operations that
 * arrived since the last report; the peer asks for what it lacks, and confirms a page when it holds
 * everything in it. One page is on its way at a time, so both sides hold little. A round begins
 * when the peer is back, when another site has gone, when a peer lives anew (then from the first
 * operation on), and otherwise when this site has been idle for a while: what is reported then was
 * almost always delivered, and would only compete with the deliveries.
 *
 * Comparing whole sets by hashes was rejected: vectors per resource are needed for stability
 * anyway, and a page of them costs less than one message with payloads.
 */
#include "engine/internal.h"

#include <stdlib.h>
#include <string.h>

enum {
    IDLE_US = 5000000,
    ROUND_AT_LEAST_US = 600000000, /* a site that is never idle reports so often */
    PAGE_AGAIN_US = 10000000,      /* a page that was not confirmed is sent again */
    WANTED_MAX = 16384,            /* of one page */
};

/* This site's side: reports to a peer. */

static void load_page(struct peer *peer, struct chp_effects *effects)
{
    struct reporting *reporting = &peer->reporting;
    struct chp_load *load = chp_batch_load(&effects->batch, CHP_LOAD_REPORT);
    load->site = peer->site;
    load->after = reporting->cursor;
    load->all = true;
    load->limit = reporting->limit == 0 ? CHP_REPORT_ENTRIES_MAX : reporting->limit;
    reporting->loading = true;
    reporting->waiting = false;
}

static bool round_due(const struct chp_engine *engine, const struct peer *peer,
                      const struct chp_now *now)
{
    const struct reporting *reporting = &peer->reporting;
    if (reporting->due || reporting->incarnation != peer->incarnation) {
        return true;
    }
    return reporting->stale && (now->mono_us - engine->arrived_us >= IDLE_US ||
                                now->mono_us - reporting->round_us >= ROUND_AT_LEAST_US);
}

static void send_page(struct peer *peer, const struct chp_load *load, const struct chp_now *now,
                      struct chp_effects *effects)
{
    struct reporting *reporting = &peer->reporting;
    struct chp_report_entry entries[CHP_REPORT_ENTRIES_MAX];
    CHP_ASSERT(load->vectors.count <= CHP_REPORT_ENTRIES_MAX);
    for (size_t i = 0; i < load->vectors.count; i++) {
        entries[i].resource = load->vectors.rows[i].resource;
        entries[i].vector = load->vectors.rows[i].vector;
    }
    struct chp_item item = {.kind = CHP_ITEM_REPORT,
                            .report = {.upto = load->vectors.upto,
                                       .end = load->vectors.end,
                                       .operation_mark = peer->out[CHP_KEY_OPERATION].mark,
                                       .ack_mark = peer->out[CHP_KEY_ACK].mark,
                                       .to = peer->incarnation,
                                       .entries = entries,
                                       .entry_count = load->vectors.count}};
    if (!stream__control(peer, &item, effects)) {
        CHP_ASSERT(load->limit > 1); /* one resource's vector fits in an item: limits.h */
        reporting->limit = load->limit / 2;
        load_page(peer, effects);
        return;
    }
    reporting->limit = 0;
    reporting->end = load->vectors.end;
    reporting->waiting = true;
    reporting->sent_us = now->mono_us;
}

static void on_page(struct chp_engine *engine, const struct chp_load *load,
                    const struct chp_now *now, struct chp_effects *effects)
{
    struct peer *peer = engine__peer(engine, load->site);
    CHP_ASSERT(peer != NULL);
    struct reporting *reporting = &peer->reporting;
    reporting->loading = false;
    if (load->after != reporting->cursor) {
        load_page(peer, effects); /* the peer lives anew since it was asked for */
    } else if (load->vectors.count == 0 && !load->vectors.end) {
        reporting->cursor = load->vectors.upto; /* nothing of this page concerns the peer */
        load_page(peer, effects);
    } else {
        send_page(peer, load, now, effects);
    }
}

void engine__on_reported(struct chp_engine *engine, const struct chp_event *event,
                         struct chp_effects *effects)
{
    struct peer *peer = engine__peer(engine, event->item.from);
    const struct chp_reported *reported = &event->item.item->reported;
    stream__settle(engine, event, effects);
    if (peer == NULL || !peer->reporting.waiting || reported->upto < peer->reporting.cursor) {
        return;
    }
    struct reporting *reporting = &peer->reporting;
    reporting->waiting = false;
    reporting->cursor = reported->upto;
    if (!reporting->end) {
        load_page(peer, effects);
        return;
    }
    reporting->round = false;
    reporting->round_us = event->now.mono_us;
    reporting->arrival = reporting->cursor;
    reporting->incarnation = event->item.incarnation;
    struct chp_write *write = chp_batch_write(&effects->batch, CHP_WRITE_REPORTED);
    write->reported.site = peer->site;
    write->reported.incarnation = reporting->incarnation;
    write->reported.arrival = reporting->arrival;
}

void report__arrived(struct chp_engine *engine)
{
    for (size_t i = 0; i < engine->config.peer_count; i++) {
        engine->peers[i].reporting.stale = true;
    }
}

void report__restart(struct peer *peer)
{
    struct reporting *reporting = &peer->reporting;
    reporting->due = true;
    reporting->round = reporting->waiting = false;
    reporting->cursor = 0; /* a page that is being loaded is loaded again */
}

/* The other side: a peer's report. */

static void free_page(struct peer *peer)
{
    if (peer->page != NULL) {
        struct chp_arena arena = peer->page->arena;
        free(peer->page);
        peer->page = NULL;
        chp_arena_deinit(&arena);
    }
}

void report__deinit(struct peer *peer)
{
    free_page(peer);
}

/* Reads what is held here of the page's resources. */
static void compare(struct peer *peer, struct chp_effects *effects)
{
    struct page *page = peer->page;
    struct chp_load *load = chp_batch_load(&effects->batch, CHP_LOAD_VECTORS);
    load->site = peer->site;
    load->after = page->upto;
    load->ids = chp_arena_calloc(&effects->batch.arena, page->entry_count, sizeof *load->ids);
    load->id_count = page->entry_count;
    for (size_t i = 0; i < page->entry_count; i++) {
        load->ids[i] = chp_arena_strdup(&effects->batch.arena, page->entries[i].resource);
    }
    page->loading = true;
    page->wanted_count = 0;
}

/* Nothing of the page is missing any more. */
static void confirm(struct peer *peer, struct chp_effects *effects)
{
    struct page *page = peer->page;
    if (page->wanted_count >= WANTED_MAX) {
        compare(peer, effects); /* there may be more of it */
        return;
    }
    struct chp_item item = {.kind = CHP_ITEM_REPORTED, .reported = {.upto = page->upto}};
    if (page->end) {
        life__close_gap(peer, effects);
    }
    (void)stream__control(peer, &item, effects);
    free_page(peer);
}

/* What the peer was told of its streams, which an earlier life of this database may have said. */
static bool marks_fit(struct chp_engine *engine, struct peer *peer, const struct chp_event *event,
                      struct chp_effects *effects)
{
    const struct chp_report *report = &event->item.item->report;
    const uint64_t marks[2] = {report->operation_mark, report->ack_mark};
    const enum chp_key keys[2] = {CHP_KEY_OPERATION, CHP_KEY_ACK};
    for (int i = 0; i < 2; i++) {
        struct stream_in *stream = &peer->in[keys[i]];
        bool same = stream->incarnation == event->item.incarnation;
        if ((same || stream->incarnation == 0) && marks[i] > stream->accepted) {
            if (!peer->gap_open) {
                life__regressed(engine, "another site was told of more than this database has", 0,
                                effects);
                return false;
            }
            stream->incarnation = event->item.incarnation;
            stream__skip(peer, keys[i], marks[i], effects);
        }
    }
    return true;
}

void engine__on_report(struct chp_engine *engine, const struct chp_event *event,
                       struct chp_effects *effects)
{
    const struct chp_report *report = &event->item.item->report;
    struct peer *peer = engine__peer(engine, event->item.from);
    if (peer == NULL || !marks_fit(engine, peer, event, effects)) {
        return;
    }
    if (report->to != 0 && report->to != engine->incarnation) {
        /* Made for an earlier life: what that had confirmed is not in it. Another one comes. */
        stream__settle(engine, event, effects);
        return;
    }
    stream__settle(engine, event, effects);
    if (peer->page != NULL && peer->page->upto == report->upto && peer->page->end == report->end) {
        return; /* the same again: it is being worked on */
    }
    free_page(peer);
    struct page *page = chp_alloc(sizeof *page);
    peer->page = page;
    page->upto = report->upto;
    page->end = report->end;
    page->entry_count = report->entry_count;
    page->entries = chp_arena_calloc(&page->arena, report->entry_count, sizeof *page->entries);
    if (report->entry_count == 0) {
        confirm(peer, effects);
        return;
    }
    for (size_t i = 0; i < report->entry_count; i++) {
        struct chp_report_entry *entry = &page->entries[i];
        const struct chp_vector *vector = &report->entries[i].vector;
        entry->resource = chp_arena_strdup(&page->arena, report->entries[i].resource);
        for (size_t j = 0; j < vector->count; j++) {
            const struct chp_dot *dot = &vector->entries[j];
            chp_vector_set(&entry->vector, &page->arena, engine__intern(engine, dot->origin),
                           dot->incarnation, dot->n);
        }
    }
    compare(peer, effects);
}

static void ask(struct peer *peer, const struct wanted *wanted, struct chp_effects *effects)
{
    struct chp_item item = {.kind = CHP_ITEM_WANT,
                            .want = {.resource = wanted->resource,
                                     .range = {.origin = wanted->origin,
                                               .incarnation = wanted->incarnation,
                                               .first = wanted->first,
                                               .last = wanted->n}}};
    (void)stream__control(peer, &item, effects);
}

/* What this site holds of a dot's origin: as was loaded, or as it is in memory, which is newer. */
static uint64_t held_of(const struct chp_engine *engine, const struct chp_load *load,
                        const char *id, const struct chp_dot *dot)
{
    const struct resource *resource = chp_map_get(engine->resources, chp_bytes_of(id));
    if (resource != NULL && resource->state == RESOURCE_READY) {
        return resource->exists
                   ? chp_vector_get(&resource->row.vector, dot->origin, dot->incarnation)
                   : 0;
    }
    for (size_t i = 0; i < load->vectors.count; i++) {
        if (strcmp(load->vectors.rows[i].resource, id) == 0) {
            return chp_vector_get(&load->vectors.rows[i].vector, dot->origin, dot->incarnation);
        }
    }
    return 0;
}

static void want_dot(struct peer *peer, const char *resource, const struct chp_dot *dot,
                     uint64_t held, struct chp_effects *effects)
{
    struct page *page = peer->page;
    if (page->wanted_count == page->wanted_cap) {
        size_t cap = page->wanted_cap == 0 ? 16 : page->wanted_cap * 2;
        struct wanted *grown = chp_arena_calloc(&page->arena, cap, sizeof *grown);
        if (page->wanted_count > 0) {
            memcpy(grown, page->wanted, page->wanted_count * sizeof *grown);
        }
        page->wanted = grown;
        page->wanted_cap = cap;
    }
    struct wanted *wanted = &page->wanted[page->wanted_count++];
    *wanted = (struct wanted){.resource = resource,
                              .origin = dot->origin,
                              .incarnation = dot->incarnation,
                              .n = dot->n,
                              .first = held + 1};
    page->missing++;
    ask(peer, wanted, effects);
}

/* The vectors held here of a peer's page: asks for the difference. */
static void on_vectors(struct chp_engine *engine, const struct chp_load *load,
                       const struct chp_now *now, struct chp_effects *effects)
{
    struct peer *peer = engine__peer(engine, load->site);
    CHP_ASSERT(peer != NULL);
    struct page *page = peer->page;
    if (page == NULL || !page->loading || page->upto != load->after) {
        return; /* another page has come since */
    }
    page->loading = false;
    page->asked_us = now->mono_us;
    for (size_t i = 0; i < page->entry_count; i++) {
        const struct chp_report_entry *entry = &page->entries[i];
        for (size_t j = 0; j < entry->vector.count && page->wanted_count < WANTED_MAX; j++) {
            const struct chp_dot *dot = &entry->vector.entries[j];
            uint64_t held = held_of(engine, load, entry->resource, dot);
            if (held >= dot->n) {
                continue;
            }
            if (dot->incarnation >= engine->incarnation &&
                strcmp(dot->origin, engine->config.site) == 0) {
                life__regressed(engine,
                                "another site has operations of this site's present life "
                                "that its database does not have",
                                dot->incarnation, effects);
                return;
            }
            want_dot(peer, entry->resource, dot, held, effects);
        }
    }
    if (page->missing == 0) {
        confirm(peer, effects);
    }
}

void report__loaded(struct chp_engine *engine, const struct chp_load *load,
                    const struct chp_now *now, struct chp_effects *effects)
{
    if (load->kind == CHP_LOAD_REPORT) {
        on_page(engine, load, now, effects);
    } else {
        on_vectors(engine, load, now, effects);
    }
}

void report__held(struct chp_engine *engine, const struct resource *resource,
                  struct chp_effects *effects)
{
    for (size_t i = 0; i < engine->config.peer_count; i++) {
        struct peer *peer = &engine->peers[i];
        struct page *page = peer->page;
        if (page == NULL || page->missing == 0) {
            continue;
        }
        for (size_t j = 0; j < page->wanted_count; j++) {
            struct wanted *wanted = &page->wanted[j];
            if (wanted->held || strcmp(wanted->resource, resource->row.id) != 0) {
                continue;
            }
            uint64_t n = chp_vector_get(&resource->row.vector, wanted->origin, wanted->incarnation);
            wanted->first = n + 1;
            wanted->held = n >= wanted->n;
            page->missing -= wanted->held;
        }
        if (page->missing == 0) {
            confirm(peer, effects);
        }
    }
}

static void ask_again(struct peer *peer, const struct chp_now *now, struct chp_effects *effects)
{
    struct page *page = peer->page;
    if (page == NULL || page->loading || now->mono_us - page->asked_us < PAGE_AGAIN_US) {
        return;
    }
    page->asked_us = now->mono_us;
    for (size_t i = 0; i < page->wanted_count; i++) {
        if (!page->wanted[i].held) {
            ask(peer, &page->wanted[i], effects);
        }
    }
}

void report__tick(struct chp_engine *engine, struct peer *peer, const struct chp_now *now,
                  struct chp_effects *effects)
{
    struct reporting *reporting = &peer->reporting;
    ask_again(peer, now, effects);
    if (!peer->up || peer->version < VERSION_WITH_PAST || reporting->loading) {
        return;
    }
    if (reporting->waiting) {
        if (now->mono_us - reporting->sent_us >= PAGE_AGAIN_US) {
            load_page(peer, effects);
        }
        return;
    }
    if (!reporting->round && round_due(engine, peer, now)) {
        reporting->round = true;
        reporting->due = reporting->stale = false;
        reporting->cursor = reporting->incarnation == peer->incarnation ? reporting->arrival : 0;
        load_page(peer, effects);
    }
}
