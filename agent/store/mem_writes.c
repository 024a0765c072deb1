/* SPDX-License-Identifier: AGPL-3.0-only */
/* What the writes of a batch do to the twin's tables. */
#include "store/mem_internal.h"

#include "base/clock.h"
#include "base/mem.h"
#include "wire/wire.h"

#include <stdlib.h>
#include <string.h>

static void write_resource(struct mem_store *store, const struct chp_resource_row *given)
{
    struct chp_arena *arena = &store->rows->arena;
    struct chp_resource_row *row = chp_arena_alloc(arena, sizeof *row);
    *row = *given;
    row->id = chp_arena_strdup(arena, given->id);
    row->scope = chp_arena_strdup(arena, given->scope);
    row->created_origin = chp_arena_strdup(arena, given->created_origin);
    row->config = chp_arena_strdup(arena, given->config);
    row->diverged = chp_arena_strdup(arena, given->diverged);
    row->base_config = chp_arena_strdup(arena, given->base_config);
    row->members = chp_arena_strdup_all(arena, given->members, given->member_count);
    row->vector = chp_vector_copy(&given->vector, arena);
    row->forgotten = chp_vector_copy(&given->forgotten, arena);
    (void)chp_map_put(store->resources, chp_bytes_of(row->id), row);
}

static void put_operation(struct mem_store *store, const struct mem_operation *given,
                          struct chp_buf *name)
{
    struct mem_operation *row = chp_arena_alloc(&store->rows->arena, sizeof *row);
    *row = *given;
    (void)chp_map_put(store->operations, mem__uuid_bytes(&row->operation.id), row);
    (void)chp_map_put(store->dots,
                      mem__name_of(name, row->operation.resource, row->operation.dot.origin,
                                   row->operation.dot.incarnation, row->operation.dot.n),
                      row);
}

static void set_item(struct mem_store *store, struct mem_operation *row, struct chp_bytes bytes,
                     const struct chp_uuid *id)
{
    struct chp_item item = {0};
    struct chp_error error = {0};
    row->item = chp_arena_bytes(&store->rows->arena, bytes);
    int code = chp_item_decode(row->item, &store->rows->arena, &item, &error);
    CHP_ASSERT(code == 0 && item.kind == CHP_ITEM_OPERATION);
    CHP_ASSERT(chp_uuid_equal(&item.operation.id, id));
    row->operation = item.operation;
}

static void write_operation(struct mem_store *store, const struct chp_write *write,
                            struct chp_buf *name)
{
    const struct chp_uuid *id = &write->operation.operation->id;
    if (chp_map_get(store->operations, mem__uuid_bytes(id)) != NULL) {
        return;
    }
    struct mem_operation row = {
        .reply_to = chp_arena_strdup(&store->rows->arena, write->operation.reply_to),
        .correlation_id = chp_arena_strdup(&store->rows->arena, write->operation.correlation_id),
        .arrival = ++store->arrival_last,
        .clock_suspect = write->operation.clock_suspect,
    };
    set_item(store, &row, write->operation.item, id);
    put_operation(store, &row, name);
}

static void write_redot(struct mem_store *store, const struct chp_write *write,
                        struct chp_buf *name)
{
    const struct mem_operation *held =
        chp_map_get(store->operations, mem__uuid_bytes(&write->redot.operation));
    if (held == NULL) {
        return;
    }
    const struct chp_dot *dot = &held->operation.dot;
    struct chp_bytes old =
        mem__name_of(name, held->operation.resource, dot->origin, dot->incarnation, dot->n);
    if (chp_map_get(store->dots, old) == held) { /* else another redot took it just now */
        (void)chp_map_remove(store->dots, old);
    }
    struct mem_operation row = *held;
    set_item(store, &row, write->redot.item, &write->redot.operation);
    CHP_ASSERT(row.operation.dot.incarnation == write->redot.incarnation);
    CHP_ASSERT(row.operation.dot.n == write->redot.n);
    put_operation(store, &row, name);
}

static void write_execution(struct mem_store *store, const struct chp_execution_row *given,
                            struct chp_buf *name)
{
    const struct mem_execution *held =
        mem__execution(store, &given->ack.operation, given->ack.site);
    if (held != NULL &&
        (given->ack.run < held->row.ack.run ||
         (given->ack.run == held->row.ack.run && chp_state_final(held->row.ack.state) &&
          !chp_state_final(given->ack.state)))) {
        return;
    }
    struct mem_execution *row = chp_arena_alloc(&store->rows->arena, sizeof *row);
    row->row = *given;
    row->row.ack.resource = chp_arena_strdup(&store->rows->arena, given->ack.resource);
    row->row.ack.site = chp_arena_strdup(&store->rows->arena, given->ack.site);
    row->row.ack.reason = chp_arena_strdup(&store->rows->arena, given->ack.reason);
    row->row.ack.output = chp_arena_bytes(&store->rows->arena, given->ack.output);
    row->own = store->self.site != NULL && strcmp(store->self.site, given->ack.site) == 0;
    (void)chp_map_put(store->executions,
                      mem__execution_name(name, &given->ack.operation, given->ack.site), row);
}

/* mark and last only go up. */
static void put_stream(struct mem_store *store, const char *site, enum chp_key key, bool out,
                       uint64_t incarnation, uint64_t mark, uint64_t last, struct chp_buf *name)
{
    struct chp_bytes of = mem__name_of(name, site, chp_key_name(key), out, incarnation);
    const struct chp_stream_row *held = chp_map_get(store->streams, of);
    struct chp_stream_row *row = chp_arena_alloc(&store->rows->arena, sizeof *row);
    *row = (struct chp_stream_row){.site = chp_arena_strdup(&store->rows->arena, site),
                                   .key = key,
                                   .out = out,
                                   .incarnation = incarnation,
                                   .mark = mark,
                                   .last = last};
    if (held != NULL) {
        row->mark = mark > held->mark ? mark : held->mark;
        row->last = last > held->last ? last : held->last;
    }
    (void)chp_map_put(store->streams, of, row);
}

static void put_outbound(struct mem_store *store, const struct mem_outbound *given,
                         struct chp_buf *name)
{
    struct mem_outbound *row = chp_arena_alloc(&store->rows->arena, sizeof *row);
    *row = *given;
    (void)chp_map_put(store->outbound,
                      mem__name_of(name, row->site, chp_key_name(row->key), row->number, 0), row);
    if (store->self.site != NULL) {
        put_stream(store, row->site, row->key, true, store->self.incarnation, 0, row->number, name);
    }
}

static void write_outbound(struct mem_store *store, const struct chp_write *write,
                           struct chp_buf *name)
{
    struct mem_outbound row = {
        .site = chp_arena_strdup(&store->rows->arena, write->outbound.site),
        .key = write->outbound.key,
        .number = write->outbound.number,
        .is_operation = write->outbound.is_operation,
        .queued_ms = chp_clock_wall_ms(),
    };
    if (row.is_operation) {
        row.operation = write->outbound.operation;
    } else {
        row.item = chp_arena_bytes(&store->rows->arena, write->outbound.item);
    }
    put_outbound(store, &row, name);
}

static void write_stream(struct mem_store *store, const struct chp_write *write,
                         struct chp_buf *name)
{
    bool out = write->kind == CHP_WRITE_STREAM_OUT;
    put_stream(store, write->stream.site, write->stream.key, out, write->stream.incarnation,
               write->stream.mark, write->stream.mark, name);
    if (!out || store->self.site == NULL || write->stream.incarnation != store->self.incarnation) {
        return;
    }
    const void *cursor = NULL;
    struct chp_bytes key;
    struct mem_outbound *waiting;
    while ((waiting = chp_map_next(store->outbound, &cursor, &key)) != NULL) {
        if (waiting->key == write->stream.key && waiting->number <= write->stream.mark &&
            strcmp(waiting->site, write->stream.site) == 0) {
            (void)chp_map_remove(
                store->outbound,
                mem__name_of(name, waiting->site, chp_key_name(waiting->key), waiting->number, 0));
        }
    }
}

static void add_json_text(struct chp_buf *json, const char *text)
{
    if (text == NULL) {
        chp_buf_add_text(json, "null");
        return;
    }
    chp_buf_add_byte(json, '"');
    for (const char *c = text; *c != 0; c++) {
        if (*c == '"' || *c == '\\') {
            chp_buf_add_byte(json, '\\');
        }
        chp_buf_add_byte(json, (uint8_t)*c);
    }
    chp_buf_add_byte(json, '"');
}

static void write_event(struct mem_store *store, const struct chp_write *write)
{
    struct mem_event *row = chp_arena_alloc(&store->rows->arena, sizeof *row);
    char at[CHP_TIME_TEXT_BYTES];
    char operation[CHP_UUID_TEXT_BYTES];
    chp_clock_format(write->event.at_ms, at);
    if (write->event.operation != NULL) {
        chp_uuid_format(write->event.operation, operation);
    }
    struct chp_buf json = {0};
    chp_buf_printf(&json, "{\"number\":%llu,\"at\":\"%s\",\"kind\":",
                   (unsigned long long)write->event.number, at);
    add_json_text(&json, write->event.kind);
    chp_buf_add_text(&json, ",\"site\":");
    add_json_text(&json, write->event.site);
    chp_buf_add_text(&json, ",\"resource\":");
    add_json_text(&json, write->event.resource);
    chp_buf_add_text(&json, ",\"operation\":");
    add_json_text(&json, write->event.operation == NULL ? NULL : operation);
    chp_buf_printf(&json, ",\"data\":%s}", write->event.data);
    row->number = write->event.number;
    row->at_ms = write->event.at_ms;
    row->kind = chp_arena_strdup(&store->rows->arena, write->event.kind);
    row->json = chp_arena_strdup(&store->rows->arena, chp_buf_text(&json));
    chp_buf_deinit(&json);
    store->event_last = store->event_last > row->number ? store->event_last : row->number;
    (void)chp_map_put(store->events, chp_bytes(&row->number, sizeof row->number), row);
}

static void write_key(struct mem_store *store, const struct chp_write *write, struct chp_buf *name)
{
    if (chp_map_get(store->keys, mem__name_of(name, write->key.principal, write->key.key, 0, 0)) ==
        NULL) {
        struct mem_key *row = chp_arena_alloc(&store->rows->arena, sizeof *row);
        *row = (struct mem_key){
            .hash = write->key.hash, .operation = write->key.operation, .at_ms = write->key.at_ms};
        (void)chp_map_put(store->keys,
                          mem__name_of(name, write->key.principal, write->key.key, 0, 0), row);
    }
}

static void write_completed(struct mem_store *store, const struct chp_write *write,
                            struct chp_buf *name)
{
    const struct mem_operation *held =
        chp_map_get(store->operations, mem__uuid_bytes(&write->completed.operation));
    if (held != NULL) {
        struct mem_operation row = *held;
        row.completed = true;
        row.failed = write->completed.failed;
        put_operation(store, &row, name);
    }
}

static struct chp_bytes listener_name(struct chp_buf *buf, const struct chp_uuid *operation,
                                      uint64_t place)
{
    chp_buf_clear(buf);
    chp_buf_add(buf, operation->bytes, sizeof operation->bytes);
    chp_buf_add(buf, &place, sizeof place);
    return chp_buf_bytes(buf);
}

static void write_listener(struct mem_store *store, const struct chp_write *write,
                           struct chp_buf *name)
{
    struct mem_listener *row = chp_arena_alloc(&store->rows->arena, sizeof *row);
    uint64_t place = write->listener.place;
    row->operation = write->listener.operation;
    row->place = place;
    row->to.reply_to = chp_arena_strdup(&store->rows->arena, write->listener.to.reply_to);
    row->to.correlation_id =
        chp_arena_strdup(&store->rows->arena, write->listener.to.correlation_id);
    (void)chp_map_put(store->listeners, listener_name(name, &row->operation, place), row);
    for (uint64_t old = 1; old + CHP_LISTENERS_MAX <= place; old++) {
        (void)chp_map_remove(store->listeners, listener_name(name, &row->operation, old));
    }
}

static void write_reply(struct mem_store *store, const struct chp_reply_row *given)
{
    struct chp_arena *arena = &store->rows->arena;
    struct chp_reply_row *row = chp_arena_alloc(arena, sizeof *row);
    *row = *given;
    row->to.reply_to = chp_arena_strdup(arena, given->to.reply_to);
    row->to.correlation_id = chp_arena_strdup(arena, given->to.correlation_id);
    row->message_id = chp_arena_strdup(arena, given->message_id);
    row->body = chp_arena_bytes(arena, given->body);
    (void)chp_map_put(store->replies, chp_bytes(&row->number, sizeof row->number), row);
}

static void forget_keys(struct mem_store *store, uint64_t before_ms)
{
    const void *cursor = NULL;
    struct chp_bytes key;
    const struct mem_key *old;
    size_t forgotten = 0;
    while ((old = chp_map_next(store->keys, &cursor, &key)) != NULL) {
        if (old->at_ms < before_ms && forgotten++ < CHP_FORGET_MAX) {
            (void)chp_map_remove(store->keys, key);
        }
    }
}

static void forget_replies(struct mem_store *store, uint64_t before_ms)
{
    size_t count;
    void **rows = mem__select(store->replies, NULL, NULL, mem__by_reply_number, &count);
    size_t old = 0;
    for (size_t i = 0; i < count && i < CHP_FORGET_MAX; i++) {
        old = ((const struct chp_reply_row *)rows[i])->at_ms < before_ms ? i + 1 : old;
    }
    for (size_t i = 0; i < old; i++) {
        const struct chp_reply_row *row = rows[i];
        (void)chp_map_remove(store->replies, chp_bytes(&row->number, sizeof row->number));
    }
    free(rows);
}

static void forget_events(struct mem_store *store, uint64_t before_ms)
{
    size_t count;
    void **rows = mem__select(store->events, mem__may_forget, store, mem__by_number, &count);
    size_t old = 0;
    for (size_t i = 0; i < count && i < CHP_FORGET_MAX; i++) {
        old = ((const struct mem_event *)rows[i])->at_ms < before_ms ? i + 1 : old;
    }
    for (size_t i = 0; i < old; i++) {
        const struct mem_event *row = rows[i];
        (void)chp_map_remove(store->events, chp_bytes(&row->number, sizeof row->number));
    }
    free(rows);
}

static struct chp_peer_row *put_peer(struct mem_store *store, const char *site)
{
    const struct chp_peer_row *held = chp_map_get(store->peers, chp_bytes_of(site));
    struct chp_peer_row *row = chp_arena_alloc(&store->rows->arena, sizeof *row);
    *row = held != NULL
               ? *held
               : (struct chp_peer_row){.site = chp_arena_strdup(&store->rows->arena, site)};
    (void)chp_map_put(store->peers, chp_bytes_of(site), row);
    return row;
}

static void write_lost(struct mem_store *store, const struct chp_write *write, struct chp_buf *name)
{
    const struct chp_range *range = &write->lost.range;
    struct chp_bytes of =
        mem__name_of(name, write->lost.resource, range->origin, range->incarnation, range->first);
    const struct mem_lost *held = chp_map_get(store->lost, of);
    struct mem_lost *row = chp_arena_alloc(&store->rows->arena, sizeof *row);
    row->resource = chp_arena_strdup(&store->rows->arena, write->lost.resource);
    row->range = *range;
    row->range.origin = chp_arena_strdup(&store->rows->arena, range->origin);
    if (held != NULL && held->range.last > range->last) {
        row->range.last = held->range.last;
    }
    (void)chp_map_put(store->lost, of, row);
}

static void write_self(struct mem_store *store, const char *site, uint64_t incarnation,
                       const char *database)
{
    store->self.site = chp_arena_strdup(&store->rows->arena, site);
    store->self.incarnation = incarnation;
    store->self.database = chp_arena_strdup(&store->rows->arena, database);
}

/* A new life of the database: schema/004_incarnation.sql says why each step is there. */

static bool is_queued_elsewhere(const void *row, const void *user)
{
    const struct mem_execution *execution = row;
    (void)user;
    return !execution->own && execution->row.ack.state == CHP_STATE_QUEUED &&
           execution->row.number > 0;
}

static void put_execution(struct mem_store *store, const struct chp_execution_row *given,
                          struct chp_buf *name)
{
    struct mem_execution *row = chp_arena_alloc(&store->rows->arena, sizeof *row);
    row->row = *given;
    (void)chp_map_put(store->executions,
                      mem__execution_name(name, &given->ack.operation, given->ack.site), row);
}

static bool is_execution_of(const void *row, const void *user)
{
    return chp_uuid_equal(&((const struct mem_execution *)row)->row.ack.operation, user);
}

static void write_voided(struct mem_store *store, const struct chp_uuid *operation,
                         struct chp_buf *name)
{
    size_t count;
    void **rows = mem__select(store->executions, is_execution_of, operation, mem__by_site, &count);
    for (size_t i = 0; i < count; i++) {
        const struct mem_execution *held = rows[i];
        if (held->row.ack.state == CHP_STATE_FAILED || held->row.ack.state == CHP_STATE_REFUSED) {
            struct mem_execution *row = chp_arena_alloc(&store->rows->arena, sizeof *row);
            *row = *held;
            row->row.ack.state = CHP_STATE_VOIDED;
            (void)chp_map_put(store->executions,
                              mem__execution_name(name, operation, row->row.ack.site), row);
        }
    }
    free(rows);
}

static bool is_own(const void *row, const void *user)
{
    const struct mem_execution *execution = row;
    return execution->own && strcmp(execution->row.ack.resource, user) == 0;
}

static void write_rebuild(struct mem_store *store, const char *resource, struct chp_buf *name)
{
    size_t count;
    void **rows = mem__select(store->executions, is_own, resource, mem__by_site, &count);
    for (size_t i = 0; i < count; i++) {
        struct mem_execution *row = chp_arena_alloc(&store->rows->arena, sizeof *row);
        *row = *(const struct mem_execution *)rows[i];
        row->row.effect = 0;
        (void)chp_map_put(store->executions,
                          mem__execution_name(name, &row->row.ack.operation, row->row.ack.site),
                          row);
    }
    free(rows);
}

static bool waits_outbound(const struct mem_store *store, const struct chp_uuid *operation)
{
    const struct mem_outbound *outbound;
    for (const void *at = NULL; (outbound = chp_map_next(store->outbound, &at, NULL)) != NULL;) {
        if (outbound->is_operation && chp_uuid_equal(&outbound->operation, operation)) {
            return true;
        }
    }
    return false;
}

static void forget_operation(struct mem_store *store, const struct mem_operation *operation,
                             struct chp_buf *name)
{
    const struct chp_uuid *id = &operation->operation.id;
    const struct chp_dot *dot = &operation->operation.dot;
    size_t count;
    void **rows = mem__select(store->executions, is_execution_of, id, mem__by_site, &count);
    for (size_t i = 0; i < count; i++) {
        const struct mem_execution *execution = rows[i];
        (void)chp_map_remove(store->executions,
                             mem__execution_name(name, id, execution->row.ack.site));
    }
    free(rows);
    (void)chp_map_remove(store->dots, mem__name_of(name, operation->operation.resource, dot->origin,
                                                   dot->incarnation, dot->n));
    (void)chp_map_remove(store->operations, mem__uuid_bytes(id));
}

static bool is_any(const void *row, const void *user)
{
    (void)row;
    (void)user;
    return true;
}

static void write_forgotten(struct mem_store *store, const struct chp_write *write,
                            struct chp_buf *name)
{
    size_t count;
    void **rows = mem__select(store->operations, is_any, NULL, mem__by_arrival, &count);
    for (size_t i = 0; i < count; i++) {
        const struct mem_operation *operation = rows[i];
        const struct chp_dot *dot = &operation->operation.dot;
        if (strcmp(operation->operation.resource, write->forgotten.resource) == 0 &&
            chp_vector_get(&write->forgotten.vector, dot->origin, dot->incarnation) >= dot->n &&
            !waits_outbound(store, &operation->operation.id)) {
            forget_operation(store, operation, name);
        }
    }
    free(rows);
}

static void keep_delivered(struct mem_store *store, struct chp_buf *name)
{
    size_t count;
    void **rows = mem__select(store->executions, is_queued_elsewhere, NULL, mem__by_site, &count);
    for (size_t i = 0; i < count; i++) {
        struct chp_execution_row row = ((const struct mem_execution *)rows[i])->row;
        const struct chp_stream_row *stream = chp_map_get(
            store->streams, mem__name_of(name, row.ack.site, chp_key_name(CHP_KEY_OPERATION), true,
                                         store->self.incarnation));
        if (stream != NULL && row.number <= stream->mark) {
            row.ack.state = CHP_STATE_DELIVERED;
            put_execution(store, &row, name);
        }
    }
    free(rows);
}

/* What waits in the new streams: an unanswered operation of this origin, or something else. */
struct again {
    struct mem_outbound row;
    const struct mem_execution *execution; /* or NULL */
    uint64_t place;                        /* arrival, or the number so far */
};

static int by_place(const void *a, const void *b)
{
    const struct again *x = a;
    const struct again *y = b;
    int order = strcmp(x->row.site, y->row.site);
    order = order != 0 ? order : (int)x->row.key - (int)y->row.key;
    order = order != 0 ? order : (x->execution == NULL) - (y->execution == NULL);
    return order != 0 ? order : (x->place > y->place) - (x->place < y->place);
}

static bool is_unanswered(const struct mem_store *store, const struct mem_execution *execution)
{
    const struct mem_operation *operation =
        chp_map_get(store->operations, mem__uuid_bytes(&execution->row.ack.operation));
    return !execution->own && !chp_state_final(execution->row.ack.state) &&
           strcmp(operation->operation.dot.origin, store->self.site) == 0;
}

static size_t collect_unanswered(const struct mem_store *store, struct again *again)
{
    size_t count = 0;
    const void *cursor = NULL;
    struct chp_bytes name;
    const struct mem_execution *execution;
    while ((execution = chp_map_next(store->executions, &cursor, &name)) != NULL) {
        if (is_unanswered(store, execution)) {
            const struct chp_ack *ack = &execution->row.ack;
            const struct mem_operation *operation =
                chp_map_get(store->operations, mem__uuid_bytes(&ack->operation));
            again[count++] = (struct again){.row = {.site = ack->site,
                                                    .key = CHP_KEY_OPERATION,
                                                    .is_operation = true,
                                                    .operation = ack->operation,
                                                    .queued_ms = chp_clock_wall_ms()},
                                            .execution = execution,
                                            .place = operation->arrival};
        }
    }
    return count;
}

/* Of those that waited already, the moment since when is kept. */
static size_t collect_waiting(const struct mem_store *store, struct again *again, size_t count)
{
    size_t unanswered = count;
    const void *cursor = NULL;
    struct chp_bytes name;
    const struct mem_outbound *waiting;
    while ((waiting = chp_map_next(store->outbound, &cursor, &name)) != NULL) {
        struct again *same = NULL;
        for (size_t i = 0; i < unanswered && waiting->is_operation && same == NULL; i++) {
            if (waiting->key == CHP_KEY_OPERATION &&
                strcmp(again[i].row.site, waiting->site) == 0 &&
                chp_uuid_equal(&again[i].row.operation, &waiting->operation)) {
                same = &again[i];
            }
        }
        if (same == NULL) {
            again[count++] = (struct again){.row = *waiting, .place = waiting->number};
        } else if (waiting->queued_ms < same->row.queued_ms) {
            same->row.queued_ms = waiting->queued_ms;
        }
    }
    return count;
}

static void write_reincarnate(struct mem_store *store, const struct chp_write *write,
                              struct chp_buf *name)
{
    CHP_ASSERT(store->self.site == NULL ||
               write->reincarnate.incarnation > store->self.incarnation);
    keep_delivered(store, name);
    write_self(store, write->reincarnate.site, write->reincarnate.incarnation,
               write->reincarnate.database);
    struct again *again = chp_calloc(
        chp_map_count(store->executions) + chp_map_count(store->outbound) + 1, sizeof *again);
    size_t count = collect_waiting(store, again, collect_unanswered(store, again));
    qsort(again, count, sizeof *again, by_place);
    chp_map_free(store->outbound);
    store->outbound = chp_map_new(0);
    for (size_t i = 0; i < count; i++) {
        bool follows = i > 0 && again[i].row.key == again[i - 1].row.key &&
                       strcmp(again[i].row.site, again[i - 1].row.site) == 0;
        again[i].row.number = follows ? again[i - 1].row.number + 1 : 1;
        put_outbound(store, &again[i].row, name);
        if (again[i].execution != NULL) {
            struct chp_execution_row row = again[i].execution->row;
            row.number = again[i].row.number;
            put_execution(store, &row, name);
        }
    }
    free(again);
}

static void write_undecoded(struct mem_store *store, const struct chp_write *write,
                            struct chp_buf *name)
{
    struct chp_bytes key =
        mem__name_of(name, write->undecoded.site, chp_key_name(write->undecoded.key),
                     write->undecoded.incarnation, write->undecoded.number);
    if (chp_map_get(store->undecoded, key) != NULL) {
        return;
    }
    struct chp_arena *arena = &store->rows->arena;
    struct chp_undecoded_row *row = chp_arena_alloc(arena, sizeof *row);
    *row = (struct chp_undecoded_row){
        .arrival = ++store->undecoded_last,
        .site = chp_arena_strdup(arena, write->undecoded.site),
        .key = write->undecoded.key,
        .incarnation = write->undecoded.incarnation,
        .number = write->undecoded.number,
        .item = chp_arena_bytes(arena, write->undecoded.item),
    };
    (void)chp_map_put(store->undecoded, key, row);
}

static void write_decoded(struct mem_store *store, const struct chp_write *write)
{
    const void *cursor = NULL;
    struct chp_bytes key;
    const struct chp_undecoded_row *row;
    while ((row = chp_map_next(store->undecoded, &cursor, &key)) != NULL) {
        if (row->arrival == write->decoded) {
            (void)chp_map_remove(store->undecoded, key);
            return;
        }
    }
}

static void write_peer(struct mem_store *store, const struct chp_write *write)
{
    if (write->kind == CHP_WRITE_GAP) {
        struct chp_peer_row *peer = put_peer(store, write->gap.site);
        peer->gap_open = write->gap.open;
        peer->gap_mark = write->gap.mark;
    } else if (write->kind == CHP_WRITE_REPORTED) {
        struct chp_peer_row *peer = put_peer(store, write->reported.site);
        peer->reported_incarnation = write->reported.incarnation;
        peer->reported_arrival = write->reported.arrival;
    } else {
        (void)put_peer(store, write->peer.site); /* nothing reads the rest */
    }
}

static void forget(struct mem_store *store, const struct chp_write *write)
{
    forget_keys(store, write->forget.keys_before_ms);
    forget_replies(store, write->forget.keys_before_ms);
    forget_events(store, write->forget.events_before_ms);
}

static void write_unknown(struct mem_store *store, const struct chp_write *write,
                          struct chp_buf *name)
{
    if (write->kind == CHP_WRITE_UNDECODED) {
        write_undecoded(store, write, name);
    } else {
        write_decoded(store, write);
    }
}

/* A column of self, when there is a row. */
static void raise_own(const struct mem_store *store, uint64_t *column, uint64_t value)
{
    if (store->self.site != NULL && *column < value) {
        *column = value;
    }
}

/* Of several operations at a time. */
static void write_outcome(struct mem_store *store, const struct chp_write *write,
                          struct chp_buf *name)
{
    if (write->kind == CHP_WRITE_VOIDED) {
        write_voided(store, &write->voided, name);
    } else if (write->kind == CHP_WRITE_REBUILD) {
        write_rebuild(store, write->rebuild, name);
    } else {
        write_forgotten(store, write, name);
    }
}

/* What only goes up. */
static void write_numbered(struct mem_store *store, const struct chp_write *write)
{
    if (write->kind == CHP_WRITE_EVENT) {
        write_event(store, write);
    } else if (write->kind == CHP_WRITE_EVENTS_PUBLISHED) {
        raise_own(store, &store->self.event_published, write->events_published);
    } else {
        raise_own(store, &store->self.serial, write->serial);
    }
}

static void write_one(struct mem_store *store, const struct chp_write *write, struct chp_buf *name)
{
    switch (write->kind) {
    case CHP_WRITE_SELF:
        write_self(store, write->self.site, write->self.incarnation, write->self.database);
        break;
    case CHP_WRITE_REINCARNATE:
        write_reincarnate(store, write, name);
        break;
    case CHP_WRITE_RESOURCE:
        write_resource(store, &write->resource);
        break;
    case CHP_WRITE_REDOT:
        write_redot(store, write, name);
        break;
    case CHP_WRITE_OPERATION:
        write_operation(store, write, name);
        break;
    case CHP_WRITE_EXECUTION:
        write_execution(store, &write->execution, name);
        break;
    case CHP_WRITE_COMPLETED:
        write_completed(store, write, name);
        break;
    case CHP_WRITE_OUTBOUND:
        write_outbound(store, write, name);
        break;
    case CHP_WRITE_STREAM_OUT:
    case CHP_WRITE_STREAM_IN:
        write_stream(store, write, name);
        break;
    case CHP_WRITE_KEY:
        write_key(store, write, name);
        break;
    case CHP_WRITE_LISTENER:
        write_listener(store, write, name);
        break;
    case CHP_WRITE_REPLY:
        write_reply(store, &write->reply);
        break;
    case CHP_WRITE_REPLIED:
        (void)chp_map_remove(store->replies, chp_bytes(&write->replied, sizeof write->replied));
        break;
    case CHP_WRITE_FORGET:
        forget(store, write);
        break;
    case CHP_WRITE_PEER:
    case CHP_WRITE_GAP:
    case CHP_WRITE_REPORTED:
        write_peer(store, write);
        break;
    case CHP_WRITE_VOIDED:
    case CHP_WRITE_REBUILD:
    case CHP_WRITE_FORGOTTEN:
        write_outcome(store, write, name);
        break;
    case CHP_WRITE_LOST:
        write_lost(store, write, name);
        break;
    case CHP_WRITE_UNDECODED:
    case CHP_WRITE_DECODED:
        write_unknown(store, write, name);
        break;
    case CHP_WRITE_EVENT:
    case CHP_WRITE_EVENTS_PUBLISHED:
    case CHP_WRITE_SERIAL:
        write_numbered(store, write);
        break;
    }
}

/* By kind, as the database does it. */
void mem__apply(struct mem_store *store, const struct chp_batch *batch)
{
    struct chp_buf name = {0};
    for (int kind = 0; kind < CHP_WRITE_COUNT; kind++) {
        for (size_t i = 0; i < batch->write_count; i++) {
            if (batch->writes[i].kind == (enum chp_write_kind)kind) {
                write_one(store, &batch->writes[i], &name);
            }
        }
    }
    chp_buf_deinit(&name);
}
