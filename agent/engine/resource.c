/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Resources in memory: a cache over the store. One is kept while something of it is in flight (a
 * load, a run, an event that waits); others go when there are more than resources_max, the one used
 * longest ago first. One that goes with operations that have yet to run is found again by the scan
 * of busy resources.
 */
#include "engine/internal.h"

#include <stdlib.h>
#include <string.h>

struct resource *resource__get(struct chp_engine *engine, const char *id)
{
    struct resource *resource = chp_map_get(engine->resources, chp_bytes_of(id));
    return resource != NULL && resource->state == RESOURCE_READY ? resource : NULL;
}

void resource__touch(struct chp_engine *engine, struct resource *resource)
{
    chp_list_remove(&resource->lru);
    chp_list_append(&engine->lru, &resource->lru);
}

static struct resource *add(struct chp_engine *engine, const char *id)
{
    struct resource *resource = chp_alloc(sizeof *resource);
    chp_list_init(&resource->pending);
    chp_list_init(&resource->deferred);
    resource->row.id = chp_arena_strdup(&resource->arena, id);
    chp_list_append(&engine->lru, &resource->lru);
    chp_map_put(engine->resources, chp_bytes_of(id), resource);
    return resource;
}

void resource__defer(struct chp_engine *engine, const char *id, const struct chp_event *event,
                     struct chp_effects *effects)
{
    struct resource *resource = chp_map_get(engine->resources, chp_bytes_of(id));
    if (resource == NULL) {
        resource = add(engine, id);
        struct chp_load *load = chp_batch_load(&effects->batch, CHP_LOAD_RESOURCE);
        load->resource = chp_arena_strdup(&effects->batch.arena, id);
        load->limit = engine->config.pending_max;
    }
    CHP_ASSERT(resource->state == RESOURCE_LOADING);
    if (event != NULL) {
        struct deferred *deferred = chp_alloc(sizeof *deferred);
        deferred->event = *event;
        chp_list_append(&resource->deferred, &deferred->link);
    }
}

static void free_pending(struct pending *pending)
{
    struct chp_arena arena = pending->arena;
    chp_list_remove(&pending->link);
    free(pending);
    chp_arena_deinit(&arena);
}

void resource__free(struct resource *resource)
{
    CHP_LIST_FOREACH_SAFE(&resource->pending, link, following)
    {
        free_pending(CHP_CONTAINER(link, struct pending, link));
    }
    CHP_LIST_FOREACH_SAFE(&resource->deferred, waiting, after_it)
    {
        engine__free_deferred(CHP_CONTAINER(waiting, struct deferred, link));
    }
    causes__free(resource);
    chp_list_remove(&resource->lru);
    chp_arena_deinit(&resource->arena);
    free(resource);
}

bool resource__busy(const struct resource *resource)
{
    return resource->state == RESOURCE_LOADING || resource->running != NULL ||
           resource->refilling || !chp_list_empty(&resource->deferred);
}

void resource__evict(struct chp_engine *engine)
{
    struct chp_list *link = engine->lru.next;
    while (link != &engine->lru &&
           chp_map_count(engine->resources) > engine->config.resources_max) {
        struct resource *resource = CHP_CONTAINER(link, struct resource, lru);
        link = link->next;
        if (resource__busy(resource)) {
            continue;
        }
        if (resource->pending_count + resource->pending_stored > 0) {
            engine->busy_left = true;
        }
        chp_map_remove(engine->resources, chp_bytes_of(resource->row.id));
        resource__free(resource);
    }
}

void resource__set_row(struct chp_engine *engine, struct resource *resource,
                       const struct chp_resource_row *row)
{
    struct chp_arena *arena = &resource->arena;
    const char *id = resource->row.id;
    resource->row = *row;
    resource->row.id = id;
    resource->row.scope = chp_arena_strdup(arena, row->scope);
    resource->row.members = chp_arena_strdup_all(arena, row->members, row->member_count);
    resource->row.vector = (struct chp_vector){0};
    for (size_t i = 0; i < row->vector.count; i++) {
        const struct chp_dot *dot = &row->vector.entries[i];
        chp_vector_set(&resource->row.vector, arena, engine__intern(engine, dot->origin),
                       dot->incarnation, dot->n);
    }
    resource->row.created_origin = engine__intern(engine, row->created_origin);
    resource->row.executed_origin = engine__intern(engine, row->executed_origin);
    resource->row.config = chp_arena_strdup(arena, row->config);
    resource->exists = true;
}

void resource__create(struct chp_engine *engine, struct resource *resource,
                      const struct chp_operation *operation)
{
    struct chp_resource_row row = {
        .id = operation->resource,
        .level = operation->level,
        .scope = operation->scope,
        .members = operation->members,
        .member_count = operation->member_count,
        .created_ms = operation->entered_ms,
        .config = operation->config,
        .config_version = operation->config == NULL ? 0 : 1,
    };
    if (operation->creates) {
        row.created = operation->stamp;
        row.created_origin = operation->dot.origin;
        row.created_id = operation->id;
    }
    resource__set_row(engine, resource, &row);
}

void resource__write(struct resource *resource, struct chp_effects *effects)
{
    struct chp_batch *batch = &effects->batch;
    struct chp_arena *arena = &batch->arena;
    struct chp_write *write = NULL;
    if (resource->write_index < batch->write_count) {
        /* One write for each resource and batch: an earlier one is brought up to date. */
        write = &batch->writes[resource->write_index];
        if (write->kind != CHP_WRITE_RESOURCE ||
            strcmp(write->resource.id, resource->row.id) != 0) {
            write = NULL;
        }
    }
    if (write == NULL) {
        resource->write_index = batch->write_count;
        write = chp_batch_write(batch, CHP_WRITE_RESOURCE);
    }
    /* Copied, since the resource may change or go before the batch has committed. */
    const struct chp_resource_row *row = &resource->row;
    write->resource = *row;
    write->resource.id = chp_arena_strdup(arena, row->id);
    write->resource.scope = chp_arena_strdup(arena, row->scope);
    write->resource.config = chp_arena_strdup(arena, row->config);
    write->resource.members = chp_arena_strdup_all(arena, row->members, row->member_count);
    write->resource.vector.entries =
        chp_arena_calloc(arena, row->vector.count, sizeof(struct chp_dot));
    for (size_t i = 0; i < row->vector.count; i++) {
        write->resource.vector.entries[i] = row->vector.entries[i];
        write->resource.vector.entries[i].origin =
            chp_arena_strdup(arena, row->vector.entries[i].origin);
    }
}

/* Whether a runs before b: arbitration order, which puts causes first; for level none the order of
 * arrival. */
static bool runs_before(const struct resource *resource, const struct chp_operation *a,
                        const struct chp_operation *b)
{
    return resource->row.level != CHP_LEVEL_NONE &&
           chp_arbitration_compare(a->stamp, a->dot.origin, &a->id, b->stamp, b->dot.origin,
                                   &b->id) < 0;
}

void resource__add_pending(struct chp_engine *engine, struct resource *resource,
                           struct chp_bytes item, enum chp_state state, uint32_t run)
{
    struct pending *pending = chp_alloc(sizeof *pending);
    struct chp_item decoded;
    pending->item = chp_arena_bytes(&pending->arena, item);
    /* What comes here was encoded here, or decoded before it was stored. */
    CHP_ASSERT(chp_item_decode(pending->item, &pending->arena, &decoded, NULL) == 0);
    CHP_ASSERT(decoded.kind == CHP_ITEM_OPERATION);
    struct chp_operation *operation = chp_arena_alloc(&pending->arena, sizeof *operation);
    *operation = decoded.operation;
    pending->operation = operation;
    pending->state = state;
    pending->run = run;

    struct chp_list *before = resource->pending.prev;
    while (
        before != &resource->pending &&
        runs_before(resource, operation, CHP_CONTAINER(before, struct pending, link)->operation)) {
        before = before->prev;
    }
    bool last = before == resource->pending.prev;
    if (last && resource->pending_stored > 0) {
        /* Further ones are only in the store already; the next refill finds it in its place. */
        resource->pending_stored++;
        free_pending(pending);
        return;
    }
    chp_list_prepend(before, &pending->link);
    resource->pending_count++;
    if (resource->pending_count > engine->config.pending_max) {
        struct pending *tail = CHP_CONTAINER(resource->pending.prev, struct pending, link);
        if (tail != resource->running && !tail->fetching) {
            resource__remove_pending(resource, tail);
            resource->pending_stored++;
        }
    }
}

void resource__replace_pending(struct resource *resource, const struct chp_operation *operation,
                               struct chp_bytes item)
{
    struct pending *pending = resource__find_pending(resource, &operation->id);
    if (pending == NULL) {
        return;
    }
    struct chp_item decoded;
    pending->item = chp_arena_bytes(&pending->arena, item);
    CHP_ASSERT(chp_item_decode(pending->item, &pending->arena, &decoded, NULL) == 0);
    struct chp_operation *copy = chp_arena_alloc(&pending->arena, sizeof *copy);
    *copy = decoded.operation;
    pending->operation = copy;
}

struct pending *resource__find_pending(struct resource *resource, const struct chp_uuid *id)
{
    CHP_LIST_FOREACH_SAFE(&resource->pending, link, following)
    {
        struct pending *pending = CHP_CONTAINER(link, struct pending, link);
        if (chp_uuid_equal(&pending->operation->id, id)) {
            return pending;
        }
    }
    return NULL;
}

void resource__remove_pending(struct resource *resource, struct pending *pending)
{
    if (resource->running == pending) {
        resource->running = NULL;
    }
    resource->pending_count--;
    free_pending(pending);
}

void resource__hold(struct chp_engine *engine, struct resource *resource,
                    const struct chp_operation *operation)
{
    struct chp_resource_row *row = &resource->row;
    chp_vector_set(&row->vector, &resource->arena, engine__intern(engine, operation->dot.origin),
                   operation->dot.incarnation, operation->dot.n);
    if (chp_stamp_compare(row->highest, operation->stamp) < 0) {
        row->highest = operation->stamp;
    }
}
