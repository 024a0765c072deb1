/* SPDX-License-Identifier: AGPL-3.0-only */
/* A request becomes an operation (design 4.1, 4.2): checked, given its dot, its stamp and its
 * context, and committed with its deliveries. */
#include "engine/internal.h"

#include <string.h>

void engine__refuse(const struct chp_event *event, int code, const char *text,
                    struct chp_effects *effects)
{
    struct chp_after *after = chp_effects_after(effects, CHP_AFTER_REPLY);
    after->reply.ticket = event->request.ticket;
    after->reply.reply.code = code;
    after->reply.reply.error = chp_arena_strdup(&effects->batch.arena, text);
    after->reply.reply.resource = event->request.request->resource;
}

/* What can be judged without knowing the resource. */
static int check(const struct chp_request *request, struct chp_error *error)
{
    int code = chp_resource_id_check(request->resource, error);
    if (code == 0) {
        code = chp_type_check(request->type, error);
    }
    if (code == 0 && (request->key[0] == 0 || strlen(request->key) > CHP_ID_MAX_BYTES)) {
        code = chp_error_set(error, CHP_EINVAL, "the idempotency key must have 1 to %d bytes",
                             CHP_ID_MAX_BYTES);
    }
    if (code == 0 && request->level_given && request->level > CHP_LEVEL_EVENTUAL) {
        code = chp_error_set(error, CHP_EREFUSED,
                             "level \"%s\" is not available yet: none and eventual are",
                             chp_level_name(request->level));
    }
    if (code == 0 && request->payload.len > CHP_PAYLOAD_MAX_BYTES) {
        code =
            chp_error_set(error, CHP_ETOOBIG, "the payload has %zu bytes, at most %d are allowed",
                          request->payload.len, CHP_PAYLOAD_MAX_BYTES);
    }
    if (code == 0 && request->file_count > CHP_FILES_MAX) {
        code = chp_error_set(error, CHP_ETOOBIG, "%zu files, at most %d are allowed",
                             request->file_count, CHP_FILES_MAX);
    }
    if (code == 0 && request->deadline_ms > CHP_DEADLINE_MAX_MS) {
        code = chp_error_set(error, CHP_EINVAL, "the timeout must be at most 24 hours");
    }
    return code;
}

static int check_files(const struct chp_request *request, struct chp_error *error)
{
    for (size_t i = 0; i < request->file_count; i++) {
        int code = chp_file_name_check(request->files[i].name, error);
        for (size_t j = 0; code == 0 && j < i; j++) {
            if (strcmp(request->files[i].name, request->files[j].name) == 0) {
                code = chp_error_set(error, CHP_EINVAL, "two files are named \"%s\"",
                                     request->files[i].name);
            }
        }
        if (code != 0) {
            return code;
        }
    }
    return 0;
}

/* The request's key is known: the same request again, or a conflict. row is the resource's, or
 * NULL. */
static void answer_known(struct chp_engine *engine, const struct chp_event *event,
                         const struct chp_sha256 *hash, const struct chp_uuid *operation,
                         const struct chp_resource_row *row, struct chp_effects *effects)
{
    static const struct chp_sha256 unknown; /* of an operation that came back (ev_operation.c) */
    struct chp_sha256 asked = chp_request_hash(event->request.request);
    if (memcmp(hash->bytes, asked.bytes, sizeof asked.bytes) != 0 &&
        memcmp(hash->bytes, unknown.bytes, sizeof unknown.bytes) != 0) {
        engine__refuse(event, CHP_ECONFLICT,
                       "this idempotency key was used for a request with other content", effects);
        return;
    }
    if (event->request.request->reply_to != NULL) {
        tracked__repeat(engine, operation, event, effects);
        return;
    }
    struct chp_arena *arena = &effects->batch.arena;
    struct chp_after *after = chp_effects_after(effects, CHP_AFTER_REPLY);
    struct chp_reply *reply = &after->reply.reply;
    after->reply.ticket = event->request.ticket;
    reply->id = *operation;
    reply->duplicate = true;
    reply->resource = event->request.request->resource;
    reply->warning = event->request.request->warning;
    if (row != NULL) {
        reply->scope = chp_arena_strdup(arena, row->scope);
        reply->member_count = row->member_count;
        reply->members = chp_arena_strdup_all(arena, row->members, row->member_count);
    }
}

/* Scope as printed, and the members it resolves to; both in the batch's arena. */
static int resolve(struct chp_engine *engine, const char *text, struct chp_effects *effects,
                   struct chp_operation *operation, struct chp_error *error)
{
    struct chp_arena *arena = &effects->batch.arena;
    const char **known = chp_arena_calloc(arena, engine->config.peer_count + 1, sizeof(char *));
    struct chp_scope_sites sites = {
        .self = engine->config.site, .known = known, .known_count = engine->config.peer_count + 1};
    struct chp_scope *scope = NULL;
    known[0] = engine->config.site;
    for (size_t i = 0; i < engine->config.peer_count; i++) {
        known[i + 1] = engine->peers[i].site;
    }
    int code = chp_scope_parse(text, arena, &scope, error);
    if (code == 0) {
        code = chp_scope_resolve(scope, &sites, arena, &operation->members,
                                 &operation->member_count, error);
    }
    if (code == 0) {
        operation->scope = chp_scope_print(scope, arena);
    }
    return code;
}

static bool same_members(const struct chp_resource_row *row, const struct chp_operation *operation)
{
    if (row->member_count != operation->member_count) {
        return false;
    }
    for (size_t i = 0; i < row->member_count; i++) {
        if (!engine__contains(operation->members, operation->member_count, row->members[i])) {
            return false;
        }
    }
    return true;
}

/* Scope and level of an operation on a resource that exists are the resource's own. */
static int fit_existing(struct chp_engine *engine, const struct resource *resource,
                        const struct chp_request *request, struct chp_effects *effects,
                        struct chp_operation *operation, struct chp_error *error)
{
    const struct chp_resource_row *row = &resource->row;
    if (request->scope != NULL) {
        int code = resolve(engine, request->scope, effects, operation, error);
        if (code != 0) {
            return code;
        }
        if (!same_members(row, operation)) {
            return chp_error_set(
                error, CHP_ECONFLICT,
                "resource \"%s\" has the scope %s of its creation, not %s: leave the "
                "scope out, or rescope the resource",
                row->id, row->scope, operation->scope);
        }
    }
    if (request->level_given && request->level != row->level) {
        return chp_error_set(error, CHP_ECONFLICT,
                             "resource \"%s\" has level %s since its creation", row->id,
                             chp_level_name(row->level));
    }
    operation->scope = chp_arena_strdup(&effects->batch.arena, row->scope);
    operation->level = row->level;
    operation->member_count = row->member_count;
    operation->members =
        chp_arena_strdup_all(&effects->batch.arena, row->members, row->member_count);
    return 0;
}

static int fit_new(struct chp_engine *engine, const struct chp_request *request,
                   struct chp_effects *effects, struct chp_operation *operation,
                   struct chp_error *error)
{
    if (request->scope == NULL) {
        return chp_error_set(error, CHP_ENOTFOUND,
                             "resource \"%s\" is not known at %s: to create it, give its scope",
                             request->resource, engine->config.site);
    }
    operation->creates = true;
    operation->level = request->level_given ? request->level : CHP_LEVEL_EVENTUAL;
    return resolve(engine, request->scope, effects, operation, error);
}

/* Design 4.2: max(trusted clock, 1 + highest stamp in its own context). */
struct chp_stamp engine__next_stamp(const struct chp_engine *engine,
                                    const struct resource *resource, const struct chp_now *now)
{
    uint64_t trusted_ms = engine__trusted_wall_ms(engine, now);
    struct chp_stamp highest = resource->row.highest;
    if (trusted_ms > highest.ms) {
        return (struct chp_stamp){.ms = trusted_ms};
    }
    if (highest.counter == UINT32_MAX) {
        return (struct chp_stamp){.ms = highest.ms + 1};
    }
    return (struct chp_stamp){.ms = highest.ms, .counter = highest.counter + 1};
}

void engine__deliver(struct chp_engine *engine, struct tracked *tracked,
                     const struct chp_operation *operation, struct chp_bytes item,
                     struct chp_effects *effects)
{
    for (size_t i = 0; i < operation->member_count; i++) {
        const char *site = operation->members[i];
        struct chp_write *write = chp_batch_write(&effects->batch, CHP_WRITE_EXECUTION);
        write->execution.ack.operation = operation->id;
        write->execution.ack.resource = operation->resource;
        write->execution.ack.site = site;
        write->execution.ack.exit_code = -1;
        write->execution.updated_ms = operation->entered_ms;
        if (strcmp(site, engine->config.site) == 0) {
            write->execution.ack.state = CHP_STATE_ACCEPTED;
            write->execution.ack.incarnation = engine->incarnation;
            continue;
        }
        struct peer *peer = engine__peer(engine, site);
        write->execution.ack.state = CHP_STATE_QUEUED;
        if (peer == NULL) {
            continue; /* a member that this site does not know (yet) */
        }
        size_t index = effects->batch.write_count - 1;
        uint64_t number = stream__put(peer, CHP_KEY_OPERATION, &operation->id, item, effects);
        effects->batch.writes[index].execution.number = number;
        tracked__set_number(engine, tracked, site, number);
    }
}

static void record(struct chp_engine *engine, const struct chp_operation *operation,
                   struct chp_bytes item, const struct chp_listener *listener,
                   const struct chp_now *now, struct chp_effects *effects)
{
    struct chp_write *write = chp_batch_write(&effects->batch, CHP_WRITE_OPERATION);
    write->operation.operation = operation;
    write->operation.item = item;
    write->operation.reply_to = listener == NULL ? NULL : listener->reply_to;
    write->operation.correlation_id = listener == NULL ? NULL : listener->correlation_id;
    write->operation.received_ms = now->wall_ms;
    bool clock_suspect = engine__leads(engine, operation->stamp, now);
    write->operation.clock_suspect = clock_suspect;
    struct chp_buf data = {0};
    chp_buf_add_text(&data, "{\"type\":");
    journal__add_string(&data, operation->type);
    chp_buf_add_text(&data, ",\"scope\":");
    journal__add_string(&data, operation->scope);
    chp_buf_add_text(&data, ",\"members\":");
    journal__add_strings(&data, operation->members, operation->member_count);
    chp_buf_add_text(&data, ",\"principal\":");
    journal__add_string(&data, operation->principal);
    chp_buf_add_text(&data, clock_suspect ? ",\"clock_suspect\":true}" : "}");
    journal__add(engine,
                 &(struct journal_entry){.kind = "operation.accepted",
                                         .resource = operation->resource,
                                         .operation = &operation->id,
                                         .data = journal__take(&data, effects)},
                 now, effects);
}

/* Also when the door made the key: a request whose commit is unknown is offered again under it. */
static void record_key(struct chp_engine *engine, const struct chp_event *event,
                       const struct chp_operation *operation, struct chp_effects *effects)
{
    const struct chp_request *request = event->request.request;
    struct chp_write *write = chp_batch_write(&effects->batch, CHP_WRITE_KEY);
    write->key.principal = request->principal;
    write->key.key = request->key;
    write->key.hash = chp_request_hash(request);
    write->key.operation = operation->id;
    write->key.at_ms = engine__trusted_wall_ms(engine, &event->now);
    keys__add(engine, request->principal, request->key, &write->key.hash, &operation->id);
}

int engine__encode(const struct chp_operation *operation, struct chp_effects *effects,
                   struct chp_bytes *item, struct chp_error *error)
{
    struct chp_buf bytes = {0};
    struct chp_item whole = {.kind = CHP_ITEM_OPERATION, .operation = *operation};
    int code = chp_item_encode(&whole, &bytes, error);
    if (code == 0) {
        *item = chp_arena_bytes(&effects->batch.arena, chp_buf_bytes(&bytes));
    }
    chp_buf_deinit(&bytes);
    return code;
}

void engine__enter(struct chp_engine *engine, struct resource *resource,
                   const struct chp_operation *operation, struct chp_bytes item,
                   const struct chp_listener *listener, const struct chp_now *now,
                   struct chp_effects *effects)
{
    bool executes =
        engine__contains(operation->members, operation->member_count, engine->config.site);
    if (operation->creates) {
        resource__create(engine, resource, operation);
    }
    bool sequential = chp_vector_includes(&operation->context, &resource->row.vector);
    resource__hold(engine, resource, operation);
    int code = resource__take(engine, resource, operation, executes, NULL);
    CHP_ASSERT(code == 0); /* its stamp is above all that it has seen */
    converge__added(resource, operation, sequential);
    record(engine, operation, item, listener, now, effects);
    struct tracked *tracked =
        tracked__add(engine, operation, listener, listener == NULL ? 0 : 1, now);
    engine__deliver(engine, tracked, operation, item, effects);
    engine->arrived_us = now->mono_us;
    report__arrived(engine);
    resource__write(resource, effects);
    if (executes) {
        resource__add_pending(engine, resource, item, CHP_STATE_ACCEPTED, 0);
    }
    run__next(engine, resource, now, effects);
}

static void accept(struct chp_engine *engine, const struct chp_event *event,
                   struct resource *resource, struct chp_operation *operation,
                   struct chp_effects *effects)
{
    struct chp_error error = {0};
    struct chp_bytes item;
    int code = engine__encode(operation, effects, &item, &error);
    if (code != 0) {
        engine__refuse(event, code, error.text, effects);
        return;
    }
    struct chp_reply reply = {
        .id = operation->id,
        .resource = operation->resource,
        .scope = operation->scope,
        .members = operation->members,
        .member_count = operation->member_count,
        .warning = event->request.request->warning,
    };
    struct chp_listener listener = reply__listener(event->request.request);
    record_key(engine, event, operation, effects);
    reply__accepted(engine, event->request.request, &reply, &event->now, effects);
    struct chp_after *after = chp_effects_after(effects, CHP_AFTER_REPLY);
    after->reply.ticket = event->request.ticket;
    after->reply.reply = reply;
    engine__enter(engine, resource, operation, item, listener.reply_to == NULL ? NULL : &listener,
                  &event->now, effects);
}

/* What it has seen, and what it displaces (design section 6, rule 1). */
static int look_back(struct chp_engine *engine, struct resource *resource,
                     struct chp_operation *operation, struct chp_effects *effects,
                     struct chp_error *error)
{
    struct chp_arena *arena = &effects->batch.arena;
    const struct chp_range *displaces = NULL;
    if (resource->replica == NULL) {
        operation->context = chp_vector_copy(&resource->row.vector, arena);
        return 0;
    }
    chp_replica_context(resource->replica, &resource->row.vector, arena, &operation->context);
    operation->stable = stable__own(engine, resource, &operation->context);
    if (operation->config != NULL) {
        int code = chp_replica_check_config(resource->replica, operation->config, error);
        if (code != 0) {
            return code;
        }
    }
    int code = chp_replica_displaces(resource->replica, operation->type, operation->config, arena,
                                     &displaces, &operation->displaces_count, error);
    operation->displaces =
        chp_arena_calloc(arena, operation->displaces_count, sizeof *operation->displaces);
    for (size_t i = 0; code == 0 && i < operation->displaces_count; i++) {
        operation->displaces[i] = displaces[i];
        operation->displaces[i].origin = chp_arena_strdup(arena, displaces[i].origin);
    }
    return code;
}

static void admit(struct chp_engine *engine, const struct chp_event *event,
                  struct resource *resource, struct chp_effects *effects)
{
    const struct chp_request *request = event->request.request;
    struct chp_arena *arena = &effects->batch.arena;
    struct chp_error error = {0};
    struct chp_operation *operation = chp_arena_alloc(arena, sizeof *operation);
    int code = resource->exists
                   ? fit_existing(engine, resource, request, effects, operation, &error)
                   : fit_new(engine, request, effects, operation, &error);
    if (code != 0) {
        engine__refuse(event, code, error.text, effects);
        return;
    }
    operation->id = request->id;
    operation->resource = chp_arena_strdup(arena, request->resource);
    operation->type = request->type;
    operation->driver = request->driver;
    operation->payload = request->payload;
    operation->undo = request->undo;
    operation->summary =
        chp_operation_summary(request->driver, request->payload, request->undo, arena);
    operation->files = request->files;
    operation->file_count = request->file_count;
    operation->key = request->key;
    operation->principal = request->principal;
    operation->entered_ms = event->now.wall_ms;
    operation->deadline_ms =
        request->deadline_ms == 0 ? CHP_DEADLINE_DEFAULT_MS : request->deadline_ms;
    operation->config = request->config;
    operation->dot = (struct chp_dot){
        .origin = engine->config.site,
        .incarnation = engine->incarnation,
        .n = chp_vector_get(&resource->row.vector, engine->config.site, engine->incarnation) + 1,
    };
    operation->stamp = engine__next_stamp(engine, resource, &event->now);
    code = look_back(engine, resource, operation, effects, &error);
    if (code != 0) {
        engine__refuse(event, code, error.text, effects);
        return;
    }
    accept(engine, event, resource, operation, effects);
}

void engine__on_request(struct chp_engine *engine, const struct chp_event *event,
                        struct chp_effects *effects)
{
    const struct chp_request *request = event->request.request;
    struct chp_error error = {0};
    int code = check(request, &error);
    if (code == 0) {
        code = check_files(request, &error);
    }
    if (code != 0) {
        engine__refuse(event, code, error.text, effects);
        return;
    }
    struct resource *resource = resource__get(engine, request->resource);
    if (request->key_given) {
        const struct recent_key *recent = keys__find(engine, request->principal, request->key);
        if (recent != NULL) {
            answer_known(engine, event, &recent->hash, &recent->operation,
                         resource != NULL && resource->exists ? &resource->row : NULL, effects);
            return;
        }
        if (!event->request.key_checked) {
            struct deferred *deferred = chp_alloc(sizeof *deferred);
            deferred->event = *event;
            chp_list_append(&engine->key_waiting, &deferred->link);
            struct chp_load *load = chp_batch_load(&effects->batch, CHP_LOAD_KEY);
            load->token = event->request.ticket;
            load->resource = request->resource;
            load->principal = request->principal;
            load->key = request->key;
            if (chp_map_get(engine->resources, chp_bytes_of(request->resource)) == NULL) {
                resource__defer(engine, request->resource, NULL, effects); /* on the same way */
            }
            return;
        }
    }
    if (resource == NULL) {
        resource__defer(engine, request->resource, event, effects);
        return;
    }
    resource__touch(engine, resource);
    admit(engine, event, resource, effects);
}

/* The store has looked the key up. */
void engine__on_key(struct chp_engine *engine, const struct chp_event *event,
                    struct chp_effects *effects)
{
    const struct chp_load *load = event->loaded;
    CHP_LIST_FOREACH_SAFE(&engine->key_waiting, link, following)
    {
        struct deferred *deferred = CHP_CONTAINER(link, struct deferred, link);
        if (deferred->event.request.ticket != load->token) {
            continue;
        }
        struct chp_event again = deferred->event;
        again.now = event->now;
        again.request.key_checked = true;
        engine__free_deferred(deferred);
        if (load->resource_result.key_found) {
            answer_known(engine, &again, &load->resource_result.key_hash,
                         &load->resource_result.key_operation,
                         load->found ? &load->resource_result.row : NULL, effects);
        } else {
            engine__on_request(engine, &again, effects);
        }
        return;
    }
    CHP_ASSERT(!"a key that nobody waits for");
}
