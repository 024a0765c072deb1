/* SPDX-License-Identifier: AGPL-3.0-only */
/* Operations of this origin on their way: which members have answered (design 4.6). Loaded again
 * when an answer comes for one that is no longer in memory. */
#include "engine/internal.h"

#include <stdlib.h>
#include <string.h>

static struct chp_bytes key_of(const struct chp_uuid *id)
{
    return chp_bytes(id->bytes, sizeof id->bytes);
}

struct tracked *tracked__get(struct chp_engine *engine, const struct chp_uuid *id)
{
    return chp_map_get(engine->tracked, key_of(id));
}

/* One more, in the place of the first of those who asked again when there are too many. */
static void add_listener(struct tracked *tracked, const struct chp_listener *listener)
{
    struct chp_arena *arena = &tracked->arena;
    if (tracked->listener_count == CHP_LISTENERS_MAX + 1) {
        tracked->listener_count--;
        memmove(&tracked->listeners[1], &tracked->listeners[2],
                (tracked->listener_count - 1) * sizeof *tracked->listeners);
    } else {
        struct chp_listener *grown =
            chp_arena_calloc(arena, tracked->listener_count + 1, sizeof *grown);
        for (size_t i = 0; i < tracked->listener_count; i++) {
            grown[i] = tracked->listeners[i];
        }
        tracked->listeners = grown;
    }
    tracked->listeners[tracked->listener_count++] = (struct chp_listener){
        .reply_to = chp_arena_strdup(arena, listener->reply_to),
        .correlation_id = chp_arena_strdup(arena, listener->correlation_id),
    };
}

static bool is_listener(const struct tracked *tracked, const struct chp_listener *listener)
{
    for (size_t i = 0; i < tracked->listener_count; i++) {
        if (strcmp(tracked->listeners[i].reply_to, listener->reply_to) == 0 &&
            strcmp(tracked->listeners[i].correlation_id, listener->correlation_id) == 0) {
            return true;
        }
    }
    return false;
}

struct tracked *tracked__add(struct chp_engine *engine, const struct chp_operation *operation,
                             const struct chp_listener *listeners, size_t listener_count,
                             const struct chp_now *now)
{
    struct tracked *tracked = chp_alloc(sizeof *tracked);
    struct chp_arena *arena = &tracked->arena;
    tracked->id = operation->id;
    tracked->incarnation = operation->dot.incarnation;
    tracked->n = operation->dot.n;
    tracked->resource = chp_arena_strdup(arena, operation->resource);
    tracked->level = operation->level;
    /* Its age, from here on by a clock that does not jump. */
    uint64_t age_ms =
        now->wall_ms > operation->entered_ms ? now->wall_ms - operation->entered_ms : 0;
    tracked->entered_us = now->mono_us - age_ms * 1000;
    for (size_t i = 0; i < listener_count; i++) {
        add_listener(tracked, &listeners[i]);
    }
    tracked->member_count = operation->member_count;
    tracked->members = chp_arena_calloc(arena, operation->member_count, sizeof *tracked->members);
    for (size_t i = 0; i < operation->member_count; i++) {
        tracked->members[i].tracked = tracked;
        tracked->members[i].site = chp_arena_strdup(arena, operation->members[i]);
        tracked->members[i].state = CHP_STATE_ACCEPTED;
    }
    chp_list_append(&engine->tracked_lru, &tracked->lru);
    CHP_ASSERT(chp_map_put(engine->tracked, key_of(&tracked->id), tracked) == NULL);
    return tracked;
}

static struct member_progress *member_of(struct tracked *tracked, const char *site)
{
    for (size_t i = 0; i < tracked->member_count; i++) {
        if (strcmp(tracked->members[i].site, site) == 0) {
            return &tracked->members[i];
        }
    }
    return NULL;
}

void tracked__set_number(struct chp_engine *engine, struct tracked *tracked, const char *site,
                         uint64_t number)
{
    struct member_progress *member = member_of(tracked, site);
    struct peer *peer = engine__peer(engine, site);
    CHP_ASSERT(member != NULL);
    CHP_ASSERT(peer != NULL);
    member->number = number;
    member->state = CHP_STATE_QUEUED;
    if (number > peer->out[CHP_KEY_OPERATION].mark) {
        chp_list_append(&peer->undelivered, &member->link);
    } else {
        member->state = CHP_STATE_DELIVERED;
    }
}

void tracked__free(struct tracked *tracked)
{
    for (size_t i = 0; i < tracked->member_count; i++) {
        chp_list_remove(&tracked->members[i].link);
    }
    chp_list_remove(&tracked->lru);
    chp_arena_deinit(&tracked->arena);
    free(tracked);
}

static void drop(struct chp_engine *engine, struct tracked *tracked)
{
    chp_map_remove(engine->tracked, key_of(&tracked->id));
    tracked__free(tracked);
}

void tracked__evict(struct chp_engine *engine)
{
    while (chp_map_count(engine->tracked) > TRACKED_MAX) {
        drop(engine, CHP_CONTAINER(chp_list_first(&engine->tracked_lru), struct tracked, lru));
    }
}

static size_t count_answered(const struct tracked *tracked)
{
    size_t answered = 0;
    for (size_t i = 0; i < tracked->member_count; i++) {
        answered += chp_state_final(tracked->members[i].state);
    }
    return answered;
}

static struct chp_notice *add_notice(const struct tracked *tracked, struct chp_effects *effects)
{
    struct chp_after *after = chp_effects_after(effects, CHP_AFTER_NOTICE);
    struct chp_notice *notice = &after->notice.notice;
    notice->operation = tracked->id;
    notice->resource = chp_arena_strdup(&effects->batch.arena, tracked->resource);
    notice->member_count = tracked->member_count;
    notice->answered = count_answered(tracked);
    return notice;
}

/* notice is in effects, which may move when something is added to them. */
static void tell(struct chp_engine *engine, const struct tracked *tracked,
                 const struct chp_notice *notice, const struct chp_now *now,
                 struct chp_effects *effects)
{
    struct chp_notice copy = *notice;
    reply__notice(engine, tracked->listeners, tracked->listener_count, &copy, now, effects);
}

void tracked__delivered(struct peer *peer, struct chp_effects *effects)
{
    CHP_LIST_FOREACH_SAFE(&peer->undelivered, link, following)
    {
        struct member_progress *member = CHP_CONTAINER(link, struct member_progress, link);
        if (member->number > peer->out[CHP_KEY_OPERATION].mark) {
            break; /* in order of numbers */
        }
        chp_list_remove(&member->link);
        if (member->state == CHP_STATE_QUEUED) {
            member->state = CHP_STATE_DELIVERED;
            struct chp_notice *notice = add_notice(member->tracked, effects);
            notice->ack = (struct chp_ack){
                .operation = member->tracked->id,
                .resource = notice->resource,
                .site = peer->site,
                .state = CHP_STATE_DELIVERED,
                .exit_code = -1,
            };
        }
    }
}

static void complete(struct chp_engine *engine, struct tracked *tracked, const struct chp_now *now,
                     struct chp_effects *effects)
{
    struct chp_buf data = {0};
    size_t failed = 0;
    chp_buf_add_text(&data, "{\"failed\":[");
    for (size_t i = 0; i < tracked->member_count; i++) {
        if (tracked->members[i].state != CHP_STATE_DONE) {
            if (failed++ > 0) {
                chp_buf_add_byte(&data, ',');
            }
            journal__add_string(&data, tracked->members[i].site);
        }
    }
    chp_buf_printf(&data, "],\"state\":\"%s\",\"members\":%zu}", failed > 0 ? "failed" : "done",
                   tracked->member_count);
    tracked->completed = true;
    struct chp_entry *entry = converge__entry(engine, tracked->resource, &tracked->id);
    if (entry != NULL) {
        entry->completed = true;
    }
    struct chp_write *write = chp_batch_write(&effects->batch, CHP_WRITE_COMPLETED);
    write->completed.operation = tracked->id;
    write->completed.failed = failed > 0;
    write->completed.completed_ms = now->wall_ms;
    journal__add(engine,
                 &(struct journal_entry){.kind = "operation.completed",
                                         .resource = tracked->resource,
                                         .operation = &tracked->id,
                                         .data = journal__take(&data, effects)},
                 now, effects);
    struct chp_notice *notice = add_notice(tracked, effects);
    notice->completed = true;
    notice->failed = failed > 0;
    tell(engine, tracked, notice, now, effects);
}

/* The database of site went back in time: how its execution ended is known here. */
static void remind(struct chp_engine *engine, const struct tracked *tracked, const char *site,
                   struct chp_effects *effects)
{
    struct peer *peer = engine__peer(engine, site);
    if (peer == NULL) {
        return;
    }
    struct chp_load *load = chp_batch_load(&effects->batch, CHP_LOAD_RANGE);
    load->resource = chp_arena_strdup(&effects->batch.arena, tracked->resource);
    load->range = (struct chp_range){.origin = engine->config.site,
                                     .incarnation = tracked->incarnation,
                                     .first = tracked->n,
                                     .last = tracked->n};
    load->site = peer->site;
    load->limit = 1;
}

static bool has_failed(const struct member_progress *member)
{
    return member->state == CHP_STATE_FAILED || member->state == CHP_STATE_REFUSED;
}

bool tracked__failed_at(const struct tracked *tracked, const char *site)
{
    for (size_t i = 0; i < tracked->member_count; i++) {
        if (strcmp(tracked->members[i].site, site) == 0) {
            return has_failed(&tracked->members[i]);
        }
    }
    return false;
}

/* Tells a site where it failed that it succeeded elsewhere. */
static void pass_on(struct chp_engine *engine, const struct tracked *tracked, const char *site,
                    const struct member_progress *done, const struct chp_now *now,
                    struct chp_effects *effects)
{
    struct chp_ack ack = {.operation = tracked->id,
                          .resource = tracked->resource,
                          .site = done->site,
                          .run = done->run,
                          .state = CHP_STATE_DONE,
                          .started_ms = now->wall_ms};
    if (strcmp(site, engine->config.site) == 0) {
        outcome__done_elsewhere(engine, tracked->resource, &tracked->id, now, effects);
    } else if (engine__peer(engine, site) != NULL) {
        engine__send_ack(engine, site, &ack, effects);
    }
}

/* An answer of a site that became a member of the resource after the operation was made. */
static void answer_of_other(struct chp_engine *engine, const struct tracked *tracked,
                            const struct chp_ack *ack, const struct chp_now *now,
                            struct chp_effects *effects)
{
    if (strcmp(ack->site, engine->config.site) == 0) {
        struct chp_write *write = chp_batch_write(&effects->batch, CHP_WRITE_EXECUTION);
        write->execution.ack = *ack;
        write->execution.updated_ms = now->wall_ms;
        converge__fill(engine, &write->execution);
    }
    bool failed = ack->state == CHP_STATE_FAILED || ack->state == CHP_STATE_REFUSED;
    for (size_t i = 0; failed && i < tracked->member_count; i++) {
        if (tracked->members[i].state == CHP_STATE_DONE) {
            pass_on(engine, tracked, ack->site, &tracked->members[i], now, effects);
            return;
        }
    }
}

/* What became of it as a whole (outcome.c). */
static void judge(struct chp_engine *engine, const struct tracked *tracked,
                  const struct member_progress *answered, const struct chp_now *now,
                  struct chp_effects *effects)
{
    const struct member_progress *done = NULL;
    size_t failed = 0;
    size_t failed_there =
        0; /* without sites that did not take it: a void would wait there for it */
    size_t done_count = 0;
    for (size_t i = 0; i < tracked->member_count; i++) {
        const struct member_progress *member = &tracked->members[i];
        failed += has_failed(member);
        failed_there += member->state == CHP_STATE_FAILED ||
                        (member->state == CHP_STATE_REFUSED && member->held);
        done_count += member->state == CHP_STATE_DONE;
        done = member->state == CHP_STATE_DONE ? member : done;
    }
    if (tracked->level == CHP_LEVEL_NONE || failed == 0) {
        return;
    }
    if (failed_there == tracked->member_count) {
        outcome__failed_everywhere(engine, tracked->resource, &tracked->id);
    }
    if (done != NULL && has_failed(answered)) {
        pass_on(engine, tracked, answered->site, done, now, effects);
    }
    for (size_t i = 0; done == answered && done_count == 1 && i < tracked->member_count; i++) {
        if (has_failed(&tracked->members[i])) {
            pass_on(engine, tracked, tracked->members[i].site, done, now, effects);
        }
    }
}

void tracked__answer(struct chp_engine *engine, struct tracked *tracked, const struct chp_ack *ack,
                     const struct chp_now *now, struct chp_effects *effects)
{
    struct member_progress *member = member_of(tracked, ack->site);
    stable__acked(engine, tracked, ack);
    if (member == NULL) {
        answer_of_other(engine, tracked, ack, now, effects);
        return;
    }
    if (ack->run < member->run || (ack->run == member->run && chp_state_final(member->state))) {
        if (ack->state == CHP_STATE_IN_DOUBT && chp_state_final(member->state)) {
            remind(engine, tracked, ack->site, effects);
        }
        return; /* a repetition, or older than what is known */
    }
    bool revised = chp_state_final(member->state);
    bool known = ack->run == member->run && ack->state == member->state;
    chp_list_remove(&member->link);
    member->run = ack->run;
    member->state = ack->state;
    member->held = ack->own_given || strcmp(ack->site, engine->config.site) == 0;
    uint64_t elapsed_ms = (now->mono_us - tracked->entered_us) / 1000;
    struct chp_write *write = chp_batch_write(&effects->batch, CHP_WRITE_EXECUTION);
    write->execution.ack = *ack;
    write->execution.number = member->number;
    write->execution.updated_ms = now->wall_ms;
    write->execution.elapsed_ms = elapsed_ms;
    converge__fill(engine, &write->execution);
    if (!known) {
        struct chp_notice *notice = add_notice(tracked, effects);
        notice->ack = *ack;
        notice->elapsed_ms = elapsed_ms;
        tell(engine, tracked, notice, now, effects);
    }
    if (revised) {
        journal__add(engine,
                     &(struct journal_entry){.kind = "operation.revised",
                                             .resource = tracked->resource,
                                             .operation = &tracked->id,
                                             .site = write->execution.ack.site,
                                             .data = "{}"},
                     now, effects);
    }
    judge(engine, tracked, member, now, effects);
    if (!tracked->completed && count_answered(tracked) == tracked->member_count) {
        complete(engine, tracked, now, effects);
    }
    tracked->spent = tracked->completed;
    if (tracked->spent && !tracked->kept) {
        drop(engine, tracked);
    }
}

/* The completion of a run is valid during its event only. */
static void copy_completion(struct deferred *deferred)
{
    struct chp_arena *arena = &deferred->arena;
    struct chp_completion *completion = chp_arena_alloc(arena, sizeof *completion);
    *completion = *deferred->event.executed.completion;
    completion->reason = chp_arena_strdup(arena, completion->reason);
    completion->output = chp_arena_bytes(arena, completion->output);
    deferred->event.executed.completion = completion;
    deferred->event.executed.resource = chp_arena_strdup(arena, deferred->event.executed.resource);
}

static void copy_answer(struct deferred *deferred)
{
    struct chp_ack *ack = chp_arena_alloc(&deferred->arena, sizeof *ack);
    *ack = engine__copy_ack(deferred->event.answer, &deferred->arena);
    deferred->event.answer = ack;
}

void tracked__defer(struct chp_engine *engine, const struct chp_uuid *id,
                    const struct chp_event *event, struct chp_effects *effects)
{
    struct chp_list *waiting = chp_map_get(engine->tracked_loading, key_of(id));
    if (waiting == NULL) {
        waiting = chp_alloc(sizeof *waiting);
        chp_list_init(waiting);
        chp_map_put(engine->tracked_loading, key_of(id), waiting);
        chp_batch_load(&effects->batch, CHP_LOAD_OPERATION)->operation = *id;
    }
    if (event != NULL) {
        struct deferred *deferred = chp_alloc(sizeof *deferred);
        deferred->event = *event;
        chp_list_append(waiting, &deferred->link);
        if (event->kind == CHP_EVENT_EXECUTED) {
            copy_completion(deferred);
        } else if (event->kind == CHP_EVENT_ANSWER) {
            copy_answer(deferred);
        }
    }
}

void tracked__repeat(struct chp_engine *engine, const struct chp_uuid *id,
                     const struct chp_event *event, struct chp_effects *effects)
{
    struct tracked *tracked = tracked__get(engine, id);
    if (tracked != NULL) {
        /* What comes while the store is asked waits behind the answer, so that the listener misses
         * nothing and gets nothing out of order. */
        drop(engine, tracked);
    }
    tracked__defer(engine, id, event, effects);
}

static struct tracked *restore(struct chp_engine *engine, const struct chp_load *load,
                               const struct chp_now *now)
{
    const struct chp_operation *operation = load->operation_result.row;
    struct tracked *tracked = tracked__add(engine, operation, load->operation_result.listeners,
                                           load->operation_result.listener_count, now);
    tracked->listener_place = load->operation_result.listener_place;
    tracked->completed = load->operation_result.completed;
    for (size_t i = 0; i < load->operation_result.execution_count; i++) {
        const struct chp_execution_row *row = &load->operation_result.executions[i];
        struct member_progress *member = member_of(tracked, row->ack.site);
        if (member != NULL) {
            member->state = row->ack.state;
            member->run = row->ack.run;
            member->number = row->number;
        }
    }
    return tracked;
}

/* Requests that came again: each is told what the load knows and listens to what comes, before what
 * waits beside it changes anything. */
static void answer_repeated(struct chp_engine *engine, const struct chp_load *load,
                            struct chp_list *waiting, const struct chp_now *now,
                            struct chp_effects *effects)
{
    CHP_LIST_FOREACH_SAFE(waiting, link, following)
    {
        struct deferred *deferred = CHP_CONTAINER(link, struct deferred, link);
        struct tracked *tracked = tracked__get(engine, &load->operation);
        if (deferred->event.kind != CHP_EVENT_REQUEST) {
            continue;
        }
        struct chp_event event = deferred->event;
        struct chp_listener listener = reply__listener(event.request.request);
        event.now = *now;
        reply__repeated(engine, &event, load, effects);
        if (tracked != NULL && !tracked->completed && !is_listener(tracked, &listener)) {
            struct chp_write *write = chp_batch_write(&effects->batch, CHP_WRITE_LISTENER);
            write->listener.operation = tracked->id;
            write->listener.place = ++tracked->listener_place;
            write->listener.to = listener;
            add_listener(tracked, &listener);
        }
        engine__free_deferred(deferred);
    }
}

/* The ack goes with what was deferred, before what is written of it has committed. */
static void answer_own(struct chp_engine *engine, struct tracked *tracked,
                       const struct chp_ack *ack, const struct chp_now *now,
                       struct chp_effects *effects)
{
    struct chp_ack copy = engine__copy_ack(ack, &effects->batch.arena);
    tracked__answer(engine, tracked, &copy, now, effects);
}

static bool told_by_origin(const struct chp_event *event, const struct chp_load *load)
{
    const struct chp_ack *ack = &event->item.item->ack;
    const char *origin = load->operation_result.row->dot.origin;
    return strcmp(event->item.from, origin) == 0 && ack->state == CHP_STATE_DONE;
}

/* It succeeded at another site: kept, since this one may have to try again. */
static void take_outcome(struct chp_engine *engine, const struct chp_event *event,
                         struct chp_effects *effects)
{
    const struct chp_ack *ack = &event->item.item->ack;
    if (strcmp(ack->site, engine->config.site) == 0) {
        stream__settle(engine, event, effects);
        return;
    }
    if (resource__get(engine, ack->resource) == NULL) {
        /* With the same commit the replica here says that it is degraded. */
        resource__defer(engine, ack->resource, event, effects);
        return;
    }
    struct chp_write *write = chp_batch_write(&effects->batch, CHP_WRITE_EXECUTION);
    write->execution.ack = *ack;
    write->execution.updated_ms = event->now.wall_ms;
    outcome__done_elsewhere(engine, ack->resource, &ack->operation, &event->now, effects);
    stream__settle(engine, event, effects);
}

/* One that waited for the load of the operation. */
static void step_waiting(struct chp_engine *engine, const struct chp_event *event,
                         const struct chp_load *load, struct tracked *tracked,
                         struct chp_effects *effects)
{
    if (event->kind == CHP_EVENT_RESOLVE) {
        engine__resolve(engine, event, load, effects);
    } else if (tracked != NULL && event->kind == CHP_EVENT_ANSWER) {
        answer_own(engine, tracked, event->answer, &event->now, effects);
    } else if (tracked != NULL && event->kind == CHP_EVENT_ITEM) {
        engine__on_ack(engine, event, effects);
    } else if (tracked != NULL) {
        engine__on_executed(engine, event, effects);
    } else if (event->kind == CHP_EVENT_ITEM && load->found && told_by_origin(event, load)) {
        take_outcome(engine, event, effects);
    } else if (event->kind == CHP_EVENT_ITEM) {
        struct chp_after *after = chp_effects_after(effects, CHP_AFTER_DEAD);
        after->settle.delivery = event->item.delivery;
        after->settle.reason = "acknowledges an operation that is not of this origin";
        after->settle.bytes = event->item.bytes;
        stream__settle(engine, event, effects);
    }
}

void tracked__loaded(struct chp_engine *engine, const struct chp_load *load,
                     const struct chp_now *now, struct chp_effects *effects)
{
    struct chp_list *waiting = chp_map_remove(engine->tracked_loading, key_of(&load->operation));
    CHP_ASSERT(waiting != NULL);
    bool own =
        load->found && strcmp(load->operation_result.row->dot.origin, engine->config.site) == 0;
    struct tracked *tracked = own ? tracked__get(engine, &load->operation) : NULL;
    if (own && tracked == NULL) {
        tracked = restore(engine, load, now);
    }
    answer_repeated(engine, load, waiting, now, effects);
    if (tracked != NULL) {
        tracked->kept = true; /* what waited changes it one after the other */
    }
    CHP_LIST_FOREACH_SAFE(waiting, link, following)
    {
        struct deferred *deferred = CHP_CONTAINER(link, struct deferred, link);
        struct chp_event event = deferred->event;
        event.now = *now;
        step_waiting(engine, &event, load, tracked, effects);
        engine__free_deferred(deferred);
    }
    free(waiting);
    if (tracked != NULL) {
        tracked->kept = false;
        if (tracked->spent) {
            drop(engine, tracked);
        }
    }
}
