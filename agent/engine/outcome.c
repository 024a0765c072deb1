/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Operations that failed (design section 6). When every member has said so, the origin issues a
 * void: an operation like others, by which the failed one does not count any more, and what it had
 * displaced is back. When one member has succeeded, the origin passes its ack on to those that
 * failed: their replicas are degraded and try again.
 */
#include "engine/internal.h"

#include <stdlib.h>
#include <string.h>

enum { RETRY_US = 5000000, RETRY_DOUBLINGS_MAX = 7 };

struct voiding {
    struct chp_list link; /* in engine.voids */
    struct chp_uuid operation;
    char resource[];
};

void outcome__deinit(struct chp_engine *engine)
{
    CHP_LIST_FOREACH_SAFE(&engine->voids, link, following)
    {
        free(CHP_CONTAINER(link, struct voiding, link));
    }
}

void outcome__failed_everywhere(struct chp_engine *engine, const char *resource,
                                const struct chp_uuid *operation)
{
    size_t size = strlen(resource) + 1;
    struct voiding *voiding = chp_alloc(sizeof *voiding + size);
    voiding->operation = *operation;
    memcpy(voiding->resource, resource, size);
    chp_list_append(&engine->voids, &voiding->link);
}

static bool is_voided(struct chp_replica *replica, const struct chp_uuid *target)
{
    for (size_t i = 0; i < chp_replica_count(replica); i++) {
        const struct chp_entry *entry = chp_replica_entry(replica, i);
        if (entry->is_void && chp_uuid_equal(&entry->target, target)) {
            return true;
        }
    }
    return false;
}

/* The same void has the same id, however often it is made. */
static struct chp_uuid void_id(const struct chp_uuid *target, const struct chp_now *now)
{
    struct chp_buf text = {0};
    chp_buf_add_text(&text, "void ");
    chp_buf_add(&text, target->bytes, sizeof target->bytes);
    struct chp_sha256 hash = chp_sha256_of(text.data, text.len);
    chp_buf_deinit(&text);
    return chp_uuid_v7(now->wall_ms, hash.bytes);
}

static void issue(struct chp_engine *engine, struct resource *resource,
                  const struct chp_uuid *target, const struct chp_now *now,
                  struct chp_effects *effects)
{
    struct chp_arena *arena = &effects->batch.arena;
    const struct chp_resource_row *row = &resource->row;
    struct chp_operation *operation = chp_arena_alloc(arena, sizeof *operation);
    char text[CHP_UUID_TEXT_BYTES];
    struct chp_bytes item;
    chp_uuid_format(target, text);
    *operation = (struct chp_operation){
        .id = void_id(target, now),
        .resource = chp_arena_strdup(arena, row->id),
        .type = CHP_TYPE_VOID,
        .level = row->level,
        .scope = chp_arena_strdup(arena, row->scope),
        .members = chp_arena_strdup_all(arena, row->members, row->member_count),
        .member_count = row->member_count,
        .driver = CHP_DRIVER_INTERNAL,
        .payload = chp_arena_bytes(arena, chp_bytes(target->bytes, sizeof target->bytes)),
        .summary = chp_arena_printf(arena, "voids %s", text),
        .key = chp_arena_printf(arena, "void-%s", text),
        .principal = CHP_DRIVER_INTERNAL,
        .entered_ms = now->wall_ms,
        .deadline_ms = CHP_DEADLINE_DEFAULT_MS,
        .stamp = engine__next_stamp(engine, resource, now),
        .dot = {.origin = engine->config.site,
                .incarnation = engine->incarnation,
                .n = chp_vector_get(&row->vector, engine->config.site, engine->incarnation) + 1},
    };
    chp_replica_context(resource->replica, &row->vector, arena, &operation->context);
    if (engine__encode(operation, effects, &item, NULL) == 0) {
        engine__enter(engine, resource, operation, item, NULL, now, effects);
    }
}

void outcome__issue_voids(struct chp_engine *engine, const struct chp_now *now,
                          struct chp_effects *effects)
{
    CHP_LIST_FOREACH_SAFE(&engine->voids, link, following)
    {
        struct voiding *voiding = CHP_CONTAINER(link, struct voiding, link);
        struct resource *resource = resource__get(engine, voiding->resource);
        if (resource == NULL) {
            /* Again when it has been read. */
            if (chp_map_get(engine->resources, chp_bytes_of(voiding->resource)) == NULL) {
                resource__defer(engine, voiding->resource, NULL, effects);
            }
            continue;
        }
        if (resource->replica != NULL && !is_voided(resource->replica, &voiding->operation)) {
            issue(engine, resource, &voiding->operation, now, effects);
        }
        chp_list_remove(&voiding->link);
        free(voiding);
    }
}

void outcome__voided(struct resource *resource, const struct chp_entry *entry,
                     struct chp_effects *effects)
{
    struct chp_entry *target = chp_replica_find(resource->replica, &entry->target);
    if (target != NULL &&
        (target->state == CHP_STATE_FAILED || target->state == CHP_STATE_REFUSED)) {
        target->state = CHP_STATE_VOIDED;
    }
    chp_batch_write(&effects->batch, CHP_WRITE_VOIDED)->voided = entry->target;
}

void outcome__retry_later(struct chp_entry *entry, const struct chp_now *now)
{
    unsigned doublings =
        entry->retries < RETRY_DOUBLINGS_MAX ? entry->retries : RETRY_DOUBLINGS_MAX;
    entry->retries++;
    entry->retry_us = now->mono_us + ((uint64_t)RETRY_US << doublings);
}

void outcome__done_elsewhere(struct chp_engine *engine, const char *resource_id,
                             const struct chp_uuid *operation, const struct chp_now *now,
                             struct chp_effects *effects)
{
    struct resource *resource = resource__get(engine, resource_id);
    struct chp_entry *entry = converge__entry(engine, resource_id, operation);
    if (entry == NULL) {
        if (chp_map_get(engine->resources, chp_bytes_of(resource_id)) == NULL) {
            resource__defer(engine, resource_id, NULL, effects); /* its load will say so */
        }
        return;
    }
    entry->done_elsewhere = true;
    converge__show(engine, resource, now, effects);
}

void outcome__tick(struct chp_engine *engine, struct resource *resource, const struct chp_now *now,
                   struct chp_effects *effects)
{
    bool again = false;
    if (resource->replica == NULL || !resource->has_failed) {
        return;
    }
    for (size_t i = 0; i < chp_replica_count(resource->replica); i++) {
        struct chp_entry *entry = chp_replica_entry(resource->replica, i);
        if (entry->held_back && entry->done_elsewhere && entry->retry_us <= now->mono_us &&
            entry->state != CHP_STATE_VOIDED) {
            entry->held_back = false;
            again = true;
        }
    }
    if (again) {
        converge__changed(resource);
        run__next(engine, resource, now, effects);
    }
}
