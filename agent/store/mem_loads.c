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

static int by_peer_site(const void *a, const void *b)
{
    return strcmp((*(const struct chp_peer_row *const *)a)->site,
                  (*(const struct chp_peer_row *const *)b)->site);
}

static uint64_t reply_last(const struct mem_store *store)
{
    size_t count;
    void **rows = mem__select(store->replies, NULL, NULL, mem__by_reply_number, &count);
    uint64_t last = count == 0 ? 0 : ((const struct chp_reply_row *)rows[count - 1])->number;
    free(rows);
    return last;
}

static int by_undecoded_arrival(const void *a, const void *b)
{
    uint64_t x = (*(const struct chp_undecoded_row *const *)a)->arrival;
    uint64_t y = (*(const struct chp_undecoded_row *const *)b)->arrival;
    return (x > y) - (x < y);
}

static bool is_after(const void *row, const void *user)
{
    return ((const struct chp_undecoded_row *)row)->arrival > *(const uint64_t *)user;
}

static void load_undecoded(const struct mem_store *store, struct chp_load *load,
                           struct chp_arena *arena)
{
    size_t count;
    void **rows =
        mem__select(store->undecoded, is_after, &load->after, by_undecoded_arrival, &count);
    load->undecoded.count = count < load->limit ? count : load->limit;
    load->found = load->undecoded.count > 0;
    load->undecoded.rows =
        chp_arena_calloc(arena, load->undecoded.count, sizeof *load->undecoded.rows);
    for (size_t i = 0; i < load->undecoded.count; i++) {
        load->undecoded.rows[i] = *(const struct chp_undecoded_row *)rows[i];
    }
    free(rows);
}

static int by_undecoded_site(const void *a, const void *b)
{
    return strcmp((*(const struct chp_undecoded_row *const *)a)->site,
                  (*(const struct chp_undecoded_row *const *)b)->site);
}

static void load_undecoded_totals(const struct mem_store *store, struct chp_load *load,
                                  struct chp_arena *arena)
{
    size_t count;
    void **rows = mem__select(store->undecoded, NULL, NULL, by_undecoded_site, &count);
    struct chp_undecoded_total *totals = chp_arena_calloc(arena, count, sizeof *totals);
    load->start.undecoded = totals;
    for (size_t i = 0; i < count; i++) {
        const struct chp_undecoded_row *row = rows[i];
        size_t last = load->start.undecoded_count;
        if (last == 0 || strcmp(totals[last - 1].site, row->site) != 0) {
            totals[last++].site = row->site;
            load->start.undecoded_count = last;
        }
        totals[last - 1].rows++;
        totals[last - 1].bytes += row->item.len;
    }
    free(rows);
}

static void load_start(const struct mem_store *store, struct chp_load *load,
                       struct chp_arena *arena)
{
    load->found = store->self.site != NULL;
    if (load->found) {
        load->start.site = store->self.site;
        load->start.incarnation = store->self.incarnation;
        load->start.event_last = store->event_last;
        load->start.event_published = store->self.event_published;
        load->start.received_last = store->arrival_last;
        load->start.serial = store->self.serial;
        load->start.database_known = store->self.database;
        load->start.reply_last = reply_last(store);
    }
    load->start.database = store->database;
    size_t count;
    void **rows = mem__select(store->peers, NULL, NULL, by_peer_site, &count);
    load->start.peer_count = count;
    load->start.peers = chp_arena_calloc(arena, count, sizeof *load->start.peers);
    for (size_t i = 0; i < count; i++) {
        load->start.peers[i] = *(const struct chp_peer_row *)rows[i];
    }
    free(rows);
    rows = mem__select(store->streams, NULL, NULL, mem__by_stream, &count);
    load->start.stream_count = count;
    load->start.streams = chp_arena_calloc(arena, count, sizeof *load->start.streams);
    for (size_t i = 0; i < count; i++) {
        load->start.streams[i] = *(const struct chp_stream_row *)rows[i];
    }
    free(rows);
    load_undecoded_totals(store, load, arena);
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
        filter->store->self.site == NULL) {
        return false;
    }
    const struct mem_execution *here =
        mem__execution(filter->store, &operation->operation.id, filter->store->self.site);
    return here != NULL && here->own && !chp_state_final(here->row.ack.state);
}

static void load_pending(const struct mem_store *store, struct chp_load *load,
                         struct chp_arena *arena)
{
    struct pending_filter filter = {.store = store, .resource = load->resource};
    size_t count;
    void **rows = mem__select(store->operations, is_pending, &filter, mem__by_arrival, &count);
    load->resource_result.pending_total = count;
    load->resource_result.pending_count = count < load->limit ? count : load->limit;
    load->resource_result.pending = chp_arena_calloc(arena, load->resource_result.pending_count,
                                                     sizeof *load->resource_result.pending);
    for (size_t i = 0; i < load->resource_result.pending_count; i++) {
        const struct mem_operation *operation = rows[i];
        const struct mem_execution *here =
            mem__execution(store, &operation->operation.id, store->self.site);
        load->resource_result.pending[i] =
            (struct chp_pending_row){.operation = &operation->operation,
                                     .item = operation->item,
                                     .arrival = operation->arrival,
                                     .state = here->row.ack.state,
                                     .run = here->row.ack.run,
                                     .incarnation = here->row.ack.incarnation};
    }
    free(rows);
}

static bool is_operation_of(const void *row, const void *user)
{
    return strcmp(((const struct mem_operation *)row)->operation.resource, user) == 0;
}

static bool failed_everywhere(const struct mem_store *store, const struct mem_operation *row)
{
    for (size_t i = 0; i < row->operation.member_count; i++) {
        const struct mem_execution *there =
            mem__execution(store, &row->operation.id, row->operation.members[i]);
        if (there != NULL && there->row.ack.state != CHP_STATE_FAILED) {
            return false;
        }
    }
    return row->completed && row->failed;
}

static bool done_elsewhere(const struct mem_store *store, const struct chp_operation *operation)
{
    for (size_t i = 0; i < operation->member_count; i++) {
        const struct mem_execution *there =
            mem__execution(store, &operation->id, operation->members[i]);
        if (there != NULL && !there->own && there->row.ack.state == CHP_STATE_DONE) {
            return true;
        }
    }
    return false;
}

static void load_history(const struct mem_store *store, struct chp_load *load,
                         struct chp_arena *arena)
{
    size_t count;
    void **rows =
        mem__select(store->operations, is_operation_of, load->resource, mem__by_arrival, &count);
    load->resource_result.history_count = count;
    load->resource_result.history =
        chp_arena_calloc(arena, count, sizeof *load->resource_result.history);
    for (size_t i = 0; i < count; i++) {
        const struct mem_operation *operation = rows[i];
        const struct mem_execution *here =
            store->self.site == NULL
                ? NULL
                : mem__execution(store, &operation->operation.id, store->self.site);
        struct chp_history_row *row = &load->resource_result.history[i];
        *row = (struct chp_history_row){.operation = &operation->operation,
                                        .item = operation->item,
                                        .arrival = operation->arrival,
                                        .completed = operation->completed,
                                        .failed_everywhere = failed_everywhere(store, operation),
                                        .executes = here != NULL};
        if (here != NULL) {
            row->state = here->row.ack.state;
            row->run = here->row.ack.run;
            row->incarnation = here->row.ack.incarnation;
            row->effect = here->row.effect;
            row->undoing = here->row.undoing;
            row->done_elsewhere =
                (row->state == CHP_STATE_FAILED || row->state == CHP_STATE_REFUSED) &&
                done_elsewhere(store, &operation->operation);
        }
    }
    free(rows);
}

static void load_resource(const struct mem_store *store, struct chp_load *load,
                          struct chp_arena *arena)
{
    const struct chp_resource_row *row =
        chp_map_get(store->resources, chp_bytes_of(load->resource));
    load->found = row != NULL;
    if (row == NULL) {
        return;
    }
    load->resource_result.row = *row;
    if (row->level == CHP_LEVEL_NONE) {
        load_pending(store, load, arena);
    } else {
        load_history(store, load, arena);
    }
}

static void load_key(const struct mem_store *store, struct chp_load *load)
{
    struct chp_buf name = {0};
    const struct mem_key *key =
        chp_map_get(store->keys, mem__name_of(&name, load->principal, load->key, 0, 0));
    chp_buf_deinit(&name);
    load->resource_result.key_found = key != NULL;
    if (key != NULL) {
        const struct chp_resource_row *row =
            chp_map_get(store->resources, chp_bytes_of(load->resource));
        load->resource_result.key_hash = key->hash;
        load->resource_result.key_operation = key->operation;
        load->found = row != NULL;
        if (row != NULL) {
            load->resource_result.row = *row;
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
        if ((pending > 0 || row->unsettled || row->degraded) &&
            strcmp(row->id, load->resource) > 0) {
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

static int by_place(const void *a, const void *b)
{
    uint64_t x = (*(const struct mem_listener *const *)a)->place;
    uint64_t y = (*(const struct mem_listener *const *)b)->place;
    return (x > y) - (x < y);
}

static bool is_listener_of(const void *row, const void *user)
{
    return chp_uuid_equal(&((const struct mem_listener *)row)->operation, user);
}

static void load_listeners(const struct mem_store *store, struct chp_load *load,
                           const struct mem_operation *operation, struct chp_arena *arena)
{
    size_t count;
    void **rows = mem__select(store->listeners, is_listener_of, &load->operation, by_place, &count);
    struct chp_listener *listeners = chp_arena_calloc(arena, count + 1, sizeof *listeners);
    load->operation_result.listeners = listeners;
    if (operation->reply_to != NULL) {
        listeners[load->operation_result.listener_count++] = (struct chp_listener){
            .reply_to = operation->reply_to,
            .correlation_id = operation->correlation_id == NULL ? "" : operation->correlation_id};
    }
    for (size_t i = count > CHP_LISTENERS_MAX ? count - CHP_LISTENERS_MAX : 0; i < count; i++) {
        const struct mem_listener *row = rows[i];
        listeners[load->operation_result.listener_count++] = row->to;
        load->operation_result.listener_place = row->place;
    }
    free(rows);
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
        load->operation_result.completed = operation->completed;
        load_listeners(store, load, operation, arena);
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

static const struct chp_execution_row *execution_at(const struct mem_store *store,
                                                    const struct chp_uuid *operation,
                                                    const char *site)
{
    const struct mem_execution *execution =
        site == NULL ? NULL : mem__execution(store, operation, site);
    return execution == NULL ? NULL : &execution->row;
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
            operation = chp_map_get(store->operations, mem__uuid_bytes(&waiting->operation));
        } else {
            item->number = operation->operation.dot.n;
            item->theirs = execution_at(store, &operation->operation.id, load->site);
            item->own = execution_at(store, &operation->operation.id, store->self.site);
        }
        if (operation != NULL) {
            item->operation = operation->operation.id;
            item->item = operation->item;
        }
    }
    load->found = load->items.count > 0;
    free(rows);
}

static bool is_reply_for(const void *row, const void *user)
{
    const struct chp_reply_row *reply = row;
    const struct chp_load *load = user;
    bool left_out = reply->number <= load->after;
    for (size_t i = 0; i < load->id_count; i++) {
        left_out |= strcmp(reply->to.reply_to, load->ids[i]) == 0;
    }
    return !left_out;
}

static void load_oldest(const struct mem_store *store, struct chp_load *load)
{
    const void *cursor = NULL;
    struct chp_bytes name;
    const struct mem_key *key;
    size_t count;
    load->found = true;
    load->oldest.key_ms = load->oldest.reply_ms = load->oldest.event_ms = UINT64_MAX;
    while ((key = chp_map_next(store->keys, &cursor, &name)) != NULL) {
        load->oldest.key_ms = key->at_ms < load->oldest.key_ms ? key->at_ms : load->oldest.key_ms;
    }
    void **rows = mem__select(store->replies, NULL, NULL, mem__by_reply_number, &count);
    if (count > 0) {
        load->oldest.reply_ms = ((const struct chp_reply_row *)rows[0])->at_ms;
    }
    free(rows);
    rows = mem__select(store->events, mem__may_forget, store, mem__by_number, &count);
    if (count > 0) {
        load->oldest.event_ms = ((const struct mem_event *)rows[0])->at_ms;
    }
    free(rows);
}

static void load_replies(const struct mem_store *store, struct chp_load *load,
                         struct chp_arena *arena)
{
    size_t count;
    void **rows = mem__select(store->replies, is_reply_for, load, mem__by_reply_number, &count);
    load->replies.count = count < load->limit ? count : load->limit;
    load->replies.rows = chp_arena_calloc(arena, load->replies.count, sizeof *load->replies.rows);
    for (size_t i = 0; i < load->replies.count; i++) {
        load->replies.rows[i] = *(const struct chp_reply_row *)rows[i];
    }
    load->found = load->replies.count > 0;
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

static void add_vector(struct chp_load *load, const struct chp_resource_row *resource)
{
    load->vectors.rows[load->vectors.count++] =
        (struct chp_vector_row){.resource = resource->id, .vector = resource->vector};
}

static int by_resource(const void *a, const void *b)
{
    return strcmp(((const struct chp_vector_row *)a)->resource,
                  ((const struct chp_vector_row *)b)->resource);
}

static void sort_vectors(struct chp_load *load)
{
    qsort(load->vectors.rows, load->vectors.count, sizeof *load->vectors.rows, by_resource);
    load->found = load->vectors.count > 0;
}

static bool is_reported(const struct mem_store *store, const struct chp_load *load,
                        const struct mem_operation *operation,
                        const struct chp_resource_row *resource)
{
    const char *origin = operation->operation.dot.origin;
    bool member = false;
    for (size_t i = 0; i < resource->member_count; i++) {
        member |= strcmp(resource->members[i], load->site) == 0;
    }
    for (size_t i = 0; i < load->vectors.count; i++) {
        member &= strcmp(load->vectors.rows[i].resource, resource->id) != 0;
    }
    return member &&
           (load->all || (strcmp(origin, load->site) != 0 &&
                          (store->self.site == NULL || strcmp(origin, store->self.site) != 0)));
}

static bool arrived_after(const void *row, const void *user)
{
    return ((const struct mem_operation *)row)->arrival > ((const struct chp_load *)user)->after;
}

static void load_report(const struct mem_store *store, struct chp_load *load,
                        struct chp_arena *arena)
{
    CHP_ASSERT(load->limit > 0 && load->limit <= CHP_REPORT_ENTRIES_MAX);
    size_t count;
    void **rows = mem__select(store->operations, arrived_after, load, mem__by_arrival, &count);
    size_t looked = count < load->limit ? count : load->limit;
    load->vectors.rows = chp_arena_calloc(arena, looked, sizeof *load->vectors.rows);
    load->vectors.upto = load->after;
    load->vectors.end = count < load->limit;
    for (size_t i = 0; i < looked; i++) {
        const struct mem_operation *operation = rows[i];
        const struct chp_resource_row *resource =
            chp_map_get(store->resources, chp_bytes_of(operation->operation.resource));
        load->vectors.upto = operation->arrival;
        if (is_reported(store, load, operation, resource)) {
            add_vector(load, resource);
        }
    }
    sort_vectors(load);
    free(rows);
}

static void load_vectors(const struct mem_store *store, struct chp_load *load,
                         struct chp_arena *arena)
{
    load->vectors.rows = chp_arena_calloc(arena, load->id_count, sizeof *load->vectors.rows);
    for (size_t i = 0; i < load->id_count; i++) {
        const struct chp_resource_row *resource =
            chp_map_get(store->resources, chp_bytes_of(load->ids[i]));
        if (resource != NULL) {
            add_vector(load, resource);
        }
    }
    sort_vectors(load);
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
    case CHP_LOAD_KEY:
        load_key(store, load);
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
    case CHP_LOAD_UNDECODED:
        load_undecoded(store, load, arena);
        break;
    case CHP_LOAD_EVENTS:
        load_events(store, load, arena);
        break;
    case CHP_LOAD_OLDEST:
        load_oldest(store, load);
        break;
    case CHP_LOAD_REPLIES:
        load_replies(store, load, arena);
        break;
    case CHP_LOAD_REPORT:
        load_report(store, load, arena);
        break;
    case CHP_LOAD_VECTORS:
        load_vectors(store, load, arena);
        break;
    }
}
