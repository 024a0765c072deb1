/* SPDX-License-Identifier: AGPL-3.0-only */
/* The files of an operation are here, or its run has ended (design 4.5, 4.6). */
#include "engine/internal.h"

#include <string.h>

/* A driver's sentence as an ack may carry it: UTF-8, at most CHP_REASON_MAX_BYTES. */
static const char *clean_reason(const char *reason, struct chp_arena *arena)
{
    struct chp_buf text = {0};
    if (reason == NULL) {
        return NULL;
    }
    chp_buf_add_utf8_lossy(&text, reason, strlen(reason));
    size_t len = text.len < CHP_REASON_MAX_BYTES ? text.len : CHP_REASON_MAX_BYTES;
    while (len > 0 && !chp_utf8_valid(text.data, len)) {
        len--; /* not in the middle of a character */
    }
    const char *clean = chp_arena_strndup(arena, text.data, len);
    chp_buf_deinit(&text);
    return clean;
}

struct chp_ack engine__copy_ack(const struct chp_ack *ack, struct chp_arena *arena)
{
    struct chp_ack copy = *ack;
    copy.resource = chp_arena_strdup(arena, ack->resource);
    copy.reason = chp_arena_strdup(arena, ack->reason);
    copy.output = chp_arena_bytes(arena, ack->output);
    return copy;
}

void engine__send_ack(struct chp_engine *engine, const char *origin, const struct chp_ack *ack,
                      struct chp_effects *effects)
{
    struct peer *peer = engine__peer(engine, origin);
    struct chp_item item = {.kind = CHP_ITEM_ACK, .ack = *ack};
    struct chp_buf bytes = {0};
    CHP_ASSERT(peer != NULL);
    CHP_ASSERT(chp_item_encode(&item, &bytes, NULL) == 0); /* an ack fits: limits.h */
    struct chp_bytes encoded = chp_arena_bytes(&effects->batch.arena, chp_buf_bytes(&bytes));
    chp_buf_deinit(&bytes);
    stream__put(peer, CHP_KEY_ACK, NULL, encoded, effects);
}

/* The record of an operation of this origin is read first, when it is not in memory. */
static void answer_when_read(struct chp_engine *engine, const struct chp_ack *ack,
                             const struct chp_now *now, struct chp_effects *effects)
{
    struct chp_event event = {.kind = CHP_EVENT_ANSWER, .now = *now, .answer = ack};
    tracked__defer(engine, &ack->operation, &event, effects);
}

void engine__answer(struct chp_engine *engine, const struct chp_operation *operation,
                    const struct chp_ack *ack, const struct chp_now *now,
                    struct chp_effects *effects)
{
    struct chp_ack copy = engine__copy_ack(ack, &effects->batch.arena);
    bool own = strcmp(operation->dot.origin, engine->config.site) == 0;
    struct tracked *tracked = own ? tracked__get(engine, &operation->id) : NULL;
    if (tracked != NULL) {
        tracked__answer(engine, tracked, &copy, now, effects);
        return;
    }
    if (own && chp_state_final(ack->state)) {
        answer_when_read(engine, ack, now, effects);
        return;
    }
    struct chp_write *write = chp_batch_write(&effects->batch, CHP_WRITE_EXECUTION);
    write->execution.ack = copy;
    write->execution.updated_ms = now->wall_ms;
    converge__fill(engine, &write->execution);
    struct resource *resource = resource__get(engine, ack->resource);
    if (resource != NULL) {
        copy.own_given = true;
        copy.own = chp_vector_get(&resource->row.vector, engine->config.site, engine->incarnation);
    }
    if (own) {
        tracked__defer(engine, &operation->id, NULL, effects);
    } else if (ack->state != CHP_STATE_RUNNING && ack->state != CHP_STATE_DELIVERED &&
               engine__peer(engine, operation->dot.origin) != NULL) {
        engine__send_ack(engine, operation->dot.origin, &copy, effects);
    }
}

static void journal(struct chp_engine *engine, const struct chp_operation *operation,
                    const struct chp_ack *ack, const struct chp_now *now,
                    struct chp_effects *effects)
{
    struct chp_buf data = {0};
    chp_buf_printf(
        &data,
        "{\"state\":\"%s\",\"exit_code\":%d,\"run\":%u,\"duration_ms\":%llu,\"unverified\":%s",
        chp_state_name(ack->state), ack->exit_code, ack->run, (unsigned long long)ack->duration_ms,
        ack->unverified ? "true" : "false");
    chp_buf_add_text(&data, ",\"type\":");
    journal__add_string(&data, operation->type);
    chp_buf_add_text(&data, ",\"origin\":");
    journal__add_string(&data, operation->dot.origin);
    if (ack->reason != NULL) {
        chp_buf_add_text(&data, ",\"reason\":");
        journal__add_string(&data, ack->reason);
    }
    chp_buf_add_byte(&data, '}');
    journal__add(engine,
                 &(struct journal_entry){.kind = ack->state == CHP_STATE_DONE ? "operation.executed"
                                                 : ack->state == CHP_STATE_SUPERSEDED
                                                     ? "operation.superseded"
                                                     : "operation.failed",
                                         .resource = operation->resource,
                                         .operation = &operation->id,
                                         .data = journal__take(&data, effects)},
                 now, effects);
}

void engine__conclude(struct chp_engine *engine, const struct chp_operation *operation,
                      const struct chp_ack *ack, const struct chp_now *now,
                      struct chp_effects *effects)
{
    engine__answer(engine, operation, ack, now, effects);
    journal(engine, operation, ack, now, effects);
}

/* Whether what is in doubt may simply run again (design 4.5): its type is declared idempotent. */
static bool may_repeat(const struct resource *resource, const struct pending *pending)
{
    return resource->replica != NULL && !pending->undo &&
           chp_matrix_idempotent(chp_replica_matrix(resource->replica), pending->operation->type);
}

static void finish(struct chp_engine *engine, struct resource *resource, struct pending *pending,
                   struct chp_ack *ack, const struct chp_now *now, struct chp_effects *effects)
{
    const struct chp_operation *operation = pending->operation;
    struct chp_after *after = chp_effects_after(effects, CHP_AFTER_FORGET_RUN);
    after->forget_run.operation = operation->id;
    after->forget_run.run = ack->run;
    after->forget_run.driver = chp_arena_strdup(&effects->batch.arena, operation->driver);
    if (ack->state == CHP_STATE_IN_DOUBT && may_repeat(resource, pending)) {
        ack->state = CHP_STATE_DELIVERED;
        ack->reason = "whether it ran is not known: it runs again, since its type is idempotent";
    } else {
        converge__ended(engine, resource, operation, now, ack);
    }
    bool ended = chp_state_final(ack->state);
    if (ack->state == CHP_STATE_DELIVERED) { /* it is to run again */
        engine__answer(engine, operation, ack, now, effects);
    } else {
        engine__conclude(engine, operation, ack, now, effects);
    }
    pending->state = ack->state;
    pending->run = ack->run;
    if (ack->state == CHP_STATE_IN_DOUBT) {
        return; /* holds the resource until it is resolved: never guessed */
    }
    pending->undo = false;
    resource->running = NULL;
    if (ended) {
        resource__remove_pending(resource, pending);
    }
    run__next(engine, resource, now, effects);
}

void engine__on_fetched(struct chp_engine *engine, const struct chp_event *event,
                        struct chp_effects *effects)
{
    struct resource *resource = resource__get(engine, event->fetched.resource);
    struct pending *pending =
        resource == NULL ? NULL : resource__find_pending(resource, &event->fetched.operation);
    if (pending == NULL || !pending->fetching) {
        return;
    }
    CHP_ASSERT(resource->running == pending);
    resource->running = NULL;
    pending->fetching = false;
    pending->fetched = true;
    if (event->fetched.code == 0) {
        run__next(engine, resource, &event->now, effects);
        return;
    }
    bool own = strcmp(pending->operation->dot.origin, engine->config.site) == 0;
    if (own && tracked__get(engine, &pending->operation->id) == NULL) {
        /* After a restart: again, when its record is in. */
        pending->fetched = false;
        tracked__defer(engine, &pending->operation->id, NULL, effects);
        run__next(engine, resource, &event->now, effects);
        return;
    }
    struct chp_ack ack = {
        .operation = pending->operation->id,
        .resource = resource->row.id,
        .site = engine->config.site,
        .incarnation = engine->incarnation,
        .run = ++pending->run,
        .state = CHP_STATE_FAILED,
        .exit_code = -1,
        .reason = "a file of the operation is on no site that was asked",
        .started_ms = event->now.wall_ms,
    };
    finish(engine, resource, pending, &ack, &event->now, effects);
}

void engine__on_executed(struct chp_engine *engine, const struct chp_event *event,
                         struct chp_effects *effects)
{
    const struct chp_completion *completion = event->executed.completion;
    struct resource *resource = resource__get(engine, event->executed.resource);
    struct pending *pending =
        resource == NULL ? NULL : resource__find_pending(resource, &completion->operation);
    if (pending == NULL || pending->run != completion->run || pending->state != CHP_STATE_RUNNING) {
        return; /* of an engine that was thrown away: the run is resumed, or its end is committed */
    }
    CHP_ASSERT(resource->running == pending);
    bool own = strcmp(pending->operation->dot.origin, engine->config.site) == 0;
    if (own && tracked__get(engine, &completion->operation) == NULL) {
        tracked__defer(engine, &completion->operation, event, effects);
        return;
    }
    struct chp_ack ack = {
        .operation = completion->operation,
        .resource = resource->row.id,
        .site = engine->config.site,
        .incarnation = engine->incarnation,
        .run = completion->run,
        .state = completion->state,
        .exit_code = completion->exit_code,
        .reason = clean_reason(completion->reason, &effects->batch.arena),
        .output = completion->output,
        .output_cut = completion->output_cut,
        .started_ms = completion->started_ms,
        .duration_ms = completion->duration_ms,
    };
    finish(engine, resource, pending, &ack, &event->now, effects);
}
