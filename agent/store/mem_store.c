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

struct chp_bytes mem__execution_name(struct chp_buf *buf, const struct chp_uuid *operation,
                                     const char *site)
{
    chp_buf_clear(buf);
    chp_buf_add(buf, operation->bytes, sizeof operation->bytes);
    chp_buf_add_text(buf, site);
    return chp_buf_bytes(buf);
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

int mem__by_reply_number(const void *a, const void *b)
{
    uint64_t x = (*(const struct chp_reply_row *const *)a)->number;
    uint64_t y = (*(const struct chp_reply_row *const *)b)->number;
    return (x > y) - (x < y);
}

bool mem__may_forget(const void *row, const void *user)
{
    const struct mem_event *event = row;
    const struct mem_store *store = user;
    return event->number <= store->self.event_published && event->number < store->event_last;
}

const struct mem_execution *mem__execution(const struct mem_store *store,
                                           const struct chp_uuid *operation, const char *site)
{
    struct chp_buf name = {0};
    const struct mem_execution *row =
        chp_map_get(store->executions, mem__execution_name(&name, operation, site));
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

static bool batch_redots(const struct chp_batch *batch, const struct chp_uuid *operation)
{
    for (size_t i = 0; i < batch->write_count; i++) {
        if (batch->writes[i].kind == CHP_WRITE_REDOT &&
            chp_uuid_equal(&batch->writes[i].redot.operation, operation)) {
            return true;
        }
    }
    return false;
}

/* The dot is free, or that of the operation itself. */
static int check_dot(const struct mem_store *store, const struct chp_batch *batch,
                     const struct chp_uuid *id, const char *resource, const struct chp_dot *dot,
                     struct chp_error *error)
{
    struct chp_buf name = {0};
    const struct mem_operation *same = chp_map_get(
        store->dots, mem__name_of(&name, resource, dot->origin, dot->incarnation, dot->n));
    chp_buf_deinit(&name);
    if (same != NULL && !chp_uuid_equal(&same->operation.id, id) &&
        !batch_redots(batch, &same->operation.id)) {
        return chp_error_set(error, CHP_EINVAL, "store: another operation has this dot");
    }
    return 0;
}

static int check_operation(const struct mem_store *store, const struct chp_batch *batch,
                           const struct chp_operation *operation, struct chp_error *error)
{
    if (chp_map_get(store->resources, chp_bytes_of(operation->resource)) == NULL &&
        !batch_brings_resource(batch, operation->resource)) {
        return chp_error_set(error, CHP_EINVAL,
                             "store: an operation of a resource that is not there");
    }
    return check_dot(store, batch, &operation->id, operation->resource, &operation->dot, error);
}

static int check_redot(const struct mem_store *store, const struct chp_batch *batch,
                       const struct chp_write *write, struct chp_error *error)
{
    const struct mem_operation *row =
        chp_map_get(store->operations, mem__uuid_bytes(&write->redot.operation));
    if (row == NULL) {
        return 0;
    }
    struct chp_dot dot = row->operation.dot;
    dot.incarnation = write->redot.incarnation;
    dot.n = write->redot.n;
    return check_dot(store, batch, &row->operation.id, row->operation.resource, &dot, error);
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

static int check_reply(const struct mem_store *store, const struct chp_batch *batch,
                       const struct chp_write *write, struct chp_error *error)
{
    if (write->kind == CHP_WRITE_LISTENER) {
        return knows_operation(store, batch, &write->listener.operation)
                   ? 0
                   : chp_error_set(error, CHP_EINVAL,
                                   "store: a listener of an operation that is not there");
    }
    const uint64_t *number = &write->reply.number;
    bool taken = chp_map_get(store->replies, chp_bytes(number, sizeof *number)) != NULL;
    for (const struct chp_write *other = batch->writes; other < write; other++) {
        taken |= other->kind == CHP_WRITE_REPLY && other->reply.number == *number;
    }
    if (taken || *number == 0) {
        return chp_error_set(error, CHP_EINVAL, "store: a reply's number is taken or not one");
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
        } else if (write->kind == CHP_WRITE_REDOT) {
            code = check_redot(store, batch, write, error);
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
        } else if (write->kind == CHP_WRITE_REPLY || write->kind == CHP_WRITE_LISTENER) {
            code = check_reply(store, batch, write, error);
        }
        if (code != 0) {
            return code;
        }
    }
    return 0;
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

enum { MAPS = 13 };

static void all_maps(struct mem_store *store, struct chp_map **maps[MAPS])
{
    struct chp_map **const all[MAPS] = {&store->resources,  &store->operations, &store->dots,
                                        &store->executions, &store->outbound,   &store->streams,
                                        &store->events,     &store->keys,       &store->peers,
                                        &store->lost,       &store->listeners,  &store->replies,
                                        &store->undecoded};
    memcpy(maps, all, sizeof all);
}

static void store_free(struct chp_store *base)
{
    struct mem_store *store = from(base);
    CHP_LIST_FOREACH_SAFE(&store->queries, link, following)
    {
        query_free(CHP_CONTAINER(link, struct mem_query, link));
    }
    struct chp_map **maps[MAPS];
    all_maps(store, maps);
    for (size_t i = 0; i < MAPS; i++) {
        chp_map_free(*maps[i]);
    }
    if (--store->rows->stores == 0) {
        chp_arena_deinit(&store->rows->arena);
        free(store->rows);
    }
    free(store);
}

static const struct chp_store_vtable vtable = {
    .submit = submit, .query = query, .query_cancel = query_cancel, .up = up, .free = store_free};

static struct mem_store *store_new(const struct chp_store_callbacks *callbacks,
                                   struct mem_rows *rows)
{
    struct mem_store *store = chp_alloc(sizeof *store);
    store->store.vtable = &vtable;
    store->callbacks = *callbacks;
    store->is_up = true;
    store->announce = true;
    chp_list_init(&store->queries);
    store->rows = rows;
    rows->stores++;
    struct chp_map **maps[MAPS];
    all_maps(store, maps);
    for (size_t i = 0; i < MAPS; i++) {
        *maps[i] = chp_map_new(i);
    }
    return store;
}

struct chp_store *chp_mem_store_new(const struct chp_store_callbacks *callbacks)
{
    struct mem_store *store = store_new(callbacks, chp_alloc(sizeof(struct mem_rows)));
    chp_mem_store_set_database(&store->store, "1/1");
    return &store->store;
}

struct chp_store *chp_mem_store_snapshot(const struct chp_store *base)
{
    struct mem_store *store = from((struct chp_store *)base);
    struct mem_store *copy = store_new(&store->callbacks, store->rows);
    struct chp_map **maps[MAPS];
    struct chp_map **copies[MAPS];
    all_maps(store, maps);
    all_maps(copy, copies);
    for (size_t i = 0; i < MAPS; i++) {
        const void *cursor = NULL;
        struct chp_bytes name;
        void *row;
        while ((row = chp_map_next(*maps[i], &cursor, &name)) != NULL) {
            (void)chp_map_put(*copies[i], name, row);
        }
    }
    copy->self = store->self;
    copy->database = store->database;
    copy->arrival_last = store->arrival_last;
    copy->event_last = store->event_last;
    return &copy->store;
}

void chp_mem_store_set_database(struct chp_store *base, const char *database)
{
    struct mem_store *store = from(base);
    store->database = chp_arena_strdup(&store->rows->arena, database);
}

static void end_batch(struct mem_store *store)
{
    struct chp_batch *batch = store->batch;
    struct chp_error error = {0};
    store->batch = NULL;
    if (store->failing) {
        (void)chp_error_set(&error, CHP_EUNAVAILABLE, "the store is away");
    } else if (check(store, batch, &error) == 0) {
        mem__apply(store, batch);
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
            mem__apply(store, store->batch);
        }
        store->failing = true;
    }
    store->announce = false;
    (void)chp_error_set(&error, CHP_EUNAVAILABLE, "the store is away");
    store->callbacks.on_down(store->callbacks.user, &error);
}
