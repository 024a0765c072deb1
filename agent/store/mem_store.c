/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * The twin of pg_store.c: maps instead of tables, the same order of writes, the same refusals. What
 * the database checks by constraints is checked here before anything is applied, so that a refused
 * batch leaves no trace.
 */
#include "store/mem_internal.h"

#include "base/clock.h"
#include "base/mem.h"
#include "store/query_params.h"
#include "wire/wire.h"

#include <stdlib.h>
#include <string.h>

static const uint64_t key_kept_ms = 7ULL * 24 * 3600 * 1000; /* design 4.1 */

struct mem_query {
    struct chp_list link;
    enum chp_query query;
    struct query_params params;
    chp_query_fn *on_answer;
    void *user;
};

static struct mem_store *from(struct chp_store *store)
{
    return CHP_CONTAINER(store, struct mem_store, store);
}

/* A row's name: strings end with a NUL. */
struct chp_bytes mem__name_of(struct chp_buf *buf, const char *first, const char *second,
                              uint64_t a, uint64_t b)
{
    chp_buf_clear(buf);
    chp_buf_add(buf, first, strlen(first) + 1);
    chp_buf_add(buf, second, strlen(second) + 1);
    chp_buf_add(buf, &a, sizeof a);
    chp_buf_add(buf, &b, sizeof b);
    return chp_buf_bytes(buf);
}

struct chp_bytes mem__uuid_bytes(const struct chp_uuid *uuid)
{
    return chp_bytes(uuid->bytes, sizeof uuid->bytes);
}

static struct chp_bytes execution_name(struct chp_buf *buf, const struct chp_uuid *operation,
                                       const char *site)
{
    chp_buf_clear(buf);
    chp_buf_add(buf, operation->bytes, sizeof operation->bytes);
    chp_buf_add_text(buf, site);
    return chp_buf_bytes(buf);
}

static struct chp_bytes dot_name(struct chp_buf *buf, const struct chp_operation *operation)
{
    return mem__name_of(buf, operation->resource, operation->dot.origin, operation->dot.incarnation,
                        operation->dot.n);
}

static struct chp_bytes stream_name(struct chp_buf *buf, const char *site, enum chp_key key,
                                    bool out, uint64_t incarnation)
{
    return mem__name_of(buf, site, chp_key_name(key), out, incarnation);
}

void **mem__select(const struct chp_map *map, mem_keep_fn *keep, const void *user,
                   int (*compare)(const void *, const void *), size_t *count)
{
    void **rows = chp_calloc(chp_map_count(map) + 1, sizeof *rows);
    const void *cursor = NULL;
    struct chp_bytes name;
    void *row;
    *count = 0;
    while ((row = chp_map_next(map, &cursor, &name)) != NULL) {
        if (keep == NULL || keep(row, user)) {
            rows[(*count)++] = row;
        }
    }
    qsort(rows, *count, sizeof *rows, compare);
    return rows;
}

int mem__by_arbitration(const void *a, const void *b)
{
    const struct chp_operation *x = &(*(const struct mem_operation *const *)a)->operation;
    const struct chp_operation *y = &(*(const struct mem_operation *const *)b)->operation;
    return chp_arbitration_compare(x->stamp, x->dot.origin, &x->id, y->stamp, y->dot.origin,
                                   &y->id);
}

int mem__by_arrival(const void *a, const void *b)
{
    uint64_t x = (*(const struct mem_operation *const *)a)->arrival;
    uint64_t y = (*(const struct mem_operation *const *)b)->arrival;
    return (x > y) - (x < y);
}

int mem__by_site(const void *a, const void *b)
{
    return strcmp((*(const struct mem_execution *const *)a)->row.ack.site,
                  (*(const struct mem_execution *const *)b)->row.ack.site);
}

int mem__by_number(const void *a, const void *b)
{
    uint64_t x = (*(const struct mem_event *const *)a)->number;
    uint64_t y = (*(const struct mem_event *const *)b)->number;
    return (x > y) - (x < y);
}

int mem__by_stream(const void *a, const void *b)
{
    const struct chp_stream_row *x = *(const struct chp_stream_row *const *)a;
    const struct chp_stream_row *y = *(const struct chp_stream_row *const *)b;
    int order = strcmp(x->site, y->site);
    order = order != 0 ? order : strcmp(chp_key_name(x->key), chp_key_name(y->key));
    order = order != 0 ? order : (int)x->out - (int)y->out;
    return order != 0 ? order
                      : (x->incarnation > y->incarnation) - (x->incarnation < y->incarnation);
}

int mem__by_id(const void *a, const void *b)
{
    return strcmp((*(const struct chp_resource_row *const *)a)->id,
                  (*(const struct chp_resource_row *const *)b)->id);
}

const struct mem_execution *mem__execution(const struct mem_store *store,
                                           const struct chp_uuid *operation, const char *site)
{
    struct chp_buf name = {0};
    const struct mem_execution *row =
        chp_map_get(store->executions, execution_name(&name, operation, site));
    chp_buf_deinit(&name);
    return row;
}

/* What the database refuses. */

static bool batch_brings(const struct chp_batch *batch, const struct chp_uuid *operation)
{
    for (size_t i = 0; i < batch->write_count; i++) {
        if (batch->writes[i].kind == CHP_WRITE_OPERATION &&
            chp_uuid_equal(&batch->writes[i].operation.operation->id, operation)) {
            return true;
        }
    }
    return false;
}

static bool batch_brings_resource(const struct chp_batch *batch, const char *id)
{
    for (size_t i = 0; i < batch->write_count; i++) {
        if (batch->writes[i].kind == CHP_WRITE_RESOURCE &&
            strcmp(batch->writes[i].resource.id, id) == 0) {
            return true;
        }
    }
    return false;
}

static bool knows_operation(const struct mem_store *store, const struct chp_batch *batch,
                            const struct chp_uuid *operation)
{
    return chp_map_get(store->operations, mem__uuid_bytes(operation)) != NULL ||
           batch_brings(batch, operation);
}

static int check_operation(const struct mem_store *store, const struct chp_batch *batch,
                           const struct chp_operation *operation, struct chp_error *error)
{
    struct chp_buf name = {0};
    const struct mem_operation *same = chp_map_get(store->dots, dot_name(&name, operation));
    chp_buf_deinit(&name);
    if (same != NULL && !chp_uuid_equal(&same->operation.id, &operation->id)) {
        return chp_error_set(error, CHP_EINVAL, "store: another operation has this dot");
    }
    if (chp_map_get(store->resources, chp_bytes_of(operation->resource)) == NULL &&
        !batch_brings_resource(batch, operation->resource)) {
        return chp_error_set(error, CHP_EINVAL,
                             "store: an operation of a resource that is not there");
    }
    return 0;
}

static bool same_number(const struct chp_write *a, const struct chp_write *b)
{
    if (a->kind != b->kind) {
        return false;
    }
    return a->kind == CHP_WRITE_EVENT
               ? a->event.number == b->event.number
               : a->outbound.number == b->outbound.number && a->outbound.key == b->outbound.key &&
                     strcmp(a->outbound.site, b->outbound.site) == 0;
}

/* Events and outbound items: each number once. */
static int check_number(const struct mem_store *store, const struct chp_batch *batch, size_t index,
                        struct chp_error *error)
{
    const struct chp_write *write = &batch->writes[index];
    struct chp_buf name = {0};
    uint64_t number = write->kind == CHP_WRITE_EVENT ? write->event.number : write->outbound.number;
    bool taken = write->kind == CHP_WRITE_EVENT
                     ? chp_map_get(store->events, chp_bytes(&number, sizeof number)) != NULL
                     : chp_map_get(store->outbound, mem__name_of(&name, write->outbound.site,
                                                                 chp_key_name(write->outbound.key),
                                                                 number, 0)) != NULL;
    for (size_t i = 0; i < index; i++) {
        taken |= same_number(&batch->writes[i], write);
    }
    chp_buf_deinit(&name);
    if (taken || number == 0) {
        return chp_error_set(error, CHP_EINVAL, "store: the number %llu is taken or not one",
                             (unsigned long long)number);
    }
    return 0;
}

static int check(const struct mem_store *store, const struct chp_batch *batch,
                 struct chp_error *error)
{
    for (size_t i = 0; i < batch->write_count; i++) {
        const struct chp_write *write = &batch->writes[i];
        int code = 0;
        if (write->kind == CHP_WRITE_OPERATION) {
            code = check_operation(store, batch, write->operation.operation, error);
        } else if (write->kind == CHP_WRITE_EXECUTION &&
                   !knows_operation(store, batch, &write->execution.ack.operation)) {
            code = chp_error_set(error, CHP_EINVAL,
                                 "store: an execution of an operation that is not there");
        } else if (write->kind == CHP_WRITE_OUTBOUND && write->outbound.is_operation &&
                   !knows_operation(store, batch, &write->outbound.operation)) {
            code = chp_error_set(error, CHP_EINVAL,
                                 "store: an operation that is not there waits for a site");
        } else if (write->kind == CHP_WRITE_EVENT || write->kind == CHP_WRITE_OUTBOUND) {
            code = check_number(store, batch, i, error);
        }
        if (code != 0) {
            return code;
        }
    }
    return 0;
}

/* Writes. */

static void write_resource(struct mem_store *store, const struct chp_resource_row *given)
{
    struct chp_arena *arena = &store->arena;
    struct chp_resource_row *row = chp_arena_alloc(arena, sizeof *row);
    *row = *given;
    row->id = chp_arena_strdup(arena, given->id);
    row->scope = chp_arena_strdup(arena, given->scope);
    row->created_origin = chp_arena_strdup(arena, given->created_origin);
    row->config = chp_arena_strdup(arena, given->config);
    row->executed_origin = chp_arena_strdup(arena, given->executed_origin);
    row->members = chp_arena_strdup_all(arena, given->members, given->member_count);
    row->vector.entries = chp_arena_calloc(arena, given->vector.count, sizeof *row->vector.entries);
    for (size_t i = 0; i < given->vector.count; i++) {
        row->vector.entries[i] = given->vector.entries[i];
        row->vector.entries[i].origin = chp_arena_strdup(arena, given->vector.entries[i].origin);
    }
    (void)chp_map_put(store->resources, chp_bytes_of(row->id), row);
}

static void write_operation(struct mem_store *store, const struct chp_write *write,
                            struct chp_buf *name)
{
    if (chp_map_get(store->operations, mem__uuid_bytes(&write->operation.operation->id)) != NULL) {
        return;
    }
    struct mem_operation *row = chp_arena_alloc(&store->arena, sizeof *row);
    struct chp_item item = {0};
    struct chp_error error = {0};
    row->item = chp_arena_bytes(&store->arena, write->operation.item);
    int code = chp_item_decode(row->item, &store->arena, &item, &error);
    CHP_ASSERT(code == 0 && item.kind == CHP_ITEM_OPERATION);
    CHP_ASSERT(chp_uuid_equal(&item.operation.id, &write->operation.operation->id));
    row->operation = item.operation;
    row->reply_to = chp_arena_strdup(&store->arena, write->operation.reply_to);
    row->correlation_id = chp_arena_strdup(&store->arena, write->operation.correlation_id);
    row->arrival = ++store->arrival_last;
    (void)chp_map_put(store->operations, mem__uuid_bytes(&row->operation.id), row);
    (void)chp_map_put(store->dots, dot_name(name, &row->operation), row);
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
    struct mem_execution *row = chp_arena_alloc(&store->arena, sizeof *row);
    row->row = *given;
    row->row.ack.resource = chp_arena_strdup(&store->arena, given->ack.resource);
    row->row.ack.site = chp_arena_strdup(&store->arena, given->ack.site);
    row->row.ack.reason = chp_arena_strdup(&store->arena, given->ack.reason);
    row->row.ack.output = chp_arena_bytes(&store->arena, given->ack.output);
    row->own = store->site != NULL && strcmp(store->site, given->ack.site) == 0;
    (void)chp_map_put(store->executions,
                      execution_name(name, &given->ack.operation, given->ack.site), row);
}

static struct chp_stream_row *stream_row(struct mem_store *store, const char *site,
                                         enum chp_key key, bool out, uint64_t incarnation,
                                         struct chp_buf *name)
{
    struct chp_stream_row *row =
        chp_map_get(store->streams, stream_name(name, site, key, out, incarnation));
    if (row == NULL) {
        row = chp_arena_alloc(&store->arena, sizeof *row);
        *row = (struct chp_stream_row){.site = chp_arena_strdup(&store->arena, site),
                                       .key = key,
                                       .out = out,
                                       .incarnation = incarnation};
        (void)chp_map_put(store->streams, stream_name(name, site, key, out, incarnation), row);
    }
    return row;
}

static void write_outbound(struct mem_store *store, const struct chp_write *write,
                           struct chp_buf *name)
{
    struct mem_outbound *row = chp_arena_alloc(&store->arena, sizeof *row);
    row->site = chp_arena_strdup(&store->arena, write->outbound.site);
    row->key = write->outbound.key;
    row->number = write->outbound.number;
    row->queued_ms = chp_clock_wall_ms();
    if (write->outbound.is_operation) {
        row->operation =
            chp_map_get(store->operations, mem__uuid_bytes(&write->outbound.operation));
    } else {
        row->item = chp_arena_bytes(&store->arena, write->outbound.item);
    }
    (void)chp_map_put(store->outbound,
                      mem__name_of(name, row->site, chp_key_name(row->key), row->number, 0), row);
    if (store->site != NULL) {
        struct chp_stream_row *stream =
            stream_row(store, row->site, row->key, true, store->incarnation, name);
        stream->last = stream->last > row->number ? stream->last : row->number;
    }
}

static void write_stream(struct mem_store *store, const struct chp_write *write,
                         struct chp_buf *name)
{
    bool out = write->kind == CHP_WRITE_STREAM_OUT;
    struct chp_stream_row *row = stream_row(store, write->stream.site, write->stream.key, out,
                                            write->stream.incarnation, name);
    row->mark = row->mark > write->stream.mark ? row->mark : write->stream.mark;
    row->last = row->last > row->mark ? row->last : row->mark;
    if (!out || store->site == NULL || write->stream.incarnation != store->incarnation) {
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
    struct mem_event *row = chp_arena_alloc(&store->arena, sizeof *row);
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
    row->kind = chp_arena_strdup(&store->arena, write->event.kind);
    row->json = chp_arena_strdup(&store->arena, chp_buf_text(&json));
    chp_buf_deinit(&json);
    store->event_last = store->event_last > row->number ? store->event_last : row->number;
    (void)chp_map_put(store->events, chp_bytes(&row->number, sizeof row->number), row);
}

static void write_key(struct mem_store *store, const struct chp_write *write, struct chp_buf *name)
{
    const void *cursor = NULL;
    struct chp_bytes key;
    const struct mem_key *old;
    while ((old = chp_map_next(store->keys, &cursor, &key)) != NULL) {
        if (old->at_ms + key_kept_ms < write->key.at_ms) {
            (void)chp_map_remove(store->keys, key);
        }
    }
    if (chp_map_get(store->keys, mem__name_of(name, write->key.principal, write->key.key, 0, 0)) ==
        NULL) {
        struct mem_key *row = chp_arena_alloc(&store->arena, sizeof *row);
        *row = (struct mem_key){
            .hash = write->key.hash, .operation = write->key.operation, .at_ms = write->key.at_ms};
        (void)chp_map_put(store->keys,
                          mem__name_of(name, write->key.principal, write->key.key, 0, 0), row);
    }
}

static void write_completed(struct mem_store *store, const struct chp_write *write)
{
    struct mem_operation *row =
        chp_map_get(store->operations, mem__uuid_bytes(&write->completed.operation));
    if (row != NULL) {
        row->completed = true;
        row->failed = write->completed.failed;
    }
}

static void write_one(struct mem_store *store, const struct chp_write *write, struct chp_buf *name)
{
    switch (write->kind) {
    case CHP_WRITE_SELF:
        store->site = chp_arena_strdup(&store->arena, write->self.site);
        store->incarnation = write->self.incarnation;
        break;
    case CHP_WRITE_RESOURCE:
        write_resource(store, &write->resource);
        break;
    case CHP_WRITE_OPERATION:
        write_operation(store, write, name);
        break;
    case CHP_WRITE_EXECUTION:
        write_execution(store, &write->execution, name);
        break;
    case CHP_WRITE_COMPLETED:
        write_completed(store, write);
        break;
    case CHP_WRITE_OUTBOUND:
        write_outbound(store, write, name);
        break;
    case CHP_WRITE_STREAM_OUT:
    case CHP_WRITE_STREAM_IN:
        write_stream(store, write, name);
        break;
    case CHP_WRITE_EVENT:
        write_event(store, write);
        break;
    case CHP_WRITE_EVENTS_PUBLISHED:
        if (store->site != NULL && store->event_published < write->events_published) {
            store->event_published = write->events_published;
        }
        break;
    case CHP_WRITE_KEY:
        write_key(store, write, name);
        break;
    case CHP_WRITE_PEER:
        break; /* nothing reads them yet */
    case CHP_WRITE_REINCARNATE:
    case CHP_WRITE_REDOT:
    case CHP_WRITE_GAP:
    case CHP_WRITE_REPORTED:
    case CHP_WRITE_LOST:
    case CHP_WRITE_SERIAL:
        break;
    }
}

/* By kind, as the database does it. */
static void apply(struct mem_store *store, const struct chp_batch *batch)
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

/* The port. */

static void submit(struct chp_store *base, struct chp_batch *batch)
{
    struct mem_store *store = from(base);
    CHP_ASSERT(store->batch == NULL);
    store->batch = batch;
    store->failing = !store->is_up;
}

static void query(struct chp_store *base, enum chp_query query, const char *const *params,
                  size_t param_count, chp_query_fn *on_answer, void *user)
{
    struct mem_store *store = from(base);
    struct chp_error error = {0};
    struct mem_query *asked = chp_alloc(sizeof *asked);
    asked->query = query;
    asked->on_answer = on_answer;
    asked->user = user;
    if (query__params_init(&asked->params, query, params, param_count, &error) != 0) {
        free(asked);
        on_answer(user, error.code, NULL, &error);
        return;
    }
    chp_list_append(&store->queries, &asked->link);
}

static void query_free(struct mem_query *query)
{
    chp_list_remove(&query->link);
    query__params_deinit(&query->params);
    free(query);
}

static void query_cancel(struct chp_store *base, void *user)
{
    CHP_LIST_FOREACH_SAFE(&from(base)->queries, link, following)
    {
        struct mem_query *query = CHP_CONTAINER(link, struct mem_query, link);
        if (query->user == user) {
            query->on_answer = NULL; /* may be called from an answer, while the list is walked */
        }
    }
}

static bool up(const struct chp_store *base)
{
    return from((struct chp_store *)base)->is_up;
}

static void store_free(struct chp_store *base)
{
    struct mem_store *store = from(base);
    CHP_LIST_FOREACH_SAFE(&store->queries, link, following)
    {
        query_free(CHP_CONTAINER(link, struct mem_query, link));
    }
    struct chp_map *maps[] = {store->resources, store->operations, store->dots,   store->executions,
                              store->outbound,  store->streams,    store->events, store->keys};
    for (size_t i = 0; i < sizeof maps / sizeof maps[0]; i++) {
        chp_map_free(maps[i]);
    }
    chp_arena_deinit(&store->arena);
    free(store);
}

static const struct chp_store_vtable vtable = {
    .submit = submit, .query = query, .query_cancel = query_cancel, .up = up, .free = store_free};

struct chp_store *chp_mem_store_new(const struct chp_store_callbacks *callbacks)
{
    struct mem_store *store = chp_alloc(sizeof *store);
    store->store.vtable = &vtable;
    store->callbacks = *callbacks;
    store->is_up = true;
    store->announce = true;
    chp_list_init(&store->queries);
    struct chp_map **maps[] = {&store->resources,  &store->operations, &store->dots,
                               &store->executions, &store->outbound,   &store->streams,
                               &store->events,     &store->keys};
    for (size_t i = 0; i < sizeof maps / sizeof maps[0]; i++) {
        *maps[i] = chp_map_new(i);
    }
    return &store->store;
}

static void end_batch(struct mem_store *store)
{
    struct chp_batch *batch = store->batch;
    struct chp_error error = {0};
    store->batch = NULL;
    if (store->failing) {
        (void)chp_error_set(&error, CHP_EUNAVAILABLE, "the store is away");
    } else if (check(store, batch, &error) == 0) {
        apply(store, batch);
        for (size_t i = 0; i < batch->load_count; i++) {
            mem__load(store, &batch->loads[i], &batch->arena);
        }
    }
    store->failing = false;
    batch->on_done(batch, error.code, &error);
}

static void answer(const struct mem_store *store, const struct mem_query *query)
{
    struct chp_error error = {0};
    char *json = NULL;
    if (query->on_answer == NULL) {
        return;
    }
    if (store->is_up) {
        json = mem__answer(store, query->query, query->params.values);
    } else {
        (void)chp_error_set(&error, CHP_EUNAVAILABLE, "the store is away");
    }
    query->on_answer(query->user, error.code, json, &error);
    free(json);
}

bool chp_mem_store_run(struct chp_store *base)
{
    struct mem_store *store = from(base);
    bool any = store->announce || store->batch != NULL || !chp_list_empty(&store->queries);
    if (store->announce) {
        store->announce = false;
        store->callbacks.on_up(store->callbacks.user);
    }
    if (store->batch != NULL) {
        end_batch(store);
    }
    CHP_LIST_FOREACH_SAFE(&store->queries, link, following)
    {
        struct mem_query *query = CHP_CONTAINER(link, struct mem_query, link);
        answer(store, query);
        query_free(query);
    }
    return any;
}

void chp_mem_store_set_up(struct chp_store *base, bool is_up, bool applied)
{
    struct mem_store *store = from(base);
    if (store->is_up == is_up) {
        return;
    }
    store->is_up = is_up;
    if (is_up) {
        store->announce = true;
        return;
    }
    struct chp_error error = {0};
    if (store->batch != NULL) {
        if (applied && check(store, store->batch, &error) == 0) {
            apply(store, store->batch);
        }
        store->failing = true;
    }
    store->announce = false;
    (void)chp_error_set(&error, CHP_EUNAVAILABLE, "the store is away");
    store->callbacks.on_down(store->callbacks.user, &error);
}
