/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * The rows of a resource are put into a replica in arbitration order, in which causes come before
 * what they cause. A reason is only asked for where there may be one, since looking for it goes
 * through the rest of the sequence.
 */
#include "daemon/account.h"

#include "base/clock.h"
#include "base/mem.h"
#include "wire/payload.h"

#include <stdlib.h>
#include <string.h>

/* An operation, with what became of it. */
struct line {
    const struct chp_history_row *row;
    struct chp_entry *entry; /* NULL: the replica does not take it */
    const char *refusal;     /* then why */
    bool in_sequence;
    size_t place;
    bool may_be_explained;
};

struct account {
    struct chp_arena arena;
    const struct chp_resource_row *row;
    const char *site;
    struct chp_matrices *matrices;
    struct chp_replica *replica;
    struct line *lines; /* in arbitration order */
    size_t count;
};

static int by_arbitration(const void *a, const void *b)
{
    const struct chp_operation *x = ((const struct line *)a)->row->operation;
    const struct chp_operation *y = ((const struct line *)b)->row->operation;
    return chp_arbitration_compare(x->stamp, x->dot.origin, &x->id, y->stamp, y->dot.origin,
                                   &y->id);
}

/* A failed one is not waited for: it runs again in its own time. */
static void take_execution(struct chp_entry *entry, const struct chp_history_row *row)
{
    entry->executes = row->executes;
    entry->state = row->state;
    entry->run = row->run;
    entry->effect = row->effect;
    entry->undoing = row->undoing;
    entry->done_elsewhere = row->done_elsewhere;
    entry->held_back =
        row->executes && (row->state == CHP_STATE_FAILED || row->state == CHP_STATE_REFUSED);
}

static void fill_replica(struct account *account)
{
    for (size_t i = 0; i < account->count; i++) {
        struct line *line = &account->lines[i];
        struct chp_error error = {0};
        if (chp_replica_add(account->replica, line->row->operation, &account->row->vector,
                            &line->entry, &error) == 0) {
            take_execution(line->entry, line->row);
        } else {
            line->entry = NULL;
            line->refusal = chp_arena_strdup(&account->arena, error.text);
        }
    }
    chp_replica_advance(account->replica, &account->row->vector);
}

/* Where each one stands, and whether there may be more to say of it. */
static void place_lines(struct account *account)
{
    struct chp_sequence *sequence = chp_replica_sequence(account->replica);
    size_t count = chp_sequence_count(sequence);
    size_t left_out;
    (void)chp_sequence_left_out(sequence, &left_out);
    size_t *rank = chp_arena_calloc(&account->arena, count + 1, sizeof *rank);
    for (size_t i = 0; i < account->count; i++) {
        struct line *line = &account->lines[i];
        struct chp_fate fate;
        line->in_sequence = line->entry != NULL && !line->entry->is_void && !line->entry->waits &&
                            !line->entry->refused &&
                            chp_sequence_fate(sequence, &line->entry->id, &fate) &&
                            fate.displaced == CHP_DISPLACED_NOT;
        line->may_be_explained = line->entry != NULL && (!line->in_sequence || left_out > 0);
        if (line->in_sequence) {
            line->place = fate.place;
            rank[fate.place] = i;
        }
    }
    size_t least = SIZE_MAX; /* rank of those that follow in the sequence */
    for (size_t place = count; place-- > 0;) {
        struct line *line = &account->lines[rank[place]];
        line->may_be_explained = line->may_be_explained || least < rank[place];
        least = rank[place] < least ? rank[place] : least;
    }
}

struct account *account__new(const struct chp_load *load, const char *site)
{
    CHP_ASSERT(load->kind == CHP_LOAD_RESOURCE && load->found);
    struct account *account = chp_alloc(sizeof *account);
    account->row = &load->resource_result.row;
    account->site = site;
    account->matrices = chp_matrices_new();
    account->replica = chp_replica_new(account->matrices, account->row->base_config);
    account->count = load->resource_result.history_count;
    account->lines = chp_arena_calloc(&account->arena, account->count, sizeof *account->lines);
    for (size_t i = 0; i < account->count; i++) {
        account->lines[i].row = &load->resource_result.history[i];
    }
    if (account->count > 1) {
        qsort(account->lines, account->count, sizeof *account->lines, by_arbitration);
    }
    fill_replica(account);
    place_lines(account);
    return account;
}

void account__free(struct account *account)
{
    if (account != NULL) {
        chp_replica_free(account->replica);
        chp_matrices_free(account->matrices);
        struct chp_arena arena = account->arena;
        free(account);
        chp_arena_deinit(&arena);
    }
}

/* JSON. */

static json_t *text_or_null(const char *text)
{
    json_t *json = text == NULL ? NULL : json_string(text);
    return json == NULL ? json_null() : json;
}

static json_t *json_of_id(const struct chp_uuid *id)
{
    char text[CHP_UUID_TEXT_BYTES];
    chp_uuid_format(id, text);
    return json_string(text);
}

static void set(json_t *object, const char *key, json_t *value)
{
    CHP_ASSERT(json_object_set_new(object, key, value) == 0);
}

static void set_count(json_t *object, const char *key, size_t count)
{
    set(object, key, json_integer((json_int_t)count));
}

/* History. */

/* How many operations a vector has. */
static json_t *json_of_size(const struct chp_vector *vector)
{
    uint64_t count = 0;
    for (size_t i = 0; i < vector->count; i++) {
        count += vector->entries[i].n;
    }
    return json_integer((json_int_t)count);
}

static const char *reason_of(struct account *account, const struct line *line)
{
    if (line->entry == NULL) {
        return line->refusal;
    }
    return line->may_be_explained
               ? chp_replica_reason(account->replica, line->entry, &account->arena)
               : NULL;
}

static json_t *json_of_line(struct account *account, const struct line *line)
{
    const struct chp_operation *operation = line->row->operation;
    const struct chp_history_row *row = line->row;
    char entered[CHP_TIME_TEXT_BYTES];
    json_t *json = json_object();
    chp_clock_format(operation->entered_ms, entered);
    set(json, "place", line->in_sequence ? json_integer((json_int_t)line->place + 1) : json_null());
    set(json, "id", json_of_id(&operation->id));
    set(json, "type", json_string(operation->type));
    set(json, "origin", json_string(operation->dot.origin));
    set(json, "entered_at", json_string(entered));
    set(json, "principal", text_or_null(operation->principal));
    set(json, "summary", text_or_null(operation->summary));
    set(json, "reason", text_or_null(reason_of(account, line)));
    set(json, "state", row->executes ? json_string(chp_state_name(row->state)) : json_null());
    set_count(json, "run", row->executes ? row->run : 0);
    set(json, "applied", json_boolean(row->executes && row->effect > 0));
    set(json, "undoing", json_boolean(row->executes && row->undoing));
    return json;
}

static int by_place(const void *a, const void *b)
{
    const struct line *x = *(const struct line *const *)a;
    const struct line *y = *(const struct line *const *)b;
    if (x->in_sequence != y->in_sequence) {
        return x->in_sequence ? -1 : 1;
    }
    if (x->in_sequence) {
        return x->place < y->place ? -1 : x->place > y->place;
    }
    return x < y ? -1 : x > y; /* they lie in arbitration order */
}

json_t *account__history(struct account *account, size_t limit)
{
    size_t count = account->count < limit ? account->count : limit;
    const struct line **newest =
        chp_arena_calloc(&account->arena, count + 1, sizeof(struct line *));
    for (size_t i = 0; i < count; i++) {
        newest[i] = &account->lines[account->count - count + i];
    }
    qsort(newest, count, sizeof(struct line *), by_place);
    json_t *operations = json_array();
    for (size_t i = 0; i < count; i++) {
        CHP_ASSERT(json_array_append_new(operations, json_of_line(account, newest[i])) == 0);
    }
    json_t *json = json_object();
    set(json, "resource", json_string(account->row->id));
    set(json, "site", json_string(account->site));
    set_count(json, "total", account->count);
    set_count(json, "left_out", account->count - count);
    set(json, "forgotten", json_of_size(&account->row->forgotten));
    set(json, "operations", operations);
    return json;
}

/* What became of it at the site, of a list of results. */
static const json_t *result_at(const json_t *operation, const char *site)
{
    size_t i;
    json_t *result;
    json_array_foreach(json_object_get(operation, "sites"), i, result)
    {
        const char *name = json_string_value(json_object_get(result, "site"));
        if (name != NULL && strcmp(name, site) == 0) {
            return result;
        }
    }
    return NULL;
}

json_t *account__history_of_none(const char *resource, const char *site, const json_t *answer)
{
    static const char *const kept[] = {"id",         "type",      "origin",
                                       "entered_at", "principal", "summary"};
    const json_t *found = json_object_get(answer, "operations");
    json_t *operations = json_array();
    size_t i;
    json_t *operation;
    json_array_foreach(found, i, operation)
    {
        const json_t *here = result_at(operation, site);
        const char *state = json_string_value(json_object_get(here, "state"));
        json_t *json = json_object();
        set(json, "place", json_null());
        for (size_t k = 0; k < sizeof kept / sizeof kept[0]; k++) {
            json_t *value = json_object_get(operation, kept[k]);
            set(json, kept[k], value == NULL ? json_null() : json_incref(value));
        }
        set(json, "reason", json_null());
        set(json, "state", text_or_null(state));
        set(json, "run", json_integer(json_integer_value(json_object_get(here, "run"))));
        set(json, "applied", json_boolean(state != NULL && strcmp(state, "done") == 0));
        set(json, "undoing", json_false());
        CHP_ASSERT(json_array_append_new(operations, json) == 0);
    }
    return json_pack("{s:s, s:s, s:n, s:n, s:i, s:o}", "resource", resource, "site", site, "total",
                     "left_out", "forgotten", 0, "operations", operations);
}

/* Knowledge. */

static json_t *json_of_vector(const struct chp_vector *vector)
{
    json_t *json = json_array();
    for (size_t i = 0; i < vector->count && i < ACCOUNT_LIST_MAX; i++) {
        const struct chp_dot *dot = &vector->entries[i];
        json_t *entry = json_pack("{s:s, s:I, s:I}", "origin", dot->origin, "incarnation",
                                  (json_int_t)dot->incarnation, "n", (json_int_t)dot->n);
        CHP_ASSERT(entry != NULL && json_array_append_new(json, entry) == 0);
    }
    return json;
}

static json_t *json_of_digest(struct chp_sha256_state *state)
{
    struct chp_sha256 sha256 = chp_sha256_finish(state);
    char text[CHP_SHA256_TEXT_BYTES];
    chp_sha256_format(&sha256, text);
    return json_string(text);
}

/* Equal for equal vectors. */
static json_t *vector_digest(const struct chp_vector *vector)
{
    struct chp_sha256_state *state = chp_sha256_new();
    struct chp_buf line = {0};
    for (size_t i = 0; i < vector->count; i++) {
        const struct chp_dot *dot = &vector->entries[i];
        chp_buf_clear(&line);
        chp_buf_printf(&line, "%s %llu %llu\n", dot->origin, (unsigned long long)dot->incarnation,
                       (unsigned long long)dot->n);
        chp_sha256_update(state, line.data, line.len);
    }
    chp_buf_deinit(&line);
    return json_of_digest(state);
}

static json_t *digest_of(struct account *account)
{
    struct chp_sequence *sequence = chp_replica_sequence(account->replica);
    struct chp_sha256_state *state = chp_sha256_new();
    size_t count = chp_sequence_count(sequence);
    for (size_t i = 0; i < count; i++) {
        const struct chp_uuid *id = chp_sequence_at(sequence, i);
        chp_sha256_update(state, id->bytes, sizeof id->bytes);
    }
    return json_of_digest(state);
}

static const char *plan_name(enum chp_plan_kind kind)
{
    switch (kind) {
    case CHP_PLAN_NOTHING:
        return "nothing";
    case CHP_PLAN_APPEND:
        return "append";
    case CHP_PLAN_REPLAY:
        return "replay";
    case CHP_PLAN_COMPENSATE:
        return "compensate";
    case CHP_PLAN_DIVERGED:
        return "diverged";
    }
    CHP_ASSERT(!"the kind is one of these");
    return "";
}

static size_t count_waiting(const struct account *account)
{
    size_t count = 0;
    for (size_t i = 0; i < account->count; i++) {
        count += account->lines[i].entry != NULL && account->lines[i].entry->waits;
    }
    return count;
}

json_t *account__knowledge(struct account *account)
{
    const struct chp_resource_row *row = account->row;
    bool ordered = row->level != CHP_LEVEL_NONE;
    json_t *json = json_object();
    set(json, "level", json_string(chp_level_name(row->level)));
    set(json, "vector", json_of_vector(&row->vector));
    set_count(json, "vector_entries", row->vector.count);
    set(json, "vector_digest", vector_digest(&row->vector));
    set(json, "forgotten", json_of_size(&row->forgotten));
    set(json, "forgotten_digest", vector_digest(&row->forgotten));
    set(json, "operations", ordered ? json_integer((json_int_t)account->count) : json_null());
    set(json, "sequence",
        ordered
            ? json_integer((json_int_t)chp_sequence_count(chp_replica_sequence(account->replica)))
            : json_null());
    set(json, "digest", ordered ? digest_of(account) : json_null());
    set_count(json, "waiting", count_waiting(account));
    struct chp_plan plan = {.kind = CHP_PLAN_NOTHING};
    if (ordered) {
        chp_replica_plan(account->replica, &account->arena, &plan);
    }
    set(json, "plan", json_string(row->diverged != NULL ? "diverged" : plan_name(plan.kind)));
    set_count(json, "to_undo", plan.undo_count);
    set_count(json, "to_run", plan.run_count);
    set(json, "diverged", text_or_null(row->diverged));
    set(json, "degraded", json_boolean(row->degraded));
    set(json, "order_assumed", json_boolean(row->order_assumed));
    set(json, "deleted", json_boolean(row->deleted));
    return json;
}

/* A new operation. */

static int refuse_none(const struct account *account, struct chp_error *error)
{
    return account->row->level != CHP_LEVEL_NONE
               ? 0
               : chp_error_set(error, CHP_EREFUSED,
                               "resource \"%s\" is of level none: its operations run in the order "
                               "in which they come, there is no plan",
                               account->row->id);
}

int account__operation(struct account *account, const struct account_new *made,
                       struct chp_arena *arena, struct chp_operation *operation,
                       struct chp_error *error)
{
    const struct chp_resource_row *row = account->row;
    const struct chp_range *displaces = NULL;
    int code = refuse_none(account, error);
    *operation = (struct chp_operation){
        .id = chp_uuid_new(),
        .resource = row->id,
        .dot = {.origin = account->site,
                .incarnation = made->incarnation,
                .n = chp_vector_get(&row->vector, account->site, made->incarnation) + 1},
        .stamp = {.ms = made->wall_ms},
        .type = made->type,
        .level = row->level,
        .scope = row->scope,
        .members = row->members,
        .member_count = row->member_count,
        .driver = "shell",
        .payload = chp_bytes_of("?"), /* nobody runs it, as the next */
        .undo = chp_bytes_of(made->has_undo ? "?" : ""),
        .key = "plan",
        .principal = made->principal,
        .entered_ms = made->wall_ms,
        .deadline_ms = CHP_DEADLINE_DEFAULT_MS,
    };
    if (row->highest.ms >= made->wall_ms) {
        operation->stamp = row->highest;
        operation->stamp.counter++;
    }
    if (code == 0) {
        code = chp_replica_displaces(account->replica, made->type, NULL, arena, &displaces,
                                     &operation->displaces_count, error);
    }
    if (code == 0) {
        chp_replica_context(account->replica, &row->vector, arena, &operation->context);
        operation->displaces =
            chp_arena_calloc(arena, operation->displaces_count, sizeof *operation->displaces);
        for (size_t i = 0; i < operation->displaces_count; i++) {
            operation->displaces[i] = displaces[i];
        }
    }
    return code;
}

/* With the new one, when everything before it of its origin is here. */
static void held_with(const struct account *account, const struct chp_dot *dot,
                      struct chp_arena *arena, struct chp_vector *held)
{
    const struct chp_vector *vector = &account->row->vector;
    *held = (struct chp_vector){0};
    for (size_t i = 0; i < vector->count; i++) {
        const struct chp_dot *entry = &vector->entries[i];
        chp_vector_set(held, arena, entry->origin, entry->incarnation, entry->n);
    }
    if (chp_vector_get(vector, dot->origin, dot->incarnation) == dot->n - 1) {
        chp_vector_set(held, arena, dot->origin, dot->incarnation, dot->n);
    }
}

/* {"operation", "type"} of those that are not more than a list takes. */
static void append_named(json_t *list, size_t before, const struct chp_entry *entry)
{
    if (before < ACCOUNT_LIST_MAX) {
        json_t *named =
            json_pack("{s:o, s:s}", "operation", json_of_id(&entry->id), "type", entry->type);
        CHP_ASSERT(named != NULL && json_array_append_new(list, named) == 0);
    }
}

/* Those that were in the sequence before and are not now. */
static void set_displaced(struct account *account, json_t *json)
{
    struct chp_sequence *sequence = chp_replica_sequence(account->replica);
    json_t *list = json_array();
    size_t count = 0;
    for (size_t i = 0; i < account->count; i++) {
        const struct line *line = &account->lines[i];
        struct chp_fate fate;
        if (line->in_sequence && chp_sequence_fate(sequence, &line->entry->id, &fate) &&
            fate.displaced != CHP_DISPLACED_NOT) {
            append_named(list, count++, line->entry);
        }
    }
    set(json, "displaces", list);
    set_count(json, "displaces_count", count);
}

static void set_undone(struct account *account, json_t *json, const struct chp_plan *plan)
{
    json_t *list = json_array();
    for (size_t i = 0; i < plan->undo_count; i++) {
        append_named(list, i, chp_replica_find(account->replica, &plan->undo[i]));
    }
    set(json, "undo", list);
    set_count(json, "undo_count", plan->undo_count);
}

/* added: the new one, whose id says nothing to anybody. */
static void set_run(struct account *account, json_t *json, const struct chp_plan *plan,
                    const struct chp_entry *added)
{
    json_t *list = json_array();
    for (size_t i = 0; i < plan->run_count && i < ACCOUNT_LIST_MAX; i++) {
        const struct chp_entry *entry = chp_replica_find(account->replica, &plan->run[i]);
        CHP_ASSERT(entry != NULL);
        json_t *step = json_pack("{s:o, s:s, s:b, s:b}", "operation",
                                 entry == added ? json_null() : json_of_id(&entry->id), "type",
                                 entry->type, "new", entry == added, "again", entry->effect > 0);
        CHP_ASSERT(step != NULL && json_array_append_new(list, step) == 0);
    }
    set(json, "run", list);
    set_count(json, "run_count", plan->run_count);
}

static json_t *json_of_plan(struct account *account, const struct chp_entry *added,
                            enum chp_plan_kind before)
{
    struct chp_plan plan;
    struct chp_fate fate = {.displaced = CHP_DISPLACED_NOT};
    json_t *json = json_object();
    chp_replica_plan(account->replica, &account->arena, &plan);
    bool known = !added->waits && !added->refused &&
                 chp_sequence_fate(chp_replica_sequence(account->replica), &added->id, &fate);
    const char *reason = account->row->diverged != NULL ? account->row->diverged : plan.reason;
    set(json, "plan",
        json_string(account->row->diverged != NULL ? "diverged" : plan_name(plan.kind)));
    set(json, "why", text_or_null(reason));
    set(json, "now", json_string(plan_name(before)));
    set(json, "place",
        known && fate.displaced == CHP_DISPLACED_NOT ? json_integer((json_int_t)fate.place + 1)
                                                     : json_null());
    set(json, "reason", text_or_null(chp_replica_reason(account->replica, added, &account->arena)));
    set_displaced(account, json);
    set_undone(account, json, &plan);
    set_run(account, json, &plan, added);
    set_count(json, "again", plan.again);
    set(json, "order_assumed", json_boolean(plan.order_assumed));
    return json;
}

json_t *account__plan(struct account *account, const struct chp_operation *operation,
                      struct chp_error *error)
{
    struct chp_vector held;
    struct chp_entry *added = NULL;
    struct chp_error problem = {0};
    struct chp_plan before;
    if (refuse_none(account, error) != 0) {
        return NULL;
    }
    chp_replica_plan(account->replica, &account->arena, &before);
    held_with(account, &operation->dot, &account->arena, &held);
    if (chp_replica_add(account->replica, operation, &held, &added, &problem) != 0) {
        (void)chp_error_set(error, CHP_ECONFLICT, "it could not be made any more, ask again: %s",
                            problem.text);
        return NULL;
    }
    for (size_t i = 0; i < account->row->member_count; i++) {
        added->executes = added->executes || strcmp(account->row->members[i], account->site) == 0;
    }
    added->state = CHP_STATE_DELIVERED;
    return json_of_plan(account, added, before.kind);
}
