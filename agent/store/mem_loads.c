/* SPDX-License-Identifier: AGPL-3.0-only */
/* What the twin answers to a batch's loads. Rows live as long as the store, so that results may
 * point to them. */
#include "store/mem_internal.h"

#include <stdlib.h>
#include <string.h>

static int by_outbound_number(const void *a, const void *b)
{
    uint64_t x = (*(const struct mem_outbound *const *)a)->number;
    uint64_t y = (*(const struct mem_outbound *const *)b)->number;
    return (x > y) - (x < y);
}

static int by_n(const void *a, const void *b)
{
    uint64_t x = (*(const struct mem_operation *const *)a)->operation.dot.n;
    uint64_t y = (*(const struct mem_operation *const *)b)->operation.dot.n;
    return (x > y) - (x < y);
}

static void load_start(const struct mem_store *store, struct chp_load *load,
                       struct chp_arena *arena)
{
    load->found = store->site != NULL;
    if (load->found) {
        load->start.site = store->site;
        load->start.incarnation = store->incarnation;
        load->start.event_last = store->event_last;
        load->start.event_published = store->event_published;
        load->start.received_last = store->arrival_last;
    }
    size_t count;
    void **rows = mem__select(store->streams, NULL, NULL, mem__by_stream, &count);
    load->start.stream_count = count;
    load->start.streams = chp_arena_calloc(arena, count, sizeof *load->start.streams);
    for (size_t i = 0; i < count; i++) {
        load->start.streams[i] = *(const struct chp_stream_row *)rows[i];
    }
    free(rows);
}

struct pending_filter {
    const struct mem_store *store;
    const char *resource;
};

static bool is_pending(const void *row, const void *user)
{
    const struct mem_operation *operation = row;
    const struct pending_filter *filter = user;
    if (strcmp(operation->operation.resource, filter->resource) != 0 ||
        filter->store->site == NULL) {
        return false;
    }
    const struct mem_execution *here =
        mem__execution(filter->store, &operation->operation.id, filter->store->site);
    return here != NULL && here->own && !chp_state_final(here->row.ack.state);
}

static void load_resource(const struct mem_store *store, struct chp_load *load,
                          struct chp_arena *arena)
{
    const struct chp_resource_row *row =
        chp_map_get(store->resources, chp_bytes_of(load->resource));
    load->found = row != NULL;
    if (row != NULL) {
        load->resource_result.row = *row;
        struct pending_filter filter = {.store = store, .resource = load->resource};
        size_t count;
        void **rows = mem__select(
            store->operations, is_pending, &filter,
            row->level == CHP_LEVEL_NONE ? mem__by_arrival : mem__by_arbitration, &count);
        load->resource_result.pending_total = count;
        load->resource_result.pending_count = count < load->limit ? count : load->limit;
        load->resource_result.pending = chp_arena_calloc(arena, load->resource_result.pending_count,
                                                         sizeof *load->resource_result.pending);
        for (size_t i = 0; i < load->resource_result.pending_count; i++) {
            const struct mem_operation *operation = rows[i];
            const struct mem_execution *here =
                mem__execution(store, &operation->operation.id, store->site);
            load->resource_result.pending[i] =
                (struct chp_pending_row){.operation = &operation->operation,
                                         .item = operation->item,
                                         .arrival = operation->arrival,
                                         .state = here->row.ack.state,
                                         .run = here->row.ack.run};
        }
        free(rows);
    }
    if (load->key != NULL) {
        struct chp_buf name = {0};
        const struct mem_key *key =
            chp_map_get(store->keys, mem__name_of(&name, load->principal, load->key, 0, 0));
        chp_buf_deinit(&name);
        load->resource_result.key_found = key != NULL;
        if (key != NULL) {
            load->resource_result.key_hash = key->hash;
            load->resource_result.key_operation = key->operation;
        }
    }
}

static void load_busy(const struct mem_store *store, struct chp_load *load, struct chp_arena *arena)
{
    size_t count;
    void **rows = mem__select(store->resources, NULL, NULL, mem__by_id, &count);
    load->busy.ids = chp_arena_calloc(arena, count, sizeof *load->busy.ids);
    for (size_t i = 0; i < count && load->busy.count < load->limit; i++) {
        const struct chp_resource_row *row = rows[i];
        struct pending_filter filter = {.store = store, .resource = row->id};
        size_t pending;
        free(mem__select(store->operations, is_pending, &filter, mem__by_arrival, &pending));
        if (pending > 0 && strcmp(row->id, load->resource) > 0) {
            load->busy.ids[load->busy.count++] = row->id;
        }
    }
    load->found = load->busy.count > 0;
    free(rows);
}

static bool is_execution_of(const void *row, const void *user)
{
    return chp_uuid_equal(&((const struct mem_execution *)row)->row.ack.operation, user);
}

static void load_operation(const struct mem_store *store, struct chp_load *load,
                           struct chp_arena *arena)
{
    const struct mem_operation *operation =
        chp_map_get(store->operations, mem__uuid_bytes(&load->operation));
    size_t count;
    void **rows =
        mem__select(store->executions, is_execution_of, &load->operation, mem__by_site, &count);
    load->found = operation != NULL;
    if (operation != NULL) {
        load->operation_result.row = chp_arena_alloc(arena, sizeof operation->operation);
        *load->operation_result.row = operation->operation;
        load->operation_result.item = operation->item;
        load->operation_result.reply_to = operation->reply_to;
        load->operation_result.correlation_id = operation->correlation_id;
        load->operation_result.completed = operation->completed;
    }
    load->operation_result.execution_count = count;
    load->operation_result.executions =
        chp_arena_calloc(arena, count, sizeof *load->operation_result.executions);
    for (size_t i = 0; i < count; i++) {
        load->operation_result.executions[i] = ((const struct mem_execution *)rows[i])->row;
    }
    free(rows);
}

static bool is_outbound_of(const void *row, const void *user)
{
    const struct mem_outbound *outbound = row;
    const struct chp_load *load = user;
    return outbound->key == load->stream_key && outbound->number > load->after &&
           strcmp(outbound->site, load->site) == 0;
}

static bool is_in_range(const void *row, const void *user)
{
    const struct chp_operation *operation = &((const struct mem_operation *)row)->operation;
    const struct chp_load *load = user;
    return strcmp(operation->resource, load->resource) == 0 &&
           strcmp(operation->dot.origin, load->range.origin) == 0 &&
           operation->dot.incarnation == load->range.incarnation &&
           operation->dot.n >= load->range.first && operation->dot.n <= load->range.last;
}

static void load_items(const struct mem_store *store, struct chp_load *load,
                       struct chp_arena *arena)
{
    bool outbound = load->kind == CHP_LOAD_OUTBOUND;
    size_t count;
    void **rows =
        outbound ? mem__select(store->outbound, is_outbound_of, load, by_outbound_number, &count)
                 : mem__select(store->operations, is_in_range, load, by_n, &count);
    load->items.count = count < load->limit ? count : load->limit;
    load->items.rows = chp_arena_calloc(arena, load->items.count, sizeof *load->items.rows);
    for (size_t i = 0; i < load->items.count; i++) {
        const struct mem_operation *operation = rows[i];
        struct chp_item_row *item = &load->items.rows[i];
        if (outbound) {
            const struct mem_outbound *waiting = rows[i];
            item->number = waiting->number;
            item->item = waiting->item;
            operation = waiting->operation;
        } else {
            item->number = operation->operation.dot.n;
        }
        if (operation != NULL) {
            item->operation = operation->operation.id;
            item->item = operation->item;
        }
    }
    load->found = load->items.count > 0;
    free(rows);
}

static void load_events(const struct mem_store *store, struct chp_load *load,
                        struct chp_arena *arena)
{
    size_t count;
    void **rows = mem__select(store->events, NULL, NULL, mem__by_number, &count);
    load->events.rows = chp_arena_calloc(arena, count, sizeof *load->events.rows);
    for (size_t i = 0; i < count && load->events.count < load->limit; i++) {
        const struct mem_event *event = rows[i];
        if (event->number > load->after) {
            load->events.rows[load->events.count++] =
                (struct chp_event_row){.number = event->number,
                                       .at_ms = event->at_ms,
                                       .kind = event->kind,
                                       .json = event->json};
        }
    }
    load->found = load->events.count > 0;
    free(rows);
}

void mem__load(const struct mem_store *store, struct chp_load *load, struct chp_arena *arena)
{
    switch (load->kind) {
    case CHP_LOAD_START:
        load_start(store, load, arena);
        break;
    case CHP_LOAD_RESOURCE:
        load_resource(store, load, arena);
        break;
    case CHP_LOAD_BUSY:
        load_busy(store, load, arena);
        break;
    case CHP_LOAD_OPERATION:
        load_operation(store, load, arena);
        break;
    case CHP_LOAD_OUTBOUND:
    case CHP_LOAD_RANGE:
        load_items(store, load, arena);
        break;
    case CHP_LOAD_EVENTS:
        load_events(store, load, arena);
        break;
    case CHP_LOAD_REPORT:
    case CHP_LOAD_VECTORS:
        break;
    }
}
