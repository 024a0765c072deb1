/* SPDX-License-Identifier: AGPL-3.0-only */
/* An operation of another origin (design 4.4): into the set once, merged, run after its causes. */
#include "engine/internal.h"

#include <string.h>

/* Asks peer for the dots of one origin that are missing here before up_to. */
static void want(struct chp_engine *engine, const struct resource *resource,
                 const struct chp_dot *up_to, struct chp_effects *effects)
{
    struct peer *peer = engine__peer(engine, up_to->origin);
    if (peer == NULL) {
        return; /* an origin that is not known here: only its configuration can help */
    }
    uint64_t have = chp_vector_get(&resource->row.vector, up_to->origin, up_to->incarnation);
    struct chp_item item = {.kind = CHP_ITEM_WANT,
                            .want = {.resource = resource->row.id,
                                     .range = {.origin = up_to->origin,
                                               .incarnation = up_to->incarnation,
                                               .first = have + 1,
                                               .last = up_to->n}}};
    stream__control(peer, &item, effects);
}

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
    set_members(resource, operation);
    if (row->created_origin == NULL ||
        chp_arbitration_compare(operation->stamp, operation->dot.origin, &operation->id,
                                row->created, row->created_origin, &row->created_id) < 0) {
        bool concurrent = row->created_origin != NULL;
        row->created = operation->stamp;
        row->created_origin = engine__intern(engine, operation->dot.origin);
        row->created_id = operation->id;
        row->created_ms = operation->entered_ms;
        row->level = operation->level;
        row->scope = chp_arena_strdup(&resource->arena, operation->scope);
        row->config = chp_arena_strdup(&resource->arena, operation->config);
        if (!concurrent) {
            return; /* the creation of what later operations have made known already */
        }
    }
    row->merged = true;
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
    give_to_new(engine, resource, before, before_count, effects);
}

static void store(struct chp_engine *engine, const struct chp_event *event,
                  struct resource *resource, struct chp_effects *effects)
{
    const struct chp_operation *operation = &event->item.item->operation;
    struct chp_write *write = chp_batch_write(&effects->batch, CHP_WRITE_OPERATION);
    write->operation.operation = operation;
    write->operation.item = event->item.bytes;
    write->operation.received_ms = event->now.wall_ms;
    write = chp_batch_write(&effects->batch, CHP_WRITE_EXECUTION);
    write->execution.ack.operation = operation->id;
    write->execution.ack.resource = operation->resource;
    write->execution.ack.site = engine->config.site;
    write->execution.ack.incarnation = engine->incarnation;
    write->execution.ack.state = CHP_STATE_DELIVERED;
    write->execution.ack.exit_code = -1;
    write->execution.updated_ms = event->now.wall_ms;
    struct chp_buf data = {0};
    chp_buf_add_text(&data, "{\"type\":");
    journal__add_string(&data, operation->type);
    chp_buf_add_text(&data, ",\"origin\":");
    journal__add_string(&data, operation->dot.origin);
    chp_buf_add_byte(&data, '}');
    journal__add(engine,
                 &(struct journal_entry){.kind = "operation.received",
                                         .resource = operation->resource,
                                         .operation = &operation->id,
                                         .data = journal__take(&data, effects)},
                 &event->now, effects);
    resource__add_pending(engine, resource, event->item.bytes, CHP_STATE_DELIVERED, 0);
}

static void want_causes(struct chp_engine *engine, const struct resource *resource,
                        const struct chp_operation *operation, struct chp_effects *effects)
{
    for (size_t i = 0; i < operation->context.count; i++) {
        const struct chp_dot *dot = &operation->context.entries[i];
        if (chp_vector_get(&resource->row.vector, dot->origin, dot->incarnation) < dot->n) {
            want(engine, resource, dot, effects);
        }
    }
}

/* The sentence that refuses an operation, or NULL. */
static const char *refusal(const struct chp_engine *engine, const struct chp_operation *operation)
{
    if (!engine__is_known(engine, operation->dot.origin)) {
        return "its origin is not a site that is known here";
    }
    if (strcmp(operation->dot.origin, engine->config.site) == 0) {
        return "it claims to come from this site";
    }
    if (operation->level > CHP_LEVEL_EVENTUAL) {
        return "its level is not available here";
    }
    return NULL;
}

static void refuse(struct chp_engine *engine, const struct chp_event *event, const char *reason,
                   struct chp_effects *effects)
{
    const struct chp_operation *operation = &event->item.item->operation;
    struct chp_after *after = chp_effects_after(effects, CHP_AFTER_DEAD);
    after->settle.delivery = event->item.delivery;
    after->settle.reason = reason;
    after->settle.bytes = event->item.bytes;
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

void engine__on_operation(struct chp_engine *engine, const struct chp_event *event,
                          struct chp_effects *effects)
{
    const struct chp_operation *operation = &event->item.item->operation;
    const char *reason = refusal(engine, operation);
    if (reason != NULL) {
        refuse(engine, event, reason, effects);
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
        stream__settle(engine, event, effects); /* held already */
        return;
    }
    if (!resource->exists) {
        resource__create(engine, resource, operation);
    }
    if (operation->dot.n > have + 1) {
        /* Not taken before those that came before it: it comes again behind them. */
        want(engine, resource, &operation->dot, effects);
        resource__write(resource, effects);
        stream__settle(engine, event, effects);
        return;
    }
    merge(engine, resource, event, operation, effects);
    resource__hold(engine, resource, operation);
    store(engine, event, resource, effects);
    want_causes(engine, resource, operation, effects);
    resource__write(resource, effects);
    run__next(engine, resource, &event->now, effects);
    stream__settle(engine, event, effects);
}
