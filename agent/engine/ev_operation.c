/* SPDX-License-Identifier: AGPL-3.0-only */
/* An operation of another origin (design 4.4): into the set once, merged, run after its causes. */
#include "engine/internal.h"

#include <string.h>

/* An operation that has arrived: by its own stream, or given by a site that holds it. */
struct arrival {
    const struct chp_event *event;
    const struct chp_operation *operation;
    struct chp_bytes bytes;
    const struct chp_past *past; /* or NULL */
    bool looked_up;              /* its id is not known here */
};

static void set_members(struct resource *resource, const struct chp_operation *operation)
{
    struct chp_resource_row *row = &resource->row;
    const char **members = chp_arena_calloc(
        &resource->arena, row->member_count + operation->member_count, sizeof(char *));
    size_t count = 0;
    size_t a = 0;
    size_t b = 0;
    while (a < row->member_count || b < operation->member_count) {
        int order = a == row->member_count         ? 1
                    : b == operation->member_count ? -1
                                                   : strcmp(row->members[a], operation->members[b]);
        members[count++] = order <= 0 ? row->members[a]
                                      : chp_arena_strdup(&resource->arena, operation->members[b]);
        a += order <= 0;
        b += order >= 0;
    }
    row->members = members;
    row->member_count = count;
}

/* Gives all operations of this origin to the members that were not members when they were made. */
static void give_to_new(struct chp_engine *engine, const struct resource *resource,
                        const char *const *before, size_t before_count, struct chp_effects *effects)
{
    const struct chp_resource_row *row = &resource->row;
    uint64_t own = chp_vector_get(&row->vector, engine->config.site, engine->incarnation);
    for (size_t i = 0; own > 0 && i < row->member_count; i++) {
        struct peer *peer = engine__peer(engine, row->members[i]);
        if (peer == NULL || engine__contains(before, before_count, row->members[i])) {
            continue;
        }
        struct chp_load *load = chp_batch_load(&effects->batch, CHP_LOAD_RANGE);
        load->resource = chp_arena_strdup(&effects->batch.arena, row->id);
        load->range = (struct chp_range){.origin = engine->config.site,
                                         .incarnation = engine->incarnation,
                                         .first = 1,
                                         .last = own};
        load->site = peer->site;
        load->limit = own;
    }
}

/* This site is a member now: what it had admitted for others only is to run here, too. */
static void join_in(struct chp_engine *engine, struct resource *resource, const struct chp_now *now,
                    struct chp_effects *effects)
{
    for (size_t i = 0; resource->replica != NULL && i < chp_replica_count(resource->replica); i++) {
        struct chp_entry *entry = chp_replica_entry(resource->replica, i);
        if (entry->executes || strcmp(entry->dot.origin, engine->config.site) != 0) {
            continue;
        }
        entry->executes = true;
        struct chp_write *write = chp_batch_write(&effects->batch, CHP_WRITE_EXECUTION);
        write->execution.ack =
            (struct chp_ack){.operation = entry->id,
                             .resource = chp_arena_strdup(&effects->batch.arena, resource->row.id),
                             .site = engine->config.site,
                             .incarnation = engine->incarnation,
                             .state = CHP_STATE_ACCEPTED,
                             .exit_code = -1};
        write->execution.updated_ms = now->wall_ms;
        converge__changed(resource);
    }
}

static void take_creation(struct chp_engine *engine, struct resource *resource,
                          const struct chp_operation *operation)
{
    struct chp_resource_row *row = &resource->row;
    row->created = operation->stamp;
    row->created_origin = engine__intern(engine, operation->dot.origin);
    row->created_id = operation->id;
    row->created_ms = operation->entered_ms;
    row->level = operation->level;
    row->scope = chp_arena_strdup(&resource->arena, operation->scope);
    if (resource->replica == NULL) { /* else the replica knows which matrix is in force */
        row->config = chp_arena_strdup(&resource->arena, operation->config);
    }
}

static void tell_merged(struct chp_engine *engine, const struct resource *resource,
                        const struct chp_event *event, const struct chp_operation *operation,
                        struct chp_effects *effects)
{
    const struct chp_resource_row *row = &resource->row;
    struct chp_buf data = {0};
    chp_buf_add_text(&data, "{\"members\":");
    journal__add_strings(&data, row->members, row->member_count);
    chp_buf_add_text(&data, ",\"with\":");
    journal__add_string(&data, operation->dot.origin);
    chp_buf_add_byte(&data, '}');
    journal__add(engine,
                 &(struct journal_entry){.kind = "resource.merged",
                                         .resource = row->id,
                                         .operation = &operation->id,
                                         .data = journal__take(&data, effects)},
                 &event->now, effects);
}

/* Concurrent creations of one id are one resource (design section 6): union of the sites; level,
 * scope and matrix of the arbitration-first. */
static void merge(struct chp_engine *engine, struct resource *resource,
                  const struct chp_event *event, const struct chp_operation *operation,
                  struct chp_effects *effects)
{
    struct chp_resource_row *row = &resource->row;
    if (!operation->creates ||
        (row->created_origin != NULL && chp_uuid_equal(&row->created_id, &operation->id))) {
        return;
    }
    const char **before = row->members;
    size_t before_count = row->member_count;
    bool concurrent = row->created_origin != NULL; /* else later operations made it known */
    set_members(resource, operation);
    if (!concurrent ||
        chp_arbitration_compare(operation->stamp, operation->dot.origin, &operation->id,
                                row->created, row->created_origin, &row->created_id) < 0) {
        take_creation(engine, resource, operation);
    }
    if (concurrent) {
        row->merged = true;
        tell_merged(engine, resource, event, operation, effects);
    }
    give_to_new(engine, resource, before, before_count, effects);
    if (!engine__contains(before, before_count, engine->config.site)) {
        join_in(engine, resource, &event->now, effects);
    }
}

static void journal(struct chp_engine *engine, const struct chp_operation *operation,
                    bool clock_suspect, const struct chp_now *now, struct chp_effects *effects)
{
    struct chp_buf data = {0};
    chp_buf_add_text(&data, "{\"type\":");
    journal__add_string(&data, operation->type);
    chp_buf_add_text(&data, ",\"origin\":");
    journal__add_string(&data, operation->dot.origin);
    chp_buf_add_text(&data, clock_suspect ? ",\"clock_suspect\":true}" : "}");
    journal__add(engine,
                 &(struct journal_entry){.kind = "operation.received",
                                         .resource = operation->resource,
                                         .operation = &operation->id,
                                         .data = journal__take(&data, effects)},
                 now, effects);
}

/* The ack in bytes, which were checked when they were decoded; false when there are none. */
static bool ack_of(struct chp_bytes bytes, struct chp_effects *effects, struct chp_ack *ack)
{
    struct chp_item item;
    if (bytes.len == 0 || chp_item_decode(bytes, &effects->batch.arena, &item, NULL) != 0 ||
        item.kind != CHP_ITEM_ACK) {
        return false;
    }
    *ack = item.ack;
    return true;
}

/* The execution here of an operation that has just arrived, with the state that it begins with. */
static void begin(struct chp_engine *engine, struct resource *resource,
                  const struct arrival *arrival, struct chp_effects *effects)
{
    const struct chp_operation *operation = arrival->operation;
    const struct chp_now *now = &arrival->event->now;
    struct chp_ack ack = {.operation = operation->id,
                          .resource = operation->resource,
                          .site = engine->config.site,
                          .incarnation = engine->incarnation,
                          .state = CHP_STATE_DELIVERED,
                          .exit_code = -1};
    struct chp_ack told;
    bool ended = arrival->past != NULL && ack_of(arrival->past->theirs, effects, &told) &&
                 strcmp(told.site, engine->config.site) == 0 && chp_state_final(told.state);
    if (ended) {
        ack = told; /* its origin knows how it ended in an earlier life of this database */
        ack.incarnation = engine->incarnation;
        converge__recalled(engine, resource, operation, now, &ack);
    } else if (strcmp(operation->driver, CHP_DRIVER_INTERNAL) != 0 &&
               life__doubtful(engine, arrival->event, operation, arrival->past)) {
        ack = life__doubt(engine, operation, 0, now);
        converge__recalled(engine, resource, operation, now, &ack);
        engine__conclude(engine, operation, &ack, now, effects);
    }
    if (ack.state != CHP_STATE_IN_DOUBT) { /* that one is written by its answer */
        struct chp_write *write = chp_batch_write(&effects->batch, CHP_WRITE_EXECUTION);
        write->execution.ack = ack;
        write->execution.updated_ms = now->wall_ms;
        converge__fill(engine, &write->execution);
    }
    if (!ended) {
        if (ack.state != CHP_STATE_IN_DOUBT) {
            converge__begin(engine, resource, operation, &ack);
        }
        resource__add_pending(engine, resource, arrival->bytes, ack.state, ack.run);
    }
}

/* Its idempotency key was lost with it. What the client's request looked like is not in the
 * operation, so the hash is unknown: the key alone says that it is the same. */
static void restore_key(struct chp_engine *engine, const struct chp_operation *operation,
                        struct chp_effects *effects)
{
    struct chp_write *write = chp_batch_write(&effects->batch, CHP_WRITE_KEY);
    write->key.principal = operation->principal;
    write->key.key = operation->key;
    write->key.operation = operation->id;
    write->key.at_ms = operation->entered_ms;
    if (keys__find(engine, operation->principal, operation->key) == NULL) {
        keys__add(engine, operation->principal, operation->key, &write->key.hash, &operation->id);
    }
}

/* Operations of others are here to run; one's own were perhaps only for others. */
static bool executes(const struct chp_engine *engine, const struct resource *resource,
                     const struct chp_operation *operation)
{
    const char *site = engine->config.site;
    return strcmp(operation->dot.origin, site) != 0 ||
           engine__contains(operation->members, operation->member_count, site) ||
           engine__contains(resource->row.members, resource->row.member_count, site);
}

/* An operation of this site that its database had lost: its members are given it again, and answer
 * again what they know. */
static void begin_own(struct chp_engine *engine, struct resource *resource,
                      const struct arrival *arrival, struct chp_effects *effects)
{
    const struct chp_operation *operation = arrival->operation;
    const struct chp_now *now = &arrival->event->now;
    struct tracked *tracked = tracked__add(engine, operation, NULL, 0, now);
    struct chp_ack told;
    restore_key(engine, operation, effects);
    engine__deliver(engine, tracked, operation, arrival->bytes, effects);
    if (arrival->past != NULL && ack_of(arrival->past->ours, effects, &told) &&
        strcmp(told.site, arrival->event->item.from) == 0) {
        tracked__answer(engine, tracked, &told, now, effects);
    }
    if (executes(engine, resource, operation)) {
        begin(engine, resource, arrival, effects);
    }
}

static void store(struct chp_engine *engine, struct resource *resource,
                  const struct arrival *arrival, struct chp_effects *effects)
{
    const struct chp_operation *operation = arrival->operation;
    struct chp_write *write = chp_batch_write(&effects->batch, CHP_WRITE_OPERATION);
    write->operation.operation = operation;
    write->operation.item = arrival->bytes;
    write->operation.received_ms = arrival->event->now.wall_ms;
    bool clock_suspect = engine__leads(engine, operation->stamp, &arrival->event->now);
    write->operation.clock_suspect = clock_suspect;
    journal(engine, operation, clock_suspect, &arrival->event->now, effects);
    engine->arrived_us = arrival->event->now.mono_us;
    report__arrived(engine);
    if (strcmp(operation->dot.origin, engine->config.site) == 0) {
        begin_own(engine, resource, arrival, effects);
    } else {
        begin(engine, resource, arrival, effects);
    }
}

/* The sentence that refuses an operation, or NULL. */
static const char *refusal(const struct chp_engine *engine, const struct chp_operation *operation)
{
    if (!engine__is_known(engine, operation->dot.origin)) {
        return "its origin is not a site that is known here";
    }
    if (operation->level > CHP_LEVEL_EVENTUAL) {
        return "its level is not available here";
    }
    return NULL;
}

static void refuse(struct chp_engine *engine, const struct arrival *arrival, const char *reason,
                   struct chp_effects *effects)
{
    const struct chp_event *event = arrival->event;
    const struct chp_operation *operation = arrival->operation;
    struct chp_after *after = chp_effects_after(effects, CHP_AFTER_DEAD);
    after->settle.delivery = event->item.delivery;
    after->settle.reason = reason;
    after->settle.bytes = arrival->bytes; /* also of one that came wrapped */
    if (engine__peer(engine, operation->dot.origin) != NULL) {
        struct chp_ack ack = {
            .operation = operation->id,
            .resource = operation->resource,
            .site = engine->config.site,
            .incarnation = engine->incarnation,
            .state = CHP_STATE_REFUSED,
            .exit_code = -1,
            .reason = reason,
            .started_ms = event->now.wall_ms,
        };
        engine__send_ack(engine, operation->dot.origin, &ack, effects);
    }
    stream__settle(engine, event, effects);
}

/* An execution here is in doubt since another member gave the operation, and its origin knows how
 * it ended. */
static void end_doubt(struct chp_engine *engine, const struct arrival *arrival,
                      struct chp_effects *effects)
{
    const struct chp_operation *operation = arrival->operation;
    struct resource *resource = resource__get(engine, operation->resource);
    struct pending *pending = resource__find_pending(resource, &operation->id);
    struct chp_ack told;
    if (!ack_of(arrival->past->theirs, effects, &told) || !chp_state_final(told.state) ||
        strcmp(told.site, engine->config.site) != 0 || pending == NULL ||
        pending->state != CHP_STATE_IN_DOUBT) {
        return;
    }
    bool older = told.run < pending->run; /* than the doubt, of which its origin was told */
    told.incarnation = engine->incarnation;
    told.run = older ? pending->run : told.run;
    engine->resolved++;
    converge__ended(engine, resource, operation, &arrival->event->now, &told);
    converge__changed(resource);
    struct chp_write *write = chp_batch_write(&effects->batch, CHP_WRITE_EXECUTION);
    write->execution.ack = told;
    write->execution.updated_ms = arrival->event->now.wall_ms;
    converge__fill(engine, &write->execution);
    if (older && engine__peer(engine, operation->dot.origin) != NULL) {
        engine__send_ack(engine, operation->dot.origin, &told, effects);
    }
    resource__remove_pending(resource, pending);
    run__next(engine, resource, &arrival->event->now, effects);
}

/* Its dot is held here. When its origin gives it again, it has forgotten what it was told, or that
 * it gave this dot to another operation: the store knows. */
static void check_again(struct chp_engine *engine, const struct arrival *arrival,
                        struct chp_effects *effects)
{
    const struct chp_event *event = arrival->event;
    struct chp_ack told;
    if (arrival->past == NULL && strcmp(event->item.from, arrival->operation->dot.origin) == 0) {
        engine__look_up(engine, event, effects);
        return;
    }
    if (arrival->past != NULL) {
        end_doubt(engine, arrival, effects);
    }
    if (arrival->past != NULL && ack_of(arrival->past->ours, effects, &told) &&
        strcmp(arrival->operation->dot.origin, engine->config.site) == 0) {
        struct tracked *tracked = tracked__get(engine, &told.operation);
        if (tracked != NULL) {
            tracked__answer(engine, tracked, &told, &event->now, effects);
        }
    }
    stream__settle(engine, event, effects);
}

/* It is the next of its origin: into the set. */
static void hold(struct chp_engine *engine, struct resource *resource,
                 const struct arrival *arrival, struct chp_effects *effects)
{
    const struct chp_event *event = arrival->event;
    const struct chp_operation *operation = arrival->operation;
    struct chp_error error = {0};
    bool replicated = resource->replica != NULL;
    bool sequential = chp_vector_includes(&operation->context, &resource->row.vector);
    if (resource__take(engine, resource, operation, executes(engine, resource, operation),
                       &error) != 0) {
        refuse(engine, arrival, chp_arena_strdup(&effects->batch.arena, error.text), effects);
        return;
    }
    merge(engine, resource, event, operation, effects);
    resource__hold(engine, resource, operation);
    bool reload = replicated != (resource->row.level != CHP_LEVEL_NONE);
    converge__added(resource, operation, sequential);
    resource__advance(resource);
    store(engine, resource, arrival, effects);
    causes__want_all(engine, resource, operation, &event->now, effects);
    resource__write(resource, effects);
    report__held(engine, resource, effects);
    if (reload) {
        resource__reload(engine, resource, effects);
    } else {
        run__next(engine, resource, &event->now, effects);
    }
    stream__settle(engine, event, effects);
}

static void take(struct chp_engine *engine, const struct arrival *arrival,
                 struct chp_effects *effects)
{
    const struct chp_event *event = arrival->event;
    const struct chp_operation *operation = arrival->operation;
    const char *reason = refusal(engine, operation);
    if (reason != NULL) {
        refuse(engine, arrival, reason, effects);
        return;
    }
    struct resource *resource = resource__get(engine, operation->resource);
    if (resource == NULL) {
        resource__defer(engine, operation->resource, event, effects);
        return;
    }
    resource__touch(engine, resource);
    uint64_t have = resource->exists ? chp_vector_get(&resource->row.vector, operation->dot.origin,
                                                      operation->dot.incarnation)
                                     : 0;
    if (operation->dot.n <= have) {
        check_again(engine, arrival, effects);
        return;
    }
    if (strcmp(operation->dot.origin, engine->config.site) == 0 &&
        operation->dot.incarnation >= engine->incarnation) {
        life__regressed(engine,
                        "another site has an operation of this site's present life that "
                        "its database does not have",
                        operation->dot.incarnation, effects);
        return;
    }
    if (!resource->exists) {
        resource__create(engine, resource, operation);
    }
    if (operation->dot.n == have + 1 && !arrival->looked_up &&
        redot__has_other_lives(&resource->row.vector, &operation->dot)) {
        engine__look_up(engine, event, effects); /* it may be known by another dot */
        return;
    }
    if (operation->dot.n > have + 1) {
        /* Not taken before those that came before it: it comes again behind them. */
        causes__want(engine, resource, &operation->dot, &event->now, effects);
        resource__write(resource, effects);
        stream__settle(engine, event, effects);
        return;
    }
    hold(engine, resource, arrival, effects);
}

/* The operation of an item of either kind. */
static struct arrival arrival_of(const struct chp_event *event, struct chp_effects *effects)
{
    struct arrival arrival = {
        .event = event, .operation = &event->item.item->operation, .bytes = event->item.bytes};
    if (event->item.item->kind == CHP_ITEM_PAST) {
        struct chp_item *item = chp_arena_alloc(&effects->batch.arena, sizeof *item);
        arrival.past = &event->item.item->past;
        arrival.bytes = arrival.past->operation;
        /* The decoder of the whole has checked it. */
        CHP_ASSERT(chp_item_decode(arrival.bytes, &effects->batch.arena, item, NULL) == 0);
        CHP_ASSERT(item->kind == CHP_ITEM_OPERATION);
        arrival.operation = &item->operation;
    }
    return arrival;
}

void engine__look_up(struct chp_engine *engine, const struct chp_event *event,
                     struct chp_effects *effects)
{
    struct arrival arrival = arrival_of(event, effects);
    struct deferred *deferred = chp_alloc(sizeof *deferred);
    deferred->event = *event;
    chp_list_append(&engine->again, &deferred->link);
    struct chp_load *load = chp_batch_load(&effects->batch, CHP_LOAD_OPERATION);
    load->operation = arrival.operation->id;
    load->token = AGAIN_TOKEN;
}

void engine__on_operation(struct chp_engine *engine, const struct chp_event *event,
                          struct chp_effects *effects)
{
    struct arrival arrival = arrival_of(event, effects);
    take(engine, &arrival, effects);
}

/* Its origin does not know how it ended here. */
static void answer_again(struct chp_engine *engine, const char *origin, const struct chp_load *load,
                         struct chp_effects *effects)
{
    for (size_t i = 0; i < load->operation_result.execution_count; i++) {
        const struct chp_ack *ack = &load->operation_result.executions[i].ack;
        if (strcmp(ack->site, engine->config.site) == 0 &&
            (chp_state_final(ack->state) || ack->state == CHP_STATE_IN_DOUBT)) {
            engine__send_ack(engine, origin, ack, effects);
        }
    }
}

/* What the store knows of an operation's id is in. */
static void looked_up(struct chp_engine *engine, struct arrival *arrival,
                      const struct chp_load *load, struct chp_effects *effects)
{
    const struct chp_event *event = arrival->event;
    const struct chp_dot *dot = &arrival->operation->dot;
    struct resource *resource = resource__get(engine, arrival->operation->resource);
    if (resource == NULL) {
        resource__defer(engine, arrival->operation->resource, event, effects);
        return;
    }
    bool by_origin = strcmp(event->item.from, dot->origin) == 0;
    bool held = dot->n <= chp_vector_get(&resource->row.vector, dot->origin, dot->incarnation);
    if (!load->found && !held && !event->item.repeated) {
        arrival->looked_up = true;
        take(engine, arrival, effects);
        return;
    }
    bool forgotten =
        dot->n <= chp_vector_get(&resource->row.forgotten, dot->origin, dot->incarnation);
    if (!load->found && by_origin && !forgotten) {
        redot__demand(engine, event->item.from, arrival->operation, effects);
    } else if (load->found) {
        if (!held) {
            redot__follow(engine, resource, arrival->operation, arrival->bytes,
                          &load->operation_result.row->dot, effects);
        }
        if (by_origin) {
            answer_again(engine, dot->origin, load, effects);
        }
    }
    stream__settle(engine, event, effects);
}

void engine__on_looked_up(struct chp_engine *engine, const struct chp_load *load,
                          const struct chp_now *now, struct chp_effects *effects)
{
    CHP_LIST_FOREACH_SAFE(&engine->again, link, following)
    {
        struct deferred *deferred = CHP_CONTAINER(link, struct deferred, link);
        struct chp_event event = deferred->event;
        event.now = *now;
        struct arrival arrival = arrival_of(&event, effects);
        if (chp_uuid_equal(&arrival.operation->id, &load->operation)) {
            engine__free_deferred(deferred);
            looked_up(engine, &arrival, load, effects);
            return;
        }
    }
    CHP_ASSERT(!"an operation that was not looked up");
}
