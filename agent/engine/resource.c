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

struct resource *resource__get(const struct chp_engine *engine, const char *id)
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

static void load(const struct chp_engine *engine, const char *id, struct chp_effects *effects)
{
    struct chp_load *load = chp_batch_load(&effects->batch, CHP_LOAD_RESOURCE);
    load->resource = chp_arena_strdup(&effects->batch.arena, id);
    load->limit = engine->config.pending_max;
}

void resource__defer(struct chp_engine *engine, const char *id, const struct chp_event *event,
                     struct chp_effects *effects)
{
    struct resource *resource = chp_map_get(engine->resources, chp_bytes_of(id));
    if (resource == NULL) {
        resource = add(engine, id);
        load(engine, id, effects);
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
    converge__free(resource);
    free(resource->acked);
    chp_list_remove(&resource->lru);
    chp_arena_deinit(&resource->arena);
    free(resource);
}

bool resource__busy(const struct resource *resource)
{
    return resource->state == RESOURCE_LOADING || resource->running != NULL ||
           resource->refilling || resource->item_loading || !chp_list_empty(&resource->deferred);
}

static void forget_replica(struct chp_engine *engine, struct resource *resource)
{
    if (resource->replica != NULL) {
        engine->entry_count -= chp_replica_count(resource->replica);
        converge__free(resource);
        resource->course = (struct course){0};
    }
}

void resource__evict(struct chp_engine *engine)
{
    struct chp_list *link = engine->lru.next;
    while (link != &engine->lru &&
           (chp_map_count(engine->resources) > engine->config.resources_max ||
            engine->entry_count > ENTRIES_MAX)) {
        struct resource *resource = CHP_CONTAINER(link, struct resource, lru);
        link = link->next;
        if (resource__busy(resource)) {
            continue;
        }
        if (resource->pending_count + resource->pending_stored > 0 || resource->row.unsettled ||
            resource->row.degraded) {
            engine->busy_left = true;
        }
        forget_replica(engine, resource);
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
    resource->row.vector = chp_vector_copy(&row->vector, arena);
    resource->row.forgotten = chp_vector_copy(&row->forgotten, arena);
    resource->row.created_origin = engine__intern(engine, row->created_origin);
    resource->row.diverged = chp_arena_strdup(arena, row->diverged);
    resource->row.base_config = chp_arena_strdup(arena, row->base_config);
    resource->row.config = chp_arena_strdup(arena, row->config);
    resource->exists = true;
    if (row->level != CHP_LEVEL_NONE && resource->replica == NULL) {
        resource->replica = chp_replica_new(engine->matrices, row->base_config);
    }
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
    write->resource.diverged = chp_arena_strdup(arena, row->diverged);
    write->resource.base_config = chp_arena_strdup(arena, row->base_config);
    write->resource.members = chp_arena_strdup_all(arena, row->members, row->member_count);
    write->resource.vector = chp_vector_copy(&row->vector, arena);
    write->resource.forgotten = chp_vector_copy(&row->forgotten, arena);
}

void resource__keep_pending(struct resource *resource, struct chp_bytes item, enum chp_state state,
                            uint32_t run)
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
    chp_list_append(&resource->pending, &pending->link);
    resource->pending_count++;
}

void resource__add_pending(struct chp_engine *engine, struct resource *resource,
                           struct chp_bytes item, enum chp_state state, uint32_t run)
{
    bool held = state == CHP_STATE_IN_DOUBT || state == CHP_STATE_RUNNING;
    bool full = resource->pending_count >= engine->config.pending_max;
    if (resource->replica != NULL ? full && !held : full || resource->pending_stored > 0) {
        /* Further ones are only in the store: found there when their turn comes. */
        resource->pending_stored++;
        return;
    }
    resource__keep_pending(resource, item, state, run);
}

int resource__take(struct chp_engine *engine, struct resource *resource,
                   const struct chp_operation *operation, bool executes, struct chp_error *error)
{
    struct chp_entry *entry = NULL;
    struct chp_resource_row *row = &resource->row;
    if (resource->replica == NULL) {
        if (operation->config != NULL && !operation->creates) {
            row->config = chp_arena_strdup(&resource->arena, operation->config);
            row->config_version++;
        }
        return 0;
    }
    size_t count = chp_replica_count(resource->replica);
    int code = chp_replica_add(resource->replica, operation, &row->vector, &entry, error);
    if (code != 0) {
        return code;
    }
    engine->entry_count += chp_replica_count(resource->replica) - count;
    entry->executes = executes;
    if (!entry->waits) {
        stable__learn(engine, resource, operation);
    }
    if (operation->creates || operation->config != NULL) {
        row->config = chp_arena_strdup(&resource->arena, chp_replica_config(resource->replica));
        row->config_version = chp_replica_config_version(resource->replica);
    }
    return 0;
}

void resource__advance(struct resource *resource)
{
    if (resource->replica != NULL &&
        chp_replica_advance(resource->replica, &resource->row.vector)) {
        converge__changed(resource);
    }
}

/* What is read again is copied again. */
static void renew_arena(struct resource *resource)
{
    struct chp_arena before = resource->arena;
    resource->arena = (struct chp_arena){0};
    resource->row =
        (struct chp_resource_row){.id = chp_arena_strdup(&resource->arena, resource->row.id)};
    resource->stable = chp_vector_copy(&resource->stable, &resource->arena);
    chp_arena_deinit(&before);
}

void resource__reload(struct chp_engine *engine, struct resource *resource,
                      struct chp_effects *effects)
{
    CHP_LIST_FOREACH_SAFE(&resource->pending, link, following)
    {
        free_pending(CHP_CONTAINER(link, struct pending, link));
    }
    forget_replica(engine, resource);
    renew_arena(resource);
    resource->pending_count = 0;
    resource->pending_stored = 0;
    resource->running = NULL; /* what runs is resumed */
    resource->refilling = false;
    resource->item_loading = false;
    resource->effect_last = 0;
    resource->state = RESOURCE_LOADING;
    load(engine, resource->row.id, effects);
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

struct pending *resource__undoing(struct resource *resource)
{
    CHP_LIST_FOREACH_SAFE(&resource->pending, link, following)
    {
        struct pending *pending = CHP_CONTAINER(link, struct pending, link);
        if (chp_replica_find(resource->replica, &pending->operation->id)->undoing) {
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
