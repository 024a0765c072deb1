/* SPDX-License-Identifier: AGPL-3.0-only */
#include "unit/engine/cluster.h"

#include "base/mem.h"
#include "wire/payload.h"
#include "wire/wire.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[CLUSTER_SITES_MAX] = {"A", "B", "C", "D"};

struct chp_now cluster_now(const struct node *node)
{
    struct chp_now now = node->cluster->now;
    now.wall_ms += (uint64_t)node->clock_ms;
    return now;
}

static void step(struct node *node, struct chp_event *event)
{
    if (node->engine != NULL) {
        event->now = cluster_now(node);
        chp_engine_step(node->engine, event, node->open);
    }
}

static int index_of(const struct cluster *cluster, const char *site)
{
    for (int i = 0; i < cluster->count; i++) {
        if (strcmp(cluster->nodes[i].site, site) == 0) {
            return i;
        }
    }
    abort();
}

static void send(struct node *node, const char *site, enum chp_key key, uint64_t number,
                 struct chp_bytes item)
{
    struct cluster *cluster = node->cluster;
    int to = index_of(cluster, site);
    if (number != 0) {
        node->sent[to][key].incarnation = chp_engine_incarnation(node->engine);
        node->sent[to][key].number = number;
    }
    if (key != CHP_KEY_CONTROL && cluster->drop_next > 0) {
        cluster->drop_next--;
        return;
    }
    for (int copy = 0; copy < 1 + cluster->duplicate_all; copy++) {
        CHP_ASSERT(cluster->message_count < CLUSTER_MESSAGES_MAX);
        struct cluster_message *message = &cluster->messages[cluster->message_count++];
        *message = (struct cluster_message){.from = node->index,
                                            .to = to,
                                            .key = key,
                                            .number = number,
                                            .incarnation = chp_engine_incarnation(node->engine)};
        chp_buf_add(&message->item, item.data, item.len);
    }
}

/* What the sender does when a stream is to go on: reads it from the store. */
static void load_stream(struct node *node, const char *site, enum chp_key key, uint64_t after)
{
    struct chp_load *load = chp_batch_load(&node->open->batch, CHP_LOAD_OUTBOUND);
    load->site = chp_arena_strdup(&node->open->batch.arena, site);
    load->stream_key = key;
    load->after = after;
    load->limit = CLUSTER_MESSAGES_MAX;
}

/* What a driver might say: not UTF-8, and longer than an ack takes. */
#define SIXTY "é234567890123456789012345678901234567890123456789012345678é"
static const char unruly_reason[] =
    "\xff\xfe" SIXTY SIXTY SIXTY SIXTY SIXTY SIXTY SIXTY SIXTY SIXTY "\"";

/* The command: notes that it ran, once per operation and run as the runner's claim does. */
static void run(struct node *node, const struct chp_after *after)
{
    struct chp_arena arena = {0};
    struct chp_item item;
    CHP_ASSERT(chp_item_decode(after->run.item, &arena, &item, NULL) == 0);
    const struct chp_operation *operation = &item.operation;
    if (!after->run.resume || cluster_count_runs(node, &operation->id) == 0) {
        CHP_ASSERT(node->run_count < CLUSTER_RUNS_MAX);
        struct cluster_run *ran = &node->runs[node->run_count++];
        ran->operation = operation->id;
        (void)snprintf(ran->type, sizeof ran->type, "%s%s", after->run.undo ? "-" : "",
                       operation->type);
    }
    if (!node->commands_hang) {
        bool fails = strcmp(operation->type, "fail") == 0 ||
                     (node->fails != NULL && strcmp(operation->type, node->fails) == 0);
        struct chp_completion completion = {.operation = operation->id,
                                            .run = after->run.run,
                                            .state = fails ? CHP_STATE_FAILED : CHP_STATE_DONE,
                                            .reason = fails ? unruly_reason : NULL,
                                            .output = chp_bytes("out", 3)};
        if (node->commands_doubt) {
            completion.state = CHP_STATE_IN_DOUBT;
            completion.reason = "the machine went down";
        }
        struct chp_event event = {
            .kind = CHP_EVENT_EXECUTED,
            .executed = {.resource = operation->resource, .completion = &completion}};
        step(node, &event);
    }
    chp_arena_deinit(&arena);
}

/* What a client of the AMQP door got, as a text: its reply_to and the message's id without the
 * operation. */
static void tell(struct node *node, const struct chp_reply_row *row)
{
    CHP_ASSERT(node->told_count < CLUSTER_TOLD_MAX);
    CHP_ASSERT(row->number > node->told_last); /* in order */
    node->told_last = row->number;
    (void)snprintf(node->told[node->told_count++], sizeof node->told[0], "%s%s", row->to.reply_to,
                   strchr(row->message_id, '/'));
}

static void act(struct node *node, const struct chp_after *after)
{
    switch (after->kind) {
    case CHP_AFTER_REPLY:
        node->reply = after->reply.reply;
        (void)snprintf(node->error, sizeof node->error, "%s",
                       after->reply.reply.error == NULL ? "" : after->reply.reply.error);
        node->reply_count++;
        break;
    case CHP_AFTER_RESOLVED:
        node->resolved_code = after->resolved.code;
        node->resolved_count++;
        (void)snprintf(node->error, sizeof node->error, "%s",
                       after->resolved.error == NULL ? "" : after->resolved.error);
        break;
    case CHP_AFTER_SETTLE:
        node->settled_count++;
        break;
    case CHP_AFTER_DEAD:
        node->dead_count++;
        break;
    case CHP_AFTER_SEND:
    case CHP_AFTER_CONTROL:
        send(node, after->send.site, after->send.key, after->send.number, after->send.item);
        break;
    case CHP_AFTER_RUN:
        run(node, after);
        break;
    case CHP_AFTER_NOTICE:
        node->completed_count += after->notice.notice.completed;
        node->unverified_count += after->notice.notice.ack.unverified;
        break;
    case CHP_AFTER_EVENT:
        CHP_ASSERT(after->event.number == node->events + 1 || node->lost_events); /* no gaps */
        node->lost_events = false;
        node->events = after->event.number;
        break;
    case CHP_AFTER_RESEND:
        load_stream(node, after->stream.site, after->stream.key, after->stream.mark);
        break;
    case CHP_AFTER_STARTED:
        if (after->stream.site != NULL) {
            load_stream(node, after->stream.site, after->stream.key, after->stream.mark);
        } else {
            chp_batch_load(&node->open->batch, CHP_LOAD_UNDECODED)->limit = CLUSTER_MESSAGES_MAX;
        }
        break;
    case CHP_AFTER_TELL:
        tell(node, after->tell);
        break;
    case CHP_AFTER_FETCH:
    case CHP_AFTER_FORGET_RUN:
    case CHP_AFTER_MARK:
    case CHP_AFTER_PEER:
        break;
    case CHP_AFTER_REGRESSED:
        node->regressed = after->regressed.reason;
        node->regressed_incarnation = after->regressed.incarnation;
        break;
    }
}

/* What the daemon writes behind each commit. */
static void raise_high_water(struct node *node, const struct chp_batch *batch)
{
    struct chp_peer_view view;
    chp_engine_committed(node->engine, batch);
    if (batch->write_count == 0) {
        return;
    }
    node->known.found = true;
    node->known.event_last = chp_engine_event_last(node->engine);
    node->known.incarnation = chp_engine_incarnation(node->engine);
    node->known.serial = node->serial;
    node->known.database = chp_arena_strdup(&node->kept, chp_engine_database(node->engine));
    node->known.taken = node->taken;
    for (size_t i = 0; chp_engine_peer(node->engine, i, &view); i++) {
        node->taken[i] = (struct chp_taken){view.site, view.taken_incarnation, view.taken};
        node->known.taken_count = i + 1;
    }
}

/* Items that an earlier version kept: those that are known now, as if they arrived. */
static void take_kept(struct node *node, const struct chp_load *load)
{
    for (size_t i = 0; i < load->undecoded.count; i++) {
        const struct chp_undecoded_row *row = &load->undecoded.rows[i];
        struct chp_item *item = chp_arena_alloc(&node->kept, sizeof *item);
        struct chp_bytes bytes = chp_arena_bytes(&node->kept, row->item);
        if (node->cluster->upgraded && bytes.data[1] == CLUSTER_LATER_KIND) {
            ((uint8_t *)(uintptr_t)bytes.data)[1] = CHP_ITEM_OPERATION;
        }
        if (chp_item_decode(bytes, &node->kept, item, NULL) == 0) {
            struct chp_event event = {.kind = CHP_EVENT_ITEM,
                                      .item = {.from = chp_arena_strdup(&node->kept, row->site),
                                               .incarnation = row->incarnation,
                                               .key = row->key,
                                               .number = row->number,
                                               .delivery = ++node->cluster->next_delivery,
                                               .item = item,
                                               .bytes = bytes,
                                               .stored = row->arrival}};
            step(node, &event);
        }
    }
}

static void on_done(struct chp_batch *batch, int code, const struct chp_error *error)
{
    struct node *node = batch->user;
    struct chp_effects *effects = node->in_flight;
    (void)error;
    node->in_flight = NULL;
    if (code == 0) {
        raise_high_water(node, batch);
    }
    for (size_t i = 0; code == 0 && i < effects->after_count; i++) {
        act(node, &effects->after[i]);
    }
    for (size_t i = 0; code == 0 && i < batch->load_count; i++) {
        const struct chp_load *load = &batch->loads[i];
        if (load->kind == CHP_LOAD_OUTBOUND) {
            for (size_t j = 0; j < load->items.count; j++) {
                send(node, load->site, load->stream_key, load->items.rows[j].number,
                     load->items.rows[j].item);
            }
        } else if (load->kind == CHP_LOAD_UNDECODED) {
            take_kept(node, load);
        } else {
            struct chp_event event = {.kind = CHP_EVENT_LOADED, .loaded = load};
            step(node, &event);
        }
    }
    chp_effects_deinit(effects);
    free(effects);
}

static bool submit(struct node *node)
{
    if (chp_batch_empty(&node->open->batch) && node->open->after_count == 0) {
        return false;
    }
    node->in_flight = node->open;
    node->open = chp_alloc(sizeof *node->open);
    if (node->in_flight->batch.write_count > 0) {
        uint64_t found = chp_engine_serial(node->engine);
        node->serial = (node->serial > found ? node->serial : found) + 1;
        chp_batch_write(&node->in_flight->batch, CHP_WRITE_SERIAL)->serial = node->serial;
    }
    node->in_flight->batch.on_done = on_done;
    node->in_flight->batch.user = node;
    chp_store_submit(node->store, &node->in_flight->batch);
    return true;
}

static void deliver(struct cluster *cluster, const struct cluster_message *message)
{
    struct node *node = &cluster->nodes[message->to];
    struct chp_item *item = chp_arena_alloc(&node->kept, sizeof *item);
    struct chp_bytes bytes = chp_arena_bytes(&node->kept, chp_buf_bytes(&message->item));
    int code = chp_item_decode(bytes, &node->kept, item, NULL);
    CHP_ASSERT(code == 0 || code == CHP_EVERSION);
    struct chp_event event = {.kind = CHP_EVENT_ITEM,
                              .item = {.from = cluster->nodes[message->from].site,
                                       .incarnation = message->incarnation,
                                       .key = message->key,
                                       .number = message->number,
                                       .delivery = ++cluster->next_delivery,
                                       .item = code == 0 ? item : NULL,
                                       .bytes = bytes,
                                       .unknown = code != 0}};
    step(node, &event);
}

static bool deliver_all(struct cluster *cluster)
{
    size_t count = cluster->message_count;
    size_t kept = 0;
    bool moved = false;
    for (size_t i = 0; i < count; i++) {
        struct cluster_message message = cluster->messages[i];
        if (cluster->cut[message.from][message.to]) {
            cluster->messages[kept++] = message;
            continue;
        }
        deliver(cluster, &message);
        chp_buf_deinit(&message.item);
        moved = true;
    }
    memmove(&cluster->messages[kept], &cluster->messages[count],
            (cluster->message_count - count) * sizeof cluster->messages[0]);
    cluster->message_count -= count - kept;
    return moved;
}

static void start_engine(struct node *node);
static void drop_engine(struct node *node);

void cluster_settle(struct cluster *cluster)
{
    for (int round = 0; round < 10000; round++) {
        bool moved = deliver_all(cluster);
        for (int i = 0; i < cluster->count; i++) {
            if (submit(&cluster->nodes[i])) {
                moved = true;
                while (chp_mem_store_run(cluster->nodes[i].store)) {
                }
            }
        }
        for (int i = 0; i < cluster->count; i++) {
            if (cluster->nodes[i].regressed != NULL) {
                drop_engine(&cluster->nodes[i]);
                start_engine(&cluster->nodes[i]);
                moved = true;
            }
        }
        if (!moved) {
            return;
        }
        cluster->now.mono_us += 1000;
        cluster->now.wall_ms += 1;
    }
    CHP_ASSERT(!"the cluster does not come to rest");
}

static void beat(struct cluster *cluster, int from, int to)
{
    struct chp_beat sent;
    struct chp_mark marks[CHP_KEY_COUNT];
    struct node *node = &cluster->nodes[from];
    struct chp_now now = cluster_now(node);
    chp_engine_beat(node->engine, names[to], &now, &sent);
    size_t count = chp_engine_marks(node->engine, names[to], marks);
    struct chp_event beat = {.kind = CHP_EVENT_BEAT,
                             .beat = {.from = names[from],
                                      .incarnation = chp_engine_incarnation(node->engine),
                                      .beat = &sent}};
    struct chp_event told = {.kind = CHP_EVENT_MARKS,
                             .marks = {.from = names[from],
                                       .incarnation = chp_engine_incarnation(node->engine),
                                       .marks = marks,
                                       .count = count}};
    step(&cluster->nodes[to], &beat);
    step(&cluster->nodes[to], &told);
    for (int key = CHP_KEY_OPERATION; key <= CHP_KEY_ACK; key++) {
        /* What the sender asks when nothing moves: does something of the stream's end lack? */
        if (node->sent[to][key].incarnation == told.marks.incarnation) {
            told.marks.key = (enum chp_key)key;
            told.marks.next = node->sent[to][key].number + 1;
            step(&cluster->nodes[to], &told);
        }
    }
}

void cluster_second(struct cluster *cluster)
{
    cluster->now.mono_us += 1000000;
    cluster->now.wall_ms += 1000;
    for (int from = 0; from < cluster->count; from++) {
        struct chp_event tick = {.kind = CHP_EVENT_TICK};
        step(&cluster->nodes[from], &tick);
        for (int to = 0; to < cluster->count; to++) {
            if (from != to && !cluster->cut[from][to]) {
                beat(cluster, from, to);
            }
        }
    }
    cluster_settle(cluster);
}

static void store_on_up(void *user)
{
    (void)user;
}

static void store_on_down(void *user, const struct chp_error *error)
{
    (void)user;
    (void)error;
}

static void start_engine(struct node *node)
{
    node->engine = chp_engine_new(&node->config);
    node->lives++;
    struct chp_event event = {
        .kind = CHP_EVENT_START,
        .start = {.incarnation_proposed = 1000 * node->lives + (uint64_t)node->index,
                  .high_water = &node->known,
                  .regressed = node->regressed}};
    if (event.start.incarnation_proposed <= node->regressed_incarnation) {
        event.start.incarnation_proposed = node->regressed_incarnation + 1;
    }
    step(node, &event);
    node->regressed = NULL;
    while (submit(node)) {
        while (chp_mem_store_run(node->store)) {
        }
    }
}

static void drop_engine(struct node *node)
{
    chp_engine_free(node->engine);
    node->engine = NULL;
    chp_effects_deinit(node->open);
}

struct chp_store *cluster_empty_store(void)
{
    struct chp_store_callbacks none = {.on_up = store_on_up, .on_down = store_on_down};
    return chp_mem_store_new(&none);
}

void cluster_start(struct cluster *cluster, int count, size_t resources_max, size_t pending_max)
{
    memset(cluster, 0, sizeof *cluster);
    cluster->count = count;
    cluster->now = (struct chp_now){.wall_ms = 1700000000000, .mono_us = 1000000};
    for (int i = 0; i < count; i++) {
        struct node *node = &cluster->nodes[i];
        node->cluster = cluster;
        node->index = i;
        node->site = names[i];
        for (int j = 0; j < count; j++) {
            if (j != i) {
                node->peers[node->config.peer_count++].site = names[j];
            }
        }
        node->config.site = names[i];
        node->config.peers = node->peers;
        node->config.down_after_ms = 5000;
        node->config.max_skew_ms = 60000;
        node->config.operations_kept = 1000;
        node->config.events_kept_ms = 3ULL * 24 * 3600 * 1000;
        node->config.resources_max = resources_max;
        node->config.pending_max = pending_max;
        node->open = chp_alloc(sizeof *node->open);
        node->store = cluster_empty_store();
        while (chp_mem_store_run(node->store)) {
        }
        start_engine(node);
    }
    cluster_second(cluster);
}

void cluster_stop(struct cluster *cluster)
{
    for (int i = 0; i < cluster->count; i++) {
        struct node *node = &cluster->nodes[i];
        chp_engine_free(node->engine);
        chp_store_free(node->store);
        chp_effects_deinit(node->open);
        free(node->open);
        chp_arena_deinit(&node->kept);
    }
    for (size_t i = 0; i < cluster->message_count; i++) {
        chp_buf_deinit(&cluster->messages[i].item);
    }
}

struct chp_uuid cluster_request(struct node *node, const char *resource, const char *type,
                                const char *scope, const char *key)
{
    struct cluster *cluster = node->cluster;
    struct chp_arena *arena = &node->kept;
    struct chp_request *request = chp_arena_alloc(arena, sizeof *request);
    const char *argv[] = {"true", NULL};
    struct chp_command command = {.argv = argv, .argc = 1};
    struct chp_buf payload = {0};
    CHP_ASSERT(chp_command_encode(&command, &payload, NULL) == 0);
    uint64_t id = ++cluster->next_id;
    memcpy(request->id.bytes, &id, sizeof id);
    request->id.bytes[15] = (uint8_t)(node->index + 1);
    request->key = key == NULL ? chp_arena_printf(arena, "key-%llu", (unsigned long long)id)
                               : chp_arena_strdup(arena, key);
    request->key_given = key != NULL;
    request->principal = "tester";
    request->resource = chp_arena_strdup(arena, resource);
    request->type = chp_arena_strdup(arena, type);
    request->scope = chp_arena_strdup(arena, scope);
    request->driver = "shell";
    request->reply_to = node->reply_to;
    request->correlation_id = node->reply_to;
    request->payload = chp_arena_bytes(arena, chp_buf_bytes(&payload));
    request->undo = node->undo ? request->payload : (struct chp_bytes){0};
    request->config = node->matrix;
    chp_buf_deinit(&payload);
    struct chp_event event = {.kind = CHP_EVENT_REQUEST,
                              .request = {.ticket = ++cluster->next_ticket, .request = request}};
    step(node, &event);
    return request->id;
}

void cluster_keep(struct cluster *cluster, size_t operations)
{
    for (int i = 0; i < cluster->count; i++) {
        cluster->nodes[i].config.operations_kept = operations;
        cluster_reset(&cluster->nodes[i], true);
    }
    cluster_settle(cluster);
}

void cluster_reset(struct node *node, bool applied)
{
    submit(node);
    if (node->in_flight != NULL) {
        chp_mem_store_set_up(node->store, false, applied);
        while (chp_mem_store_run(node->store)) {
        }
    } else {
        chp_mem_store_set_up(node->store, false, false);
    }
    CHP_ASSERT(node->in_flight == NULL);
    drop_engine(node);
    chp_mem_store_set_up(node->store, true, false);
    while (chp_mem_store_run(node->store)) {
    }
    start_engine(node);
}

void cluster_replace_store(struct node *node, struct chp_store *store, bool keeps_file)
{
    CHP_ASSERT(node->in_flight == NULL);
    drop_engine(node);
    chp_store_free(node->store);
    node->store = store;
    node->lost_events = true;
    if (!keeps_file) {
        node->known = (struct chp_high_water){0};
        node->serial = 0;
    }
    while (chp_mem_store_run(node->store)) {
    }
    start_engine(node);
}

void cluster_inject(struct cluster *cluster, int from, int to, uint64_t number,
                    struct chp_bytes item)
{
    CHP_ASSERT(cluster->message_count < CLUSTER_MESSAGES_MAX);
    struct cluster_message *message = &cluster->messages[cluster->message_count++];
    *message = (struct cluster_message){.from = from,
                                        .to = to,
                                        .key = CHP_KEY_OPERATION,
                                        .number = number,
                                        .incarnation =
                                            chp_engine_incarnation(cluster->nodes[from].engine)};
    chp_buf_add(&message->item, item.data, item.len);
}

size_t cluster_count_runs(const struct node *node, const struct chp_uuid *operation)
{
    size_t count = 0;
    for (size_t i = 0; i < node->run_count; i++) {
        count += chp_uuid_equal(&node->runs[i].operation, operation);
    }
    return count;
}

void cluster_resolve(struct node *node, const struct chp_uuid *operation,
                     enum chp_resolution resolution)
{
    struct chp_event event = {.kind = CHP_EVENT_RESOLVE,
                              .resolve = {.ticket = ++node->cluster->next_ticket,
                                          .operation = *operation,
                                          .resolution = resolution,
                                          .principal = "tester"}};
    step(node, &event);
}

static void write_on_done(struct chp_batch *batch, int code, const struct chp_error *error)
{
    (void)error;
    CHP_ASSERT(code == 0);
    chp_batch_deinit(batch);
}

void cluster_write(struct node *node, struct chp_batch *batch)
{
    CHP_ASSERT(node->in_flight == NULL);
    batch->on_done = write_on_done;
    chp_store_submit(node->store, batch);
    while (chp_mem_store_run(node->store)) {
    }
}

static void row_on_done(struct chp_batch *batch, int code, const struct chp_error *error)
{
    (void)error;
    CHP_ASSERT(code == 0 && batch->loads[0].found);
}

struct chp_resource_row cluster_row(struct node *node, const char *resource, size_t *operations)
{
    struct chp_batch batch = {.on_done = row_on_done};
    struct chp_load *load = chp_batch_load(&batch, CHP_LOAD_RESOURCE);
    load->resource = resource;
    CHP_ASSERT(node->in_flight == NULL);
    chp_store_submit(node->store, &batch);
    while (chp_mem_store_run(node->store)) {
    }
    struct chp_resource_row row = batch.loads[0].resource_result.row; /* points into the store */
    if (operations != NULL) {
        *operations = batch.loads[0].resource_result.history_count;
    }
    chp_batch_deinit(&batch);
    return row;
}

static void shown_on_answer(void *user, int code, const char *json, const struct chp_error *error)
{
    (void)error;
    CHP_ASSERT(code == 0);
    *(json_t **)user = json == NULL ? NULL : json_loads(json, 0, NULL);
}

static json_t *answer_of(struct node *node, const struct chp_uuid *operation)
{
    char id[CHP_UUID_TEXT_BYTES];
    const char *params[] = {id};
    json_t *answer = NULL;
    chp_uuid_format(operation, id);
    chp_store_query(node->store, CHP_QUERY_OPERATION, params, 1, shown_on_answer, &answer);
    while (chp_mem_store_run(node->store)) {
    }
    return answer;
}

struct chp_stamp cluster_stamp(struct node *node, const struct chp_uuid *operation, bool *suspect)
{
    json_t *answer = answer_of(node, operation);
    json_int_t ms;
    json_int_t counter;
    int is_suspect;
    CHP_ASSERT(json_unpack(answer, "{s:{s:I,s:I},s:b}", "stamp", "ms", &ms, "counter", &counter,
                           "clock_suspect", &is_suspect) == 0);
    json_decref(answer);
    if (suspect != NULL) {
        *suspect = is_suspect;
    }
    return (struct chp_stamp){.ms = (uint64_t)ms, .counter = (uint32_t)counter};
}

const char *cluster_shown(struct node *node, const struct chp_uuid *operation, const char *site)
{
    json_t *answer = answer_of(node, operation);
    const char *shown = "nothing";
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(answer, "sites"), i, row)
    {
        const char *reason = json_string_value(json_object_get(row, "reason"));
        if (strcmp(json_string_value(json_object_get(row, "site")), site) == 0) {
            shown = chp_arena_printf(&node->kept, "%s %d%s%s",
                                     json_string_value(json_object_get(row, "state")),
                                     (int)json_integer_value(json_object_get(row, "run")),
                                     reason == NULL ? "" : " ", reason == NULL ? "" : reason);
        }
    }
    json_decref(answer);
    return shown;
}
