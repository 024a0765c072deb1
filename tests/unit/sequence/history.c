/* SPDX-License-Identifier: AGPL-3.0-only */
#include "history.h"

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const site_names[SITES_MAX] = {"A", "B", "C", "D", "E", "F", "G", "H"};

static void require(bool condition, const char *what)
{
    if (!condition) {
        (void)fprintf(stderr, "history: %s\n", what);
        abort();
    }
}

uint64_t history_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void set_bit(uint64_t *bits, unsigned i)
{
    bits[i / 64] |= UINT64_C(1) << i % 64;
}

static bool has_bit(const uint64_t *bits, unsigned i)
{
    return (bits[i / 64] >> i % 64 & 1) != 0;
}

static size_t words(const struct history *history)
{
    return (history->count + 63) / 64;
}

static void begin(struct history *history, unsigned count)
{
    *history = (struct history){.count = count};
    history->operations = chp_calloc(count, sizeof *history->operations);
    for (unsigned i = 0; i < count; i++) {
        history->operations[i].displaced = chp_calloc(words(history), sizeof(uint64_t));
        history->operations[i].brief = chp_calloc(words(history), sizeof(uint64_t));
        (void)snprintf((char *)history->operations[i].id.bytes, CHP_UUID_BYTES, "o%u", i);
    }
}

void history_free(struct history *history)
{
    for (unsigned i = 0; i < history->count; i++) {
        free(history->operations[i].displaced);
        free(history->operations[i].brief);
    }
    free(history->operations);
    chp_matrix_free(history->matrix);
    chp_arena_deinit(&history->arena);
}

unsigned history_find(const struct history *history, const struct chp_uuid *id)
{
    unsigned at = (unsigned)strtoul((const char *)id->bytes + 1, NULL, 10);
    require(at < history->count && chp_uuid_equal(&history->operations[at].id, id), "unknown id");
    return at;
}

static bool is_past(const struct history *history, unsigned a, unsigned b)
{
    const struct history_operation *of = &history->operations[a];
    return history->operations[b].seen[of->site] >= of->n;
}

static int compare(const struct history *history, unsigned a, unsigned b)
{
    const struct history_operation *x = &history->operations[a];
    const struct history_operation *y = &history->operations[b];
    if (x->stamp_ms != y->stamp_ms) {
        return x->stamp_ms < y->stamp_ms ? -1 : 1;
    }
    return x->site != y->site ? (x->site < y->site ? -1 : 1) : a < b ? -1 : a > b;
}

/* ---- making ---- */

static void add_row(struct chp_matrix_row *rows, size_t *count, const struct history *history,
                    unsigned before, unsigned after, enum chp_pair_rule resolution)
{
    rows[(*count)++] =
        (struct chp_matrix_row){history->types[before], history->types[after], resolution};
}

static void fill_table(struct history *history)
{
    for (unsigned a = 0; a < history->type_count; a++) {
        for (unsigned b = 0; b < history->type_count; b++) {
            history->table[a][b] =
                chp_matrix_resolve(history->matrix, history->types[a], history->types[b]);
        }
    }
}

static void take_matrix(struct history *history, const struct chp_matrix_row *rows, size_t count)
{
    struct chp_error error = {0};
    require(chp_matrix_of_rows(rows, count, 1, &history->matrix, &error) == 0, error.text);
    fill_table(history);
}

static void make_matrix(struct history *history, uint64_t *random)
{
    static const char *const names[TYPES_MAX] = {"a", "b", "c", "d", "e", "f", "g", "h"};
    struct chp_matrix_row rows[TYPES_MAX * TYPES_MAX];
    size_t count = 0;
    memcpy(history->types, names, sizeof names);
    for (unsigned a = 0; a < history->type_count; a++) {
        for (unsigned b = 0; b < history->type_count; b++) {
            if (history_random(random) % 10 < 8) {
                add_row(rows, &count, history, a, b,
                        (enum chp_pair_rule)(history_random(random) % 4));
            }
        }
    }
    take_matrix(history, rows, count);
}

/* Rule 1, as the origin does it. */
static void make_displaced(struct history *history, unsigned made)
{
    struct history_operation *operation = &history->operations[made];
    struct verdict verdict;
    bool *in = chp_alloc(history->count);
    bool *kept = chp_alloc(history->count);
    for (unsigned i = 0; i < made; i++) {
        in[i] = is_past(history, i, made);
    }
    history_judge(history, in, &verdict);
    for (unsigned i = 0; i < verdict.count; i++) {
        kept[verdict.sequence[i]] = true;
    }
    for (unsigned i = verdict.count; i > 0; i--) {
        unsigned before = verdict.sequence[i - 1];
        enum chp_pair_rule resolution =
            history->table[history->operations[before].type][operation->type];
        if (resolution == CHP_TAKE_BOTH_KEEP_ORDER) {
            break;
        }
        kept[before] = resolution == CHP_TAKE_BOTH_ANY_ORDER;
    }
    for (unsigned i = 0; i < made; i++) {
        if (in[i] && !kept[i]) {
            set_bit(operation->displaced, i);
        }
        if (in[i] && !kept[i] && !verdict.past[i]) {
            set_bit(operation->brief, i);
        }
    }
    verdict_free(&verdict);
    free(in);
    free(kept);
}

static void make_operations(struct history *history, uint64_t *random, unsigned sites)
{
    uint64_t known[SITES_MAX][SITES_MAX] = {{0}};
    uint64_t highest[SITES_MAX] = {0};
    for (unsigned i = 0; i < history->count; i++) {
        struct history_operation *operation = &history->operations[i];
        unsigned site = (unsigned)(history_random(random) % sites);
        if (history_random(random) % 100 < 35) {
            unsigned other = (unsigned)(history_random(random) % sites);
            for (unsigned s = 0; s < sites; s++) {
                known[site][s] =
                    known[site][s] < known[other][s] ? known[other][s] : known[site][s];
            }
            highest[site] = highest[site] < highest[other] ? highest[other] : highest[site];
        }
        highest[site] += history_random(random) % 5 == 0 ? 50 : 1;
        operation->site = site;
        operation->stamp_ms = highest[site];
        operation->type = (unsigned)(history_random(random) % history->type_count);
        memcpy(operation->seen, known[site], sizeof operation->seen);
        operation->n = ++known[site][site];
        make_displaced(history, i);
    }
}

static uint64_t random_of(uint64_t seed)
{
    uint64_t random = seed * UINT64_C(0x9e3779b97f4a7c15) | 1;
    for (unsigned i = 0; i < 8; i++) {
        (void)history_random(&random);
    }
    return random;
}

void history_make(struct history *history, uint64_t seed, unsigned sites, unsigned types,
                  unsigned count)
{
    uint64_t random = random_of(seed);
    begin(history, count);
    history->type_count = types;
    make_matrix(history, &random);
    make_operations(history, &random, sites);
}

void history_make_for(struct history *history, uint64_t seed, unsigned sites,
                      const char *const *types, unsigned type_count,
                      const struct chp_matrix_row *rows, size_t row_count, unsigned count)
{
    uint64_t random = random_of(seed);
    begin(history, count);
    history->type_count = type_count;
    memcpy(history->types, types, type_count * sizeof *types);
    take_matrix(history, rows, row_count);
    make_operations(history, &random, sites);
}

void history_make_as(struct history *history, const char *const *types, unsigned type_count,
                     const struct chp_matrix_row *rows, size_t row_count,
                     const unsigned *operation_types, const unsigned *sites, unsigned count)
{
    begin(history, count);
    history->type_count = type_count;
    memcpy(history->types, types, type_count * sizeof *types);
    take_matrix(history, rows, row_count);
    for (unsigned i = 0; i < count; i++) {
        struct history_operation *operation = &history->operations[i];
        operation->site = sites[i];
        operation->type = operation_types[i];
        operation->stamp_ms = i + 1;
        operation->n = 1;
        for (unsigned j = 0; j < i; j++) {
            operation->n += sites[j] == sites[i];
        }
        operation->seen[sites[i]] = operation->n - 1;
        make_displaced(history, i);
    }
}

/* ---- reading ---- */

static unsigned type_of(struct history *history, const char *name)
{
    for (unsigned i = 0; i < history->type_count; i++) {
        if (strcmp(history->types[i], name) == 0) {
            return i;
        }
    }
    require(history->type_count < TYPES_MAX, "too many types");
    history->types[history->type_count] = chp_arena_strdup(&history->arena, name);
    return history->type_count++;
}

static enum chp_pair_rule resolution_of(const char *name)
{
    for (int i = 0; i < 4; i++) {
        if (strcmp(chp_pair_rule_name((enum chp_pair_rule)i), name) == 0) {
            return (enum chp_pair_rule)i;
        }
    }
    require(false, "unknown resolution");
    return CHP_TAKE_ONE;
}

static void read_matrix(struct history *history, json_t *matrix)
{
    struct chp_matrix_row rows[TYPES_MAX * TYPES_MAX];
    size_t count = 0;
    size_t index;
    json_t *row;
    json_array_foreach(matrix, index, row)
    {
        unsigned before = type_of(history, json_string_value(json_array_get(row, 0)));
        unsigned after = type_of(history, json_string_value(json_array_get(row, 1)));
        require(count < TYPES_MAX * TYPES_MAX, "too many rows");
        add_row(rows, &count, history, before, after,
                resolution_of(json_string_value(json_array_get(row, 2))));
    }
    take_matrix(history, rows, count);
}

static unsigned operation_named(const char *name)
{
    return (unsigned)strtoul(name + 1, NULL, 10);
}

static void read_operation(struct history *history, unsigned i, json_t *object, uint64_t *numbers)
{
    struct history_operation *operation = &history->operations[i];
    size_t index;
    json_t *name;
    require(operation_named(json_string_value(json_object_get(object, "id"))) == i,
            "ids o0, o1...");
    operation->site = (unsigned)(json_string_value(json_object_get(object, "origin"))[0] - 'A');
    require(operation->site < SITES_MAX, "too many sites");
    operation->stamp_ms = (uint64_t)json_integer_value(json_object_get(object, "stamp"));
    operation->type = type_of(history, json_string_value(json_object_get(object, "type")));
    operation->n = ++numbers[operation->site];
    json_array_foreach(json_object_get(object, "past"), index, name)
    {
        const struct history_operation *seen =
            &history->operations[operation_named(json_string_value(name))];
        if (operation->seen[seen->site] < seen->n) {
            operation->seen[seen->site] = seen->n;
        }
    }
    json_array_foreach(json_object_get(object, "displaces"), index, name)
    {
        set_bit(operation->displaced, operation_named(json_string_value(name)));
    }
}

bool history_read(struct history *history, json_t *root)
{
    uint64_t numbers[SITES_MAX] = {0};
    json_t *operations = json_object_get(root, "operations");
    size_t index;
    json_t *object;
    if (json_array_size(operations) == 0 || json_array_size(operations) > OPERATIONS_MAX) {
        return false;
    }
    begin(history, (unsigned)json_array_size(operations));
    read_matrix(history, json_object_get(root, "matrix"));
    json_array_foreach(operations, index, object)
    {
        read_operation(history, (unsigned)index, object, numbers);
    }
    fill_table(history); /* with types that no row names */
    return true;
}

/* ---- as the sequence has it ---- */

void history_add(const struct history *history, unsigned index, struct chp_sequence *sequence)
{
    const struct history_operation *operation = &history->operations[index];
    struct chp_arena arena = {0};
    struct chp_error error = {0};
    struct chp_range *ranges = chp_arena_calloc(&arena, history->count, sizeof *ranges);
    struct chp_sequence_operation added = {
        .id = operation->id,
        .dot = {site_names[operation->site], 1, operation->n},
        .stamp = {operation->stamp_ms, 0},
        .type = history->types[operation->type],
        .matrix = history->matrix,
        .displaces = ranges,
    };
    for (unsigned s = 0; s < SITES_MAX; s++) {
        if (operation->seen[s] > 0) {
            chp_vector_set(&added.context, &arena, site_names[s], 1, operation->seen[s]);
        }
    }
    for (unsigned i = 0; i < history->count; i++) {
        const struct history_operation *other = &history->operations[i];
        if (has_bit(history->brief ? operation->brief : operation->displaced, i)) {
            ranges[added.displaces_count++] =
                (struct chp_range){site_names[other->site], 1, other->n, other->n};
        }
    }
    require(chp_sequence_add(sequence, &added, &error) == 0, error.text);
    chp_arena_deinit(&arena);
}

/* ---- by pairs ---- */

struct judging {
    const struct history *history;
    unsigned *live; /* in arbitration order */
    unsigned count;
    bool *edges; /* count squared */
};

static void sort(const struct history *history, unsigned *operations, unsigned count)
{
    for (unsigned i = 1; i < count; i++) {
        unsigned moved = operations[i];
        unsigned at = i;
        while (at > 0 && compare(history, operations[at - 1], moved) > 0) {
            operations[at] = operations[at - 1];
            at--;
        }
        operations[at] = moved;
    }
}

static bool are_concurrent(const struct history *history, unsigned a, unsigned b)
{
    return !is_past(history, a, b) && !is_past(history, b, a);
}

static bool reaches(const struct judging *judging, unsigned from, unsigned to, bool *seen)
{
    if (from == to) {
        return true;
    }
    seen[from] = true;
    for (unsigned i = 0; i < judging->count; i++) {
        if (judging->edges[from * judging->count + i] && !seen[i] &&
            reaches(judging, i, to, seen)) {
            return true;
        }
    }
    return false;
}

static void order_pair(struct judging *judging, unsigned i, unsigned j, struct verdict *verdict)
{
    const struct history *history = judging->history;
    unsigned a = judging->live[i];
    unsigned b = judging->live[j];
    enum chp_pair_rule resolution =
        history->table[history->operations[a].type][history->operations[b].type];
    if (!are_concurrent(history, a, b) ||
        (resolution != CHP_TAKE_BOTH_KEEP_ORDER && resolution != CHP_TAKE_BOTH_REVERSE_ORDER)) {
        return;
    }
    unsigned first = resolution == CHP_TAKE_BOTH_KEEP_ORDER ? i : j;
    unsigned second = first == i ? j : i;
    bool *seen = chp_alloc(judging->count);
    if (reaches(judging, second, first, seen)) {
        verdict->left_out[verdict->left_out_count][0] = judging->live[first];
        verdict->left_out[verdict->left_out_count++][1] = judging->live[second];
    } else {
        judging->edges[first * judging->count + second] = true;
    }
    free(seen);
}

static void take_all(const struct judging *judging, struct verdict *verdict)
{
    bool *gone = chp_alloc(judging->count);
    while (verdict->count < judging->count) {
        for (unsigned i = 0; i < judging->count; i++) {
            bool ready = !gone[i];
            for (unsigned j = 0; j < judging->count && ready; j++) {
                ready = gone[j] || !judging->edges[j * judging->count + i];
            }
            if (ready) {
                gone[i] = true;
                verdict->sequence[verdict->count++] = judging->live[i];
                break;
            }
        }
    }
    free(gone);
}

/* Rules 1 and 2; fills live. */
static void displace(struct judging *judging, const unsigned *sorted, unsigned count,
                     struct verdict *verdict)
{
    const struct history *history = judging->history;
    for (unsigned i = 0; i < count; i++) {
        for (unsigned j = 0; j < count; j++) {
            if (!history->operations[sorted[i]].is_void &&
                has_bit(history->operations[sorted[i]].displaced, sorted[j]) &&
                verdict->by[sorted[j]] == UINT32_MAX) {
                verdict->by[sorted[j]] = sorted[i];
                verdict->past[sorted[j]] = true;
            }
        }
    }
    for (unsigned i = count; i > 0; i--) {
        unsigned a = sorted[i - 1];
        if (verdict->past[a] || history->operations[a].is_void) {
            continue;
        }
        for (unsigned j = 0; j < judging->count && verdict->by[a] == UINT32_MAX; j++) {
            unsigned b = judging->live[j];
            if (are_concurrent(history, a, b) &&
                history->table[history->operations[a].type][history->operations[b].type] ==
                    CHP_TAKE_ONE) {
                verdict->by[a] = b;
            }
        }
        if (verdict->by[a] == UINT32_MAX) {
            judging->live[judging->count++] = a;
        }
    }
    for (unsigned i = 0; i < judging->count / 2; i++) {
        unsigned other = judging->live[judging->count - 1 - i];
        judging->live[judging->count - 1 - i] = judging->live[i];
        judging->live[i] = other;
    }
}

void history_judge(const struct history *history, const bool *in, struct verdict *verdict)
{
    unsigned n = history->count;
    struct judging judging = {.history = history, .live = chp_calloc(n, sizeof(unsigned))};
    unsigned *sorted = chp_calloc(n, sizeof *sorted);
    unsigned count = 0;
    *verdict = (struct verdict){.sequence = chp_calloc(n, sizeof(unsigned)),
                                .by = chp_calloc(n, sizeof(unsigned)),
                                .past = chp_alloc(n)};
    memset(verdict->by, 0xff, n * sizeof *verdict->by);
    for (unsigned i = 0; i < n; i++) {
        if (in[i]) {
            sorted[count++] = i;
        }
    }
    sort(history, sorted, count);
    displace(&judging, sorted, count, verdict);
    size_t pairs = (size_t)judging.count * judging.count;
    judging.edges = chp_alloc(pairs);
    verdict->left_out = chp_calloc(pairs, sizeof *verdict->left_out);
    for (size_t i = 0; i < pairs; i++) {
        judging.edges[i] =
            i / judging.count != i % judging.count &&
            is_past(history, judging.live[i / judging.count], judging.live[i % judging.count]);
    }
    for (unsigned i = 0; i < judging.count; i++) {
        for (unsigned j = i + 1; j < judging.count; j++) {
            order_pair(&judging, i, j, verdict);
        }
    }
    take_all(&judging, verdict);
    free(judging.live);
    free(judging.edges);
    free(sorted);
}

void verdict_free(struct verdict *verdict)
{
    free(verdict->sequence);
    free(verdict->by);
    free(verdict->past);
    free(verdict->left_out);
}
