/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * The sequence against recorded histories with their results, one JSON object a line:
 *
 *     test_histories [FILE]      - is standard input
 *
 * {"matrix": [[before, after, resolution], ...], "operations": [{"id", "origin", "stamp", "type",
 * "past", "displaces"}, ...], "sequence": [ids], "reasons": {id: [id, rule]}, "left_out": [[id,
 * id], ...]}. Every one is added in the order in which it was made, from its end, and shuffled.
 */
#include "history.h"

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SHUFFLES = 3, LINE_MAX_BYTES = 1 << 22 };

static unsigned line_number;

#define REQUIRE(condition, ...)                                                                    \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            (void)fprintf(stderr, "history %u: ", line_number);                                    \
            (void)fprintf(stderr, __VA_ARGS__);                                                    \
            (void)fprintf(stderr, "\n");                                                           \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static const char *text(const struct chp_uuid *id)
{
    return (const char *)id->bytes;
}

static void check_sequence(struct chp_sequence *sequence, json_t *root)
{
    json_t *expected = json_object_get(root, "sequence");
    REQUIRE(chp_sequence_count(sequence) == json_array_size(expected), "%zu instead of %zu",
            chp_sequence_count(sequence), json_array_size(expected));
    for (size_t i = 0; i < json_array_size(expected); i++) {
        const char *want = json_string_value(json_array_get(expected, i));
        const char *got = text(chp_sequence_at(sequence, i));
        struct chp_fate fate;
        REQUIRE(strcmp(want, got) == 0, "place %zu: %s instead of %s", i, got, want);
        REQUIRE(chp_sequence_fate(sequence, chp_sequence_at(sequence, i), &fate) &&
                    fate.displaced == CHP_DISPLACED_NOT && fate.place == i,
                "place %zu: the fate of %s", i, got);
    }
}

static void check_reasons(const struct history *history, struct chp_sequence *sequence,
                          json_t *root)
{
    json_t *reasons = json_object_get(root, "reasons");
    for (unsigned i = 0; i < history->count; i++) {
        const struct chp_uuid *id = &history->operations[i].id;
        json_t *reason = json_object_get(reasons, text(id));
        struct chp_fate fate;
        REQUIRE(chp_sequence_fate(sequence, id, &fate), "%s is not there", text(id));
        REQUIRE((reason == NULL) == (fate.displaced == CHP_DISPLACED_NOT), "the fate of %s",
                text(id));
        if (reason != NULL) {
            bool past = strcmp(json_string_value(json_array_get(reason, 1)), "past") == 0;
            const char *by = json_string_value(json_array_get(reason, 0));
            REQUIRE(past == (fate.displaced == CHP_DISPLACED_PAST), "the rule for %s", text(id));
            REQUIRE(strcmp(by, text(&fate.by)) == 0, "%s displaced by %s, not %s", text(id),
                    text(&fate.by), by);
        }
    }
}

static void check_left_out(struct chp_sequence *sequence, json_t *root)
{
    json_t *expected = json_object_get(root, "left_out");
    size_t count = 0;
    const struct chp_left_out *left_out = chp_sequence_left_out(sequence, &count);
    REQUIRE(count == json_array_size(expected), "%zu pairs left out instead of %zu", count,
            json_array_size(expected));
    for (size_t i = 0; i < count; i++) {
        json_t *pair = json_array_get(expected, i);
        REQUIRE(
            strcmp(text(&left_out[i].first), json_string_value(json_array_get(pair, 0))) == 0 &&
                strcmp(text(&left_out[i].second), json_string_value(json_array_get(pair, 1))) == 0,
            "pair %zu left out: %s, %s", i, text(&left_out[i].first), text(&left_out[i].second));
    }
}

static bool in_ranges(const struct history_operation *operation, const struct chp_range *ranges,
                      size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if ((unsigned)(ranges[i].origin[0] - 'A') == operation->site &&
            ranges[i].first <= operation->n && operation->n <= ranges[i].last) {
            return true;
        }
    }
    return false;
}

static bool in_names(json_t *names, const char *wanted)
{
    size_t i;
    json_t *name;
    json_array_foreach(names, i, name)
    {
        if (strcmp(json_string_value(name), wanted) == 0) {
            return true;
        }
    }
    return false;
}

/* What a new operation with the type and the past of a recorded one displaces: with what others of
 * its past have displaced, that is what is recorded. */
static void check_made(const struct history *history, unsigned made, json_t *root)
{
    struct chp_sequence *sequence = chp_sequence_new();
    struct chp_arena arena = {0};
    const struct chp_range *ranges;
    size_t count;
    json_t *object = json_array_get(json_object_get(root, "operations"), made);
    json_t *past = json_object_get(object, "past");
    size_t index;
    json_t *name;
    json_array_foreach(past, index, name)
    {
        history_add(history, (unsigned)strtoul(json_string_value(name) + 1, NULL, 10), sequence);
    }
    chp_sequence_displaces(sequence, history->types[history->operations[made].type],
                           history->matrix, &arena, &ranges, &count);
    json_array_foreach(past, index, name)
    {
        const char *text_of = json_string_value(name);
        const struct history_operation *other =
            &history->operations[(unsigned)strtoul(text_of + 1, NULL, 10)];
        struct chp_fate fate;
        REQUIRE(chp_sequence_fate(sequence, &other->id, &fate), "%s is not there", text_of);
        REQUIRE(in_names(json_object_get(object, "displaces"), text_of) ==
                    (fate.displaced == CHP_DISPLACED_PAST || in_ranges(other, ranges, count)),
                "o%u and %s", made, text_of);
    }
    chp_sequence_free(sequence);
    chp_arena_deinit(&arena);
}

static void check_history(json_t *root, uint64_t *random)
{
    struct history history;
    REQUIRE(history_read(&history, root), "not a history");
    unsigned *order = chp_calloc(history.count, sizeof *order);
    for (int turn = 0; turn < SHUFFLES + 2; turn++) {
        struct chp_sequence *sequence = chp_sequence_new();
        for (unsigned i = 0; i < history.count; i++) {
            order[i] = turn == 1 ? history.count - 1 - i : i;
        }
        for (unsigned i = history.count; turn > 1 && i > 1; i--) {
            unsigned j = (unsigned)(history_random(random) % i);
            unsigned other = order[i - 1];
            order[i - 1] = order[j];
            order[j] = other;
        }
        for (unsigned i = 0; i < history.count; i++) {
            history_add(&history, order[i], sequence);
            if (history_random(random) % 3 == 0) {
                (void)chp_sequence_count(sequence); /* computed now, and changed later */
                history_add(&history, order[history_random(random) % (i + 1)], sequence);
            }
        }
        check_sequence(sequence, root);
        check_reasons(&history, sequence, root);
        check_left_out(sequence, root);
        chp_sequence_free(sequence);
    }
    for (unsigned i = 0; i < history.count; i++) {
        check_made(&history, i, root);
    }
    free(order);
    history_free(&history);
}

int main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : HISTORIES;
    FILE *in = strcmp(path, "-") == 0 ? stdin : fopen(path, "r");
    char *line = chp_alloc(LINE_MAX_BYTES);
    uint64_t random = 88172645463325252;
    if (in == NULL) {
        (void)fprintf(stderr, "%s cannot be read\n", path);
        return 1;
    }
    while (fgets(line, LINE_MAX_BYTES, in) != NULL) {
        line_number++;
        json_error_t error;
        json_t *root = json_loads(line, 0, &error);
        REQUIRE(root != NULL, "%s", error.text);
        check_history(root, &random);
        json_decref(root);
    }
    free(line);
    (void)fclose(in);
    (void)printf("%u histories, each in %d orders\n", line_number, SHUFFLES + 2);
    return line_number > 0 ? 0 : 1;
}
