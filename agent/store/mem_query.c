/* SPDX-License-Identifier: AGPL-3.0-only */
/* The twin's answers to doors: the objects of schema/002_answers.sql. */
#include "store/mem_internal.h"

#include "base/clock.h"
#include "store/query_params.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static json_t *time_json(uint64_t ms)
{
    char text[CHP_TIME_TEXT_BYTES];
    if (ms == 0) {
        return json_null();
    }
    chp_clock_format(ms, text);
    return json_string(text);
}

static json_t *text_json(const char *text)
{
    return text == NULL ? json_null() : json_string(text);
}

static json_t *uuid_json(const struct chp_uuid *uuid)
{
    char text[CHP_UUID_TEXT_BYTES];
    chp_uuid_format(uuid, text);
    return json_string(text);
}

static json_t *names_json(const char *const *names, size_t count)
{
    json_t *array = json_array();
    for (size_t i = 0; i < count; i++) {
        (void)json_array_append_new(array, json_string(names[i]));
    }
    return array;
}

static json_t *base64_json(struct chp_bytes bytes)
{
    struct chp_buf text = {0};
    for (size_t i = 0; i < bytes.len; i += 3) {
        uint32_t group = (uint32_t)bytes.data[i] << 16;
        group |= i + 1 < bytes.len ? (uint32_t)bytes.data[i + 1] << 8 : 0;
        group |= i + 2 < bytes.len ? bytes.data[i + 2] : 0;
        chp_buf_add_byte(&text, (uint8_t)base64_digits[group >> 18]);
        chp_buf_add_byte(&text, (uint8_t)base64_digits[group >> 12 & 63]);
        chp_buf_add_byte(&text, i + 1 < bytes.len ? (uint8_t)base64_digits[group >> 6 & 63] : '=');
        chp_buf_add_byte(&text, i + 2 < bytes.len ? (uint8_t)base64_digits[group & 63] : '=');
    }
    json_t *json = json_string(chp_buf_text(&text));
    chp_buf_deinit(&text);
    return json;
}

/* Queued, and the site's mark has passed it: delivered. */
static enum chp_state shown_state(const struct mem_store *store,
                                  const struct mem_execution *execution)
{
    const struct chp_execution_row *row = &execution->row;
    if (row->ack.state != CHP_STATE_QUEUED || execution->own || row->number == 0) {
        return row->ack.state;
    }
    struct chp_buf name = {0};
    const struct chp_stream_row *stream = chp_map_get(
        store->streams, mem__name_of(&name, row->ack.site, chp_key_name(CHP_KEY_OPERATION), true,
                                     store->self.incarnation));
    chp_buf_deinit(&name);
    return stream != NULL && row->number <= stream->mark ? CHP_STATE_DELIVERED : CHP_STATE_QUEUED;
}

static json_t *site_json(const struct chp_execution_row *row, enum chp_state state)
{
    const struct chp_ack *ack = &row->ack;
    bool is_text = chp_utf8_valid(ack->output.data, ack->output.len);
    struct chp_buf text = {0};
    chp_buf_add_utf8_lossy(&text, ack->output.data, ack->output.len);
    json_t *json =
        json_pack("{s:s,s:s,s:I,s:i,s:s,s:b,s:o,s:b,s:o,s:I,s:I}", "site", ack->site, "state",
                  chp_state_name(state), "run", (json_int_t)ack->run, "exit_code",
                  (int)ack->exit_code, "output", chp_buf_text(&text), "output_cut", ack->output_cut,
                  "reason", text_json(ack->reason), "unverified", ack->unverified, "started_at",
                  time_json(ack->started_ms), "duration_ms", (json_int_t)ack->duration_ms,
                  "elapsed_ms", (json_int_t)row->elapsed_ms);
    if (!is_text) {
        (void)json_object_set_new(json, "output_base64", base64_json(ack->output));
    }
    chp_buf_deinit(&text);
    return json;
}

static int rank(enum chp_state state)
{
    switch (state) {
    case CHP_STATE_ACCEPTED:
    case CHP_STATE_QUEUED:
    case CHP_STATE_DELIVERED:
    case CHP_STATE_RUNNING:
        return (int)state;
    case CHP_STATE_IN_DOUBT:
        return CHP_STATE_RUNNING + 1;
    case CHP_STATE_FAILED:
    case CHP_STATE_REFUSED:
    case CHP_STATE_SUPERSEDED:
    case CHP_STATE_VOIDED:
    case CHP_STATE_EXPIRED:
        return CHP_STATE_RUNNING + 2;
    case CHP_STATE_DONE:
        return CHP_STATE_RUNNING + 3;
    }
    return 0;
}

static bool is_execution_of(const void *row, const void *user)
{
    return chp_uuid_equal(&((const struct mem_execution *)row)->row.ack.operation, user);
}

/* The sites' parts, and in *whole the state of the whole. */
static json_t *sites_json(const struct mem_store *store, const struct mem_operation *operation,
                          enum chp_state *whole)
{
    json_t *sites = json_array();
    size_t count;
    void **rows = mem__select(store->executions, is_execution_of, &operation->operation.id,
                              mem__by_site, &count);
    *whole = CHP_STATE_ACCEPTED;
    for (size_t i = 0; i < count; i++) {
        const struct mem_execution *execution = rows[i];
        enum chp_state state = shown_state(store, execution);
        if (i == 0 || rank(state) < rank(*whole)) {
            *whole = state;
        }
        (void)json_array_append_new(sites, site_json(&execution->row, state));
    }
    free(rows);
    return sites;
}

static json_t *files_json(const struct chp_operation *operation)
{
    json_t *files = json_array();
    for (size_t i = 0; i < operation->file_count; i++) {
        char sha256[CHP_SHA256_TEXT_BYTES];
        chp_sha256_format(&operation->files[i].sha256, sha256);
        (void)json_array_append_new(files, json_pack("{s:s,s:s,s:I}", "name",
                                                     operation->files[i].name, "sha256", sha256,
                                                     "size", (json_int_t)operation->files[i].size));
    }
    return files;
}

static json_t *operation_json(const struct mem_store *store, const struct mem_operation *row)
{
    const struct chp_operation *operation = &row->operation;
    enum chp_state whole;
    json_t *sites = sites_json(store, row, &whole);
    return json_pack(
        "{s:o,s:s,s:s,s:s,s:s,s:s,s:{s:s,s:I,s:I},s:{s:I,s:I},s:b,s:s,s:s,s:s,s:o,s:o,s:b,s:s,s:o,"
        "s:o}",
        "id", uuid_json(&operation->id), "resource", operation->resource, "type", operation->type,
        "level", chp_level_name(operation->level), "scope", operation->scope, "origin",
        operation->dot.origin, "dot", "origin", operation->dot.origin, "incarnation",
        (json_int_t)operation->dot.incarnation, "n", (json_int_t)operation->dot.n, "stamp", "ms",
        (json_int_t)operation->stamp.ms, "counter", (json_int_t)operation->stamp.counter,
        "clock_suspect", row->clock_suspect, "principal", operation->principal, "driver",
        operation->driver, "summary", operation->summary, "files", files_json(operation),
        "entered_at", time_json(operation->entered_ms), "completed", row->completed, "state",
        chp_state_name(whole), "members", names_json(operation->members, operation->member_count),
        "sites", sites);
}

static char *dump(json_t *json)
{
    char *text = json_dumps(json, JSON_COMPACT);
    CHP_ASSERT(text != NULL);
    json_decref(json);
    return text;
}

static char *answer_operation(const struct mem_store *store, const char *id)
{
    struct chp_uuid uuid;
    int code = chp_uuid_parse(id, &uuid);
    CHP_ASSERT(code == 0);
    const struct mem_operation *row = chp_map_get(store->operations, mem__uuid_bytes(&uuid));
    return row == NULL ? NULL : dump(operation_json(store, row));
}

static bool in_state(const struct mem_store *store, const struct mem_operation *row,
                     const char *site, const char *state)
{
    enum chp_state shown;
    if (site[0] == 0) {
        json_decref(sites_json(store, row, &shown));
    } else {
        const struct mem_execution *there = mem__execution(store, &row->operation.id, site);
        if (there == NULL) {
            return false;
        }
        shown = shown_state(store, there);
    }
    return state[0] == 0 || strcmp(chp_state_name(shown), state) == 0;
}

/* Whether a row belongs to a page of these filters. */
static bool wanted(const struct mem_store *store, const struct mem_operation *row,
                   char *const *params, const struct mem_operation *before)
{
    return (params[0][0] == 0 || strcmp(row->operation.resource, params[0]) == 0) &&
           in_state(store, row, params[4], params[1]) &&
           (before == NULL || row->arrival < before->arrival);
}

static char *answer_operations(const struct mem_store *store, char *const *params)
{
    struct chp_uuid uuid;
    const struct mem_operation *before = NULL;
    size_t limit = strtoul(params[3], NULL, 10);
    size_t count;
    json_t *operations = json_array();
    void **rows = mem__select(store->operations, NULL, NULL, mem__by_arrival, &count);
    if (params[2][0] != 0) {
        int code = chp_uuid_parse(params[2], &uuid);
        CHP_ASSERT(code == 0);
        before = chp_map_get(store->operations, mem__uuid_bytes(&uuid));
        count = before == NULL ? 0 : count; /* nothing is before what is not there */
    }
    for (size_t i = count; i > 0 && json_array_size(operations) < limit; i--) {
        if (wanted(store, rows[i - 1], params, before)) {
            (void)json_array_append_new(operations, operation_json(store, rows[i - 1]));
        }
    }
    free(rows);
    return dump(json_pack("{s:o}", "operations", operations));
}

static bool is_operation_of(const void *row, const void *user)
{
    return strcmp(((const struct mem_operation *)row)->operation.resource, user) == 0;
}

static void **sequence(const struct mem_store *store, const struct chp_resource_row *resource,
                       size_t *count)
{
    return mem__select(store->operations, is_operation_of, resource->id,
                       resource->level == CHP_LEVEL_NONE ? mem__by_arrival : mem__by_arbitration,
                       count);
}

static const char *resource_state(const struct mem_store *store, const struct chp_resource_row *row,
                                  void *const *rows, size_t count)
{
    bool busy = row->unsettled;
    for (size_t i = 0; i < count && store->self.site != NULL; i++) {
        const struct mem_operation *operation = rows[i];
        const struct mem_execution *here =
            mem__execution(store, &operation->operation.id, store->self.site);
        if (here == NULL || !here->own) {
            continue;
        }
        if (here->row.ack.state == CHP_STATE_IN_DOUBT) {
            return "in-doubt";
        }
        busy |= !chp_state_final(here->row.ack.state);
    }
    return row->diverged != NULL ? "diverged"
           : busy                ? "busy"
           : row->degraded       ? "degraded"
           : row->deleted        ? "deleted"
           : row->order_assumed  ? "order-assumed"
                                 : "ready";
}

static json_t *resource_json(const struct mem_store *store, const struct chp_resource_row *row)
{
    size_t count;
    void **rows = sequence(store, row, &count);
    const struct mem_operation *last = count == 0 ? NULL : rows[count - 1];
    json_t *json = json_pack(
        "{s:s,s:s,s:s,s:o,s:o,s:I,s:o,s:{s:s?},s:b,s:I,s:o,s:s,s:s?}", "id", row->id, "level",
        chp_level_name(row->level), "scope", row->scope, "members",
        names_json(row->members, row->member_count), "config",
        row->config == NULL ? json_null() : json_loads(row->config, 0, NULL), "config_version",
        (json_int_t)row->config_version, "created_at", time_json(row->created_ms), "created_by",
        "origin", row->created_origin, "merged", row->merged, "operations", (json_int_t)count,
        "last_operation", last == NULL ? json_null() : uuid_json(&last->operation.id), "state",
        resource_state(store, row, rows, count), "diverged", row->diverged);
    free(rows);
    return json;
}

static char *answer_resources(const struct mem_store *store, char *const *params)
{
    size_t limit = strtoul(params[1], NULL, 10);
    size_t count;
    json_t *resources = json_array();
    void **rows = mem__select(store->resources, NULL, NULL, mem__by_id, &count);
    for (size_t i = 0; i < count && json_array_size(resources) < limit; i++) {
        const struct chp_resource_row *row = rows[i];
        if (strcmp(row->id, params[0]) > 0) {
            (void)json_array_append_new(resources, resource_json(store, row));
        }
    }
    free(rows);
    return dump(json_pack("{s:o}", "resources", resources));
}

static char *answer_history(const struct mem_store *store, char *const *params)
{
    const struct chp_resource_row *resource =
        chp_map_get(store->resources, chp_bytes_of(params[0]));
    if (resource == NULL) {
        return NULL;
    }
    size_t limit = strtoul(params[1], NULL, 10);
    size_t count;
    json_t *operations = json_array();
    void **rows = sequence(store, resource, &count);
    for (size_t i = count > limit ? count - limit : 0; i < count; i++) {
        (void)json_array_append_new(operations, operation_json(store, rows[i]));
    }
    free(rows);
    return dump(json_pack("{s:o}", "operations", operations));
}

static char *answer_events(const struct mem_store *store, char *const *params)
{
    uint64_t last = strtoull(params[0], NULL, 10);
    size_t limit = strtoul(params[1], NULL, 10);
    size_t count;
    json_t *events = json_array();
    void **rows = mem__select(store->events, NULL, NULL, mem__by_number, &count);
    for (size_t i = 0; i < count && json_array_size(events) < limit; i++) {
        const struct mem_event *event = rows[i];
        if (event->number > last) {
            (void)json_array_append_new(events, json_loads(event->json, 0, NULL));
            last = event->number;
        }
    }
    uint64_t oldest = count == 0 ? 0 : ((const struct mem_event *)rows[0])->number;
    free(rows);
    return dump(json_pack("{s:o,s:I,s:I}", "events", events, "last", (json_int_t)last, "oldest",
                          (json_int_t)oldest));
}

static json_t *oldest_json(const struct mem_store *store, const char *site)
{
    uint64_t oldest_ms = 0;
    const void *cursor = NULL;
    struct chp_bytes name;
    const struct mem_outbound *waiting;
    while ((waiting = chp_map_next(store->outbound, &cursor, &name)) != NULL) {
        if (strcmp(waiting->site, site) == 0 &&
            (oldest_ms == 0 || waiting->queued_ms < oldest_ms)) {
            oldest_ms = waiting->queued_ms;
        }
    }
    return time_json(oldest_ms);
}

/* rows are sorted: a later incarnation of the same stream comes later and replaces. */
static char *answer_sites(const struct mem_store *store)
{
    json_t *sites = json_array();
    json_t *site = NULL;
    size_t count;
    void **rows = mem__select(store->streams, NULL, NULL, mem__by_stream, &count);
    for (size_t i = 0; i < count; i++) {
        const struct chp_stream_row *row = rows[i];
        if (row->out && row->incarnation != store->self.incarnation) {
            continue;
        }
        if (site == NULL ||
            strcmp(json_string_value(json_object_get(site, "site")), row->site) != 0) {
            site = json_pack("{s:s,s:I,s:o,s:{s:{},s:{}}}", "site", row->site, "waiting",
                             (json_int_t)0, "oldest_at", oldest_json(store, row->site), "marks",
                             "out", "in");
            (void)json_array_append_new(sites, site);
        }
        json_t *marks = json_object_get(json_object_get(site, "marks"), row->out ? "out" : "in");
        (void)json_object_set_new(marks, chp_key_name(row->key),
                                  json_integer((json_int_t)row->mark));
        if (row->out) {
            json_t *waiting = json_object_get(site, "waiting");
            (void)json_integer_set(waiting, json_integer_value(waiting) +
                                                (json_int_t)(row->last - row->mark));
        }
    }
    free(rows);
    return dump(sites);
}

static char *answer_status(const struct mem_store *store)
{
    size_t count;
    json_int_t busy = 0;
    void **rows = mem__select(store->resources, NULL, NULL, mem__by_id, &count);
    for (size_t i = 0; i < count; i++) {
        size_t operations;
        void **of = sequence(store, rows[i], &operations);
        const char *state = resource_state(store, rows[i], of, operations);
        busy += strcmp(state, "busy") == 0 || strcmp(state, "in-doubt") == 0;
        free(of);
    }
    free(rows);
    return dump(json_pack(
        "{s:n,s:o,s:o,s:I,s:I,s:I,s:I,s:I}", "schema_version", "site", text_json(store->self.site),
        "incarnation",
        store->self.site == NULL ? json_null() : json_integer((json_int_t)store->self.incarnation),
        "resources", (json_int_t)count, "resources_busy", busy, "operations",
        (json_int_t)chp_map_count(store->operations), "event_last", (json_int_t)store->event_last,
        "event_published", (json_int_t)store->self.event_published));
}

static void add_troubled(json_t *list, void *const *rows, size_t count, bool diverged)
{
    size_t left = 10;
    for (size_t i = 0; i < count && left > 0; i++) {
        const struct chp_resource_row *row = rows[i];
        if (diverged ? row->diverged != NULL : row->diverged == NULL && row->degraded) {
            left--;
            (void)json_array_append_new(
                list, json_pack("{s:s,s:o}", "id", row->id, "diverged", text_json(row->diverged)));
        }
    }
}

static char *answer_troubled(const struct mem_store *store)
{
    size_t count;
    json_int_t diverged = 0;
    json_int_t degraded = 0;
    json_t *list = json_array();
    void **rows = mem__select(store->resources, NULL, NULL, mem__by_id, &count);
    for (size_t i = 0; i < count; i++) {
        const struct chp_resource_row *row = rows[i];
        diverged += row->diverged != NULL;
        degraded += row->diverged == NULL && row->degraded;
    }
    add_troubled(list, rows, count, true);
    add_troubled(list, rows, count, false);
    free(rows);
    return dump(
        json_pack("{s:I,s:I,s:o}", "diverged", diverged, "degraded", degraded, "resources", list));
}

char *mem__answer(const struct mem_store *store, enum chp_query query, char *const *params)
{
    const struct chp_resource_row *resource;
    switch (query) {
    case CHP_QUERY_OPERATION:
        return answer_operation(store, params[0]);
    case CHP_QUERY_OPERATIONS:
        return answer_operations(store, params);
    case CHP_QUERY_RESOURCE:
        resource = chp_map_get(store->resources, chp_bytes_of(params[0]));
        return resource == NULL ? NULL : dump(resource_json(store, resource));
    case CHP_QUERY_RESOURCES:
        return answer_resources(store, params);
    case CHP_QUERY_HISTORY:
        return answer_history(store, params);
    case CHP_QUERY_EVENTS:
        return answer_events(store, params);
    case CHP_QUERY_SITES:
        return answer_sites(store);
    case CHP_QUERY_STATUS:
        return answer_status(store);
    case CHP_QUERY_TROUBLED:
        return answer_troubled(store);
    }
    return NULL;
}
