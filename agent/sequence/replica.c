/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * The replica: entries for all operations, of which those whose causes are held are in the
 * sequence.
 *
 * Under which matrix an operation was made is not in it: it follows from what it has seen. Of the
 * creations in its past the arbitration-first counts (design section 6), and of what was configured
 * later the highest; the higher of these two decides.
 */
#include "sequence/replica.h"

#include "sequence/matrices.h"

#include "base/map.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

/* An entry, with what the sequence will need of an operation that waits. */
struct held {
    struct chp_entry entry;
    struct chp_arena arena; /* of what waits */
    struct chp_vector context;
    const struct chp_range *displaces;
    size_t displaces_count;
};

/* An operation that says, or leaves open, which matrix holds from then on. */
struct config {
    const struct chp_entry *entry;
    bool creates;
    struct compiled *compiled;
};

struct chp_replica {
    struct chp_matrices *matrices;
    struct compiled *base;  /* or NULL */
    struct compiled **used; /* each once: the sequence goes on pointing to them */
    size_t used_count;
    struct chp_sequence *sequence;
    struct chp_map *by_id; /* struct held * */
    struct held **held;
    size_t count;
    size_t cap;
    size_t waiting;
    struct config *configs;
    size_t config_count;
    struct chp_arena names; /* origins and types */
    struct chp_map *interned;
};

static struct compiled *use(struct chp_replica *replica, const char *text)
{
    struct compiled *compiled = matrices__use(replica->matrices, text);
    for (size_t i = 0; i < replica->used_count; i++) {
        if (replica->used[i] == compiled) {
            matrices__leave(replica->matrices, compiled);
            return compiled;
        }
    }
    replica->used =
        chp_realloc(replica->used, (replica->used_count + 1) * sizeof(struct compiled *));
    replica->used[replica->used_count++] = compiled;
    return compiled;
}

struct chp_replica *chp_replica_new(struct chp_matrices *matrices, const char *base)
{
    struct chp_replica *replica = chp_alloc(sizeof *replica);
    replica->matrices = matrices;
    replica->base = base == NULL ? NULL : use(replica, base);
    replica->sequence = chp_sequence_new();
    replica->by_id = chp_map_new((uint64_t)(uintptr_t)replica);
    replica->interned = chp_map_new((uint64_t)(uintptr_t)replica);
    return replica;
}

void chp_replica_free(struct chp_replica *replica)
{
    if (replica == NULL) {
        return;
    }
    chp_sequence_free(replica->sequence);
    for (size_t i = 0; i < replica->count; i++) {
        chp_arena_deinit(&replica->held[i]->arena);
        free(replica->held[i]);
    }
    for (size_t i = 0; i < replica->used_count; i++) {
        matrices__leave(replica->matrices, replica->used[i]);
    }
    free(replica->used);
    chp_map_free(replica->by_id);
    chp_map_free(replica->interned);
    chp_arena_deinit(&replica->names);
    free(replica->held);
    free(replica->configs);
    free(replica);
}

static struct chp_bytes key_of(const struct chp_uuid *id)
{
    return chp_bytes(id->bytes, sizeof id->bytes);
}

static const char *intern(struct chp_replica *replica, const char *name)
{
    char *known = chp_map_get(replica->interned, chp_bytes_of(name));
    if (known == NULL) {
        known = chp_arena_strdup(&replica->names, name);
        chp_map_put(replica->interned, chp_bytes_of(known), known);
    }
    return known;
}

static bool in_vector(const struct chp_vector *vector, const struct chp_dot *dot)
{
    return chp_vector_get(vector, dot->origin, dot->incarnation) >= dot->n;
}

int replica__compare(const struct chp_entry *a, const struct chp_entry *b)
{
    return chp_arbitration_compare(a->stamp, a->dot.origin, &a->id, b->stamp, b->dot.origin,
                                   &b->id);
}

static struct compiled *higher(struct compiled *a, struct compiled *b)
{
    return a == NULL || (b != NULL && chp_matrix_compare(b->matrix, a->matrix) > 0) ? b : a;
}

/* In force for who has seen context (NULL: everything), with self, when it is not NULL, too. */
static struct compiled *in_force(const struct chp_replica *replica,
                                 const struct chp_vector *context, const struct chp_entry *self)
{
    const struct config *created = NULL;
    struct compiled *later = NULL;
    for (size_t i = 0; i < replica->config_count; i++) {
        const struct config *config = &replica->configs[i];
        bool is_self = self != NULL && config->entry == self;
        if (!is_self && context != NULL && !in_vector(context, &config->entry->dot)) {
            continue;
        }
        if (!config->creates) {
            later = higher(later, config->compiled);
        } else if (created == NULL || replica__compare(config->entry, created->entry) < 0) {
            created = config;
        }
    }
    struct compiled *first = replica->base != NULL ? replica->base
                             : created != NULL     ? created->compiled
                                                   : NULL;
    struct compiled *decides = higher(first, later);
    return decides != NULL ? decides : matrices__use(replica->matrices, NULL);
}

static void note_config(struct chp_replica *replica, const struct held *held,
                        const struct chp_operation *operation)
{
    if (!operation->creates && operation->config == NULL) {
        return;
    }
    replica->configs =
        chp_realloc(replica->configs, (replica->config_count + 1) * sizeof *replica->configs);
    replica->configs[replica->config_count++] =
        (struct config){.entry = &held->entry,
                        .creates = operation->creates,
                        .compiled = use(replica, operation->config)};
}

/* Into the sequence: its causes are there. */
static int join(struct chp_replica *replica, struct held *held, struct chp_error *error)
{
    struct chp_entry *entry = &held->entry;
    if (entry->is_void) {
        (void)chp_sequence_void(replica->sequence, &entry->target);
        return 0;
    }
    struct chp_sequence_operation operation = {
        .id = entry->id,
        .dot = entry->dot,
        .stamp = entry->stamp,
        .type = entry->type,
        .matrix = in_force(replica, &held->context, entry)->matrix,
        .context = held->context,
        .displaces = held->displaces,
        .displaces_count = held->displaces_count,
    };
    return chp_sequence_add(replica->sequence, &operation, error);
}

static void copy_waiting(struct held *held, const struct chp_operation *operation)
{
    struct chp_arena *arena = &held->arena;
    struct chp_range *displaces =
        chp_arena_calloc(arena, operation->displaces_count, sizeof *displaces);
    held->context = chp_vector_copy(&operation->context, arena);
    for (size_t i = 0; i < operation->displaces_count; i++) {
        displaces[i] = operation->displaces[i];
        displaces[i].origin = chp_arena_strdup(arena, operation->displaces[i].origin);
    }
    held->displaces = displaces;
}

static struct held *held_new(struct chp_replica *replica, const struct chp_operation *operation)
{
    struct held *held = chp_alloc(sizeof *held);
    struct chp_entry *entry = &held->entry;
    entry->id = operation->id;
    entry->dot = operation->dot;
    entry->dot.origin = intern(replica, operation->dot.origin);
    entry->stamp = operation->stamp;
    entry->type = intern(replica, operation->type);
    entry->has_undo = operation->undo.len > 0;
    entry->is_void = strcmp(operation->driver, CHP_DRIVER_INTERNAL) == 0 &&
                     strcmp(operation->type, CHP_TYPE_VOID) == 0 &&
                     operation->payload.len == sizeof entry->target.bytes;
    if (entry->is_void) {
        memcpy(entry->target.bytes, operation->payload.data, sizeof entry->target.bytes);
    }
    held->context = operation->context;
    held->displaces = operation->displaces;
    held->displaces_count = operation->displaces_count;
    return held;
}

static void forget_context(struct held *held)
{
    chp_arena_deinit(&held->arena);
    held->context = (struct chp_vector){0};
    held->displaces = NULL;
    held->displaces_count = 0;
}

static void keep(struct chp_replica *replica, struct held *held)
{
    if (replica->count == replica->cap) {
        replica->cap = replica->cap == 0 ? 4 : replica->cap * 2;
        replica->held = chp_realloc(replica->held, replica->cap * sizeof(struct held *));
    }
    replica->held[replica->count++] = held;
    chp_map_put(replica->by_id, key_of(&held->entry.id), held);
}

int chp_replica_add(struct chp_replica *replica, const struct chp_operation *operation,
                    const struct chp_vector *vector, struct chp_entry **entry,
                    struct chp_error *error)
{
    struct held *held = chp_map_get(replica->by_id, key_of(&operation->id));
    if (held != NULL) {
        *entry = &held->entry;
        return 0;
    }
    held = held_new(replica, operation);
    note_config(replica, held, operation);
    if (chp_vector_includes(vector, &held->context)) {
        int code = join(replica, held, error);
        if (code != 0) {
            if (operation->creates || operation->config != NULL) {
                replica->config_count--;
            }
            free(held);
            return code;
        }
        forget_context(held);
    } else {
        copy_waiting(held, operation);
        held->entry.waits = true;
        replica->waiting++;
    }
    keep(replica, held);
    *entry = &held->entry;
    return 0;
}

bool chp_replica_advance(struct chp_replica *replica, const struct chp_vector *vector)
{
    bool voids = false;
    size_t waited = replica->waiting;
    for (size_t i = 0; i < replica->count && replica->waiting > 0; i++) {
        struct held *held = replica->held[i];
        if (!held->entry.waits || !chp_vector_includes(vector, &held->context)) {
            continue;
        }
        held->entry.waits = false;
        held->entry.refused = join(replica, held, NULL) != 0;
        voids = voids || held->entry.is_void;
        replica->waiting--;
        forget_context(held);
    }
    for (size_t i = 0; i < replica->count && voids; i++) {
        /* Again, since what they void may have waited behind them. */
        const struct chp_entry *entry = &replica->held[i]->entry;
        if (entry->is_void && !entry->waits) {
            (void)chp_sequence_void(replica->sequence, &entry->target);
        }
    }
    return replica->waiting < waited;
}

struct chp_entry *chp_replica_find(struct chp_replica *replica, const struct chp_uuid *id)
{
    struct held *held = chp_map_get(replica->by_id, key_of(id));
    return held == NULL ? NULL : &held->entry;
}

size_t chp_replica_count(const struct chp_replica *replica)
{
    return replica->count;
}

struct chp_entry *chp_replica_entry(struct chp_replica *replica, size_t index)
{
    CHP_ASSERT(index < replica->count);
    return &replica->held[index]->entry;
}

struct chp_sequence *chp_replica_sequence(struct chp_replica *replica)
{
    return replica->sequence;
}

void chp_replica_context(const struct chp_replica *replica, const struct chp_vector *held,
                         struct chp_arena *arena, struct chp_vector *context)
{
    *context = chp_vector_copy(held, arena);
    for (size_t i = 0; i < replica->count && replica->waiting > 0; i++) {
        const struct chp_entry *entry = &replica->held[i]->entry;
        const struct chp_dot *dot = &entry->dot;
        if (entry->waits && in_vector(context, dot)) {
            chp_vector_set(context, arena, dot->origin, dot->incarnation, dot->n - 1);
        }
    }
}

const char *chp_replica_config(const struct chp_replica *replica)
{
    return in_force(replica, NULL, NULL)->text;
}

const char *chp_replica_config_seen(const struct chp_replica *replica,
                                    const struct chp_vector *seen)
{
    return in_force(replica, seen, NULL)->text;
}

uint64_t chp_replica_config_version(const struct chp_replica *replica)
{
    return chp_matrix_version(in_force(replica, NULL, NULL)->matrix);
}

const struct chp_matrix *chp_replica_matrix(const struct chp_replica *replica)
{
    return in_force(replica, NULL, NULL)->matrix;
}

int chp_replica_check_config(const struct chp_replica *replica, const char *config,
                             struct chp_error *error)
{
    struct chp_matrix *matrix = NULL;
    const struct compiled *known = in_force(replica, NULL, NULL);
    int code = chp_matrix_new(config, &matrix, error);
    if (code != 0) {
        return code;
    }
    if ((known->text == NULL || strcmp(known->text, config) != 0) &&
        chp_matrix_version(matrix) <= chp_matrix_version(known->matrix)) {
        code = chp_error_set(error, CHP_ECONFLICT,
                             "the resolution matrix has version %llu, and the one in force, which "
                             "says something else, %llu: give it a higher version",
                             (unsigned long long)chp_matrix_version(matrix),
                             (unsigned long long)chp_matrix_version(known->matrix));
    }
    chp_matrix_free(matrix);
    return code;
}

int chp_replica_displaces(struct chp_replica *replica, const char *type, const char *config,
                          struct chp_arena *arena, const struct chp_range **ranges, size_t *count,
                          struct chp_error *error)
{
    struct compiled *known = in_force(replica, NULL, NULL);
    struct compiled *given = config == NULL ? NULL : use(replica, config);
    bool higher = given != NULL && chp_matrix_compare(given->matrix, known->matrix) > 0;
    int code = 0;
    if (chp_sequence_kinds(replica->sequence) >= CHP_KINDS_MAX) {
        code = chp_error_set(error, CHP_ETOOBIG,
                             "the resource has operations of %d types (each counts under each "
                             "resolution matrix that it had): at most %d are allowed",
                             CHP_KINDS_MAX, CHP_KINDS_MAX);
    } else {
        const struct chp_matrix *matrix = (higher ? given : known)->matrix;
        chp_sequence_displaces(replica->sequence, type, matrix, arena, ranges, count);
        replica__displace_unsure(replica, type, matrix, arena, ranges, count);
    }
    if (code == 0 && *count > CHP_DISPLACES_MAX) {
        code = chp_error_set(error, CHP_ETOOBIG,
                             "the operation would displace others in %zu ranges, at most %d are "
                             "allowed",
                             *count, CHP_DISPLACES_MAX);
    }
    return code;
}

static int by_effect(const void *a, const void *b)
{
    const struct chp_entry *x = *(struct chp_entry *const *)a;
    const struct chp_entry *y = *(struct chp_entry *const *)b;
    return x->effect != y->effect ? (x->effect > y->effect ? 1 : -1) : replica__compare(x, y);
}

/* Those whose effect the application has, in the order in which they had it. */
static const struct chp_ran *find_ran(const struct chp_replica *replica, struct chp_arena *arena,
                                      size_t *count)
{
    struct chp_entry **entries =
        chp_arena_calloc(arena, replica->count, sizeof(struct chp_entry *));
    struct chp_ran *ran = chp_arena_calloc(arena, replica->count, sizeof *ran);
    *count = 0;
    for (size_t i = 0; i < replica->count; i++) {
        struct chp_entry *entry = &replica->held[i]->entry;
        if (entry->effect > 0 && entry->state != CHP_STATE_IN_DOUBT && !entry->is_void &&
            !entry->waits && !entry->refused) {
            entries[(*count)++] = entry;
        }
    }
    if (*count > 1) {
        qsort(entries, *count, sizeof(struct chp_entry *), by_effect);
    }
    for (size_t i = 0; i < *count; i++) {
        ran[i] = (struct chp_ran){.operation = entries[i]->id, .has_undo = entries[i]->has_undo};
    }
    return ran;
}

/* What of the sequence has had no effect and may run. */
static void run_missing(struct chp_replica *replica, struct chp_arena *arena, struct chp_plan *plan)
{
    size_t count = chp_sequence_count(replica->sequence);
    struct chp_uuid *run = chp_arena_calloc(arena, count, sizeof *run);
    plan->run = run;
    plan->run_count = 0;
    plan->undo_count = 0;
    for (size_t i = 0; i < count; i++) {
        const struct chp_uuid *id = chp_sequence_at(replica->sequence, i);
        const struct chp_entry *entry = chp_replica_find(replica, id);
        if (entry->effect == 0 && entry->executes && !entry->held_back) {
            run[plan->run_count++] = *id;
        }
    }
}

void chp_replica_plan(struct chp_replica *replica, struct chp_arena *arena, struct chp_plan *plan)
{
    size_t ran_count;
    size_t held_back_count = 0;
    size_t elsewhere = 0; /* operations that are not this site's to execute */
    const struct chp_ran *ran = find_ran(replica, arena, &ran_count);
    struct chp_uuid *held_back = chp_arena_calloc(arena, replica->count, sizeof *held_back);
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < replica->count; i++) {
            const struct chp_entry *entry = &replica->held[i]->entry;
            if (!entry->is_void && !entry->waits && !entry->refused &&
                (pass == 0 ? !entry->executes : entry->executes && entry->held_back)) {
                held_back[held_back_count++] = entry->id;
            }
        }
        elsewhere = pass == 0 ? held_back_count : elsewhere;
    }
    chp_plan_make(replica->sequence, ran, ran_count, held_back, held_back_count, arena, plan);
    if (plan->kind != CHP_PLAN_DIVERGED) {
        return;
    }
    if (held_back_count > elsewhere) {
        struct chp_plan later;
        chp_plan_make(replica->sequence, ran, ran_count, held_back, elsewhere, arena, &later);
        if (later.kind != CHP_PLAN_DIVERGED) {
            plan->kind = CHP_PLAN_APPEND;
            plan->reason = NULL;
            plan->lacks = true;
        }
    }
    run_missing(replica, arena, plan);
}
