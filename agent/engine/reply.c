/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * What clients of the AMQP door are told of operations of this origin, as rows (design 4.6): in the
 * batch that makes it true, so that neither a broker that is away nor a dead agent loses it. What
 * is refused needs no row: nothing was admitted, and the request comes again until its answer is
 * with the broker.
 *
 * Who asks again under the same key becomes a listener beside the first: it is told what is known
 * by now, and what follows as it happens.
 */
#include "engine/internal.h"

#include <string.h>

struct told {
    const struct chp_uuid *operation;
    const char *message_id;
    struct chp_bytes body;
};

static void add(struct chp_engine *engine, const struct chp_listener *listener,
                const struct told *told, const struct chp_now *now, struct chp_effects *effects)
{
    struct chp_arena *arena = &effects->batch.arena;
    struct chp_reply_row *row = chp_arena_alloc(arena, sizeof *row);
    CHP_ASSERT(listener->reply_to != NULL);
    *row = (struct chp_reply_row){
        .number = ++engine->reply_last,
        .operation = *told->operation,
        .to = {.reply_to = chp_arena_strdup(arena, listener->reply_to),
               .correlation_id = chp_arena_strdup(arena, listener->correlation_id)},
        .message_id = told->message_id,
        .body = told->body,
        .at_ms = engine__trusted_wall_ms(engine, now),
    };
    chp_batch_write(&effects->batch, CHP_WRITE_REPLY)->reply = *row;
    chp_effects_after(effects, CHP_AFTER_TELL)->tell = row;
}

static struct chp_bytes take(struct chp_buf *buf, struct chp_effects *effects)
{
    struct chp_bytes bytes = chp_arena_bytes(&effects->batch.arena, chp_buf_bytes(buf));
    chp_buf_deinit(buf);
    return bytes;
}

struct chp_listener reply__listener(const struct chp_request *request)
{
    return (struct chp_listener){
        .reply_to = request->reply_to,
        .correlation_id = request->correlation_id == NULL ? "" : request->correlation_id};
}

void reply__accepted(struct chp_engine *engine, const struct chp_request *request,
                     const struct chp_reply *reply, const struct chp_now *now,
                     struct chp_effects *effects)
{
    CHP_ASSERT(reply->code == 0);
    if (request->reply_to == NULL) {
        return;
    }
    char id[CHP_UUID_TEXT_BYTES];
    chp_uuid_format(&reply->id, id);
    struct chp_buf body = {0};
    chp_reply_encode(reply, &body);
    struct told told = {
        .operation = &reply->id,
        .message_id = chp_arena_printf(&effects->batch.arena, "%s/accepted", id),
        .body = take(&body, effects),
    };
    struct chp_listener listener = reply__listener(request);
    add(engine, &listener, &told, now, effects);
}

void reply__notice(struct chp_engine *engine, const struct chp_listener *listeners, size_t count,
                   const struct chp_notice *notice, const struct chp_now *now,
                   struct chp_effects *effects)
{
    const struct chp_ack *ack = &notice->ack;
    if (count == 0 ||
        (!notice->completed && !chp_state_final(ack->state) && ack->state != CHP_STATE_IN_DOUBT)) {
        return; /* that it was delivered or runs is shown to those who watch, not kept for others */
    }
    struct chp_arena *arena = &effects->batch.arena;
    char id[CHP_UUID_TEXT_BYTES];
    chp_uuid_format(&notice->operation, id);
    struct chp_buf body = {0};
    chp_notice_encode(notice, &body);
    struct told told = {
        .operation = &notice->operation,
        .message_id = notice->completed
                          ? chp_arena_printf(arena, "%s/completed", id)
                          : chp_arena_printf(arena, "%s/result/%s/%u/%s", id, ack->site, ack->run,
                                             chp_state_name(ack->state)),
        .body = take(&body, effects),
    };
    for (size_t i = 0; i < count; i++) {
        add(engine, &listeners[i], &told, now, effects);
    }
}

static void tell_results(struct chp_engine *engine, const struct chp_listener *listener,
                         const struct chp_load *load, const struct chp_now *now,
                         struct chp_effects *effects)
{
    const struct chp_operation *operation = load->operation_result.row;
    struct chp_notice notice = {.operation = operation->id,
                                .resource = operation->resource,
                                .member_count = operation->member_count};
    for (size_t i = 0; i < load->operation_result.execution_count; i++) {
        const struct chp_execution_row *row = &load->operation_result.executions[i];
        notice.answered += chp_state_final(row->ack.state);
        notice.failed |= row->ack.state != CHP_STATE_DONE;
    }
    for (size_t i = 0; i < load->operation_result.execution_count; i++) {
        notice.ack = load->operation_result.executions[i].ack;
        notice.elapsed_ms = load->operation_result.executions[i].elapsed_ms;
        reply__notice(engine, listener, 1, &notice, now, effects);
    }
    if (load->operation_result.completed) {
        notice.completed = true;
        reply__notice(engine, listener, 1, &notice, now, effects);
    }
}

void reply__repeated(struct chp_engine *engine, const struct chp_event *event,
                     const struct chp_load *load, struct chp_effects *effects)
{
    const struct chp_request *request = event->request.request;
    struct chp_arena *arena = &effects->batch.arena;
    struct chp_reply reply = {.id = load->operation,
                              .duplicate = true,
                              .resource = request->resource,
                              .warning = request->warning};
    if (load->found) {
        const struct chp_operation *operation = load->operation_result.row;
        reply.scope = chp_arena_strdup(arena, operation->scope);
        reply.member_count = operation->member_count;
        reply.members = chp_arena_strdup_all(arena, operation->members, operation->member_count);
    }
    reply__accepted(engine, request, &reply, &event->now, effects);
    if (load->found) {
        struct chp_listener listener = reply__listener(request);
        tell_results(engine, &listener, load, &event->now, effects);
    }
    struct chp_after *after = chp_effects_after(effects, CHP_AFTER_REPLY);
    after->reply.ticket = event->request.ticket;
    after->reply.reply = reply;
}
