/* SPDX-License-Identifier: AGPL-3.0-only */
/* Text of a value -> field of a struct, by the option's row. */
#include "config/internal.h"

#include "base/suggest.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct suffix {
    const char *text;
    uint64_t factor;
};

/* By unit, largest first; what has no suffix in the file counts in the unit itself. */
static const struct suffix suffixes[][6] = {
    [UNIT_COUNT] = {{NULL, 0}},
    [UNIT_BYTES] =
        {{"G", 1024 * 1024 * 1024}, {"M", 1024 * 1024}, {"k", 1024}, {"K", 1024}, {NULL, 0}},
    [UNIT_MS] = {{"h", 3600 * 1000}, {"m", 60 * 1000}, {"s", 1000}, {"ms", 1}, {NULL, 0}},
    [UNIT_S] = {{"h", 3600}, {"m", 60}, {"s", 1}, {NULL, 0}},
};

static char *format_number(const struct config__option *option, uint64_t value,
                           struct chp_arena *arena)
{
    const struct suffix *suffix = suffixes[option->unit];
    while (suffix->text != NULL && (value == 0 || value % suffix->factor != 0)) {
        suffix++;
    }
    return chp_arena_printf(arena, "%" PRIu64 "%s",
                            suffix->text == NULL ? value : value / suffix->factor,
                            suffix->text == NULL ? "" : suffix->text);
}

static const char *number_allowed(const struct config__option *option, struct chp_arena *arena)
{
    static const char *const hints[] = {
        [UNIT_COUNT] = "",
        [UNIT_BYTES] = " (bytes, or with k, M, G)",
        [UNIT_MS] = " (milliseconds, or with ms, s, m, h)",
        [UNIT_S] = " (seconds, or with s, m, h)",
    };
    return chp_arena_printf(arena, "a whole number from %s to %s%s",
                            format_number(option, option->min, arena),
                            format_number(option, option->max, arena), hints[option->unit]);
}

static bool parse_number(const struct config__option *option, const char *value, uint64_t *number)
{
    uint64_t digits = 0;
    const char *at = value;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (digits > option->max) { /* 10 times it still fits: the largest max is 2^40 */
            return false;
        }
        digits = digits * 10 + (uint64_t)(*at - '0');
    }
    if (at == value) {
        return false;
    }
    uint64_t factor = *at == '\0' ? 1 : 0;
    for (const struct suffix *suffix = suffixes[option->unit]; suffix->text != NULL; suffix++) {
        factor = strcmp(at, suffix->text) == 0 ? suffix->factor : factor;
    }
    if (factor == 0 || digits > option->max / factor) {
        return false;
    }
    *number = digits * factor;
    return *number >= option->min;
}

static const char *set_choice(const struct config__option *option, const char *value,
                              struct chp_arena *arena, int *field)
{
    const char *names[8];
    size_t count = 0;
    for (const struct config__choice *choice = option->choices; choice->name != NULL; choice++) {
        if (strcmp(choice->name, value) == 0) {
            *field = choice->value;
            return NULL;
        }
        names[count++] = choice->name;
    }
    struct chp_buf allowed = {0};
    chp_suggest_list(&allowed, names, count, SIZE_MAX);
    const char *sentence = chp_arena_strndup(arena, chp_buf_text(&allowed), allowed.len);
    chp_buf_deinit(&allowed);
    return sentence;
}

static const char *set_list(const struct config__option *option, const char *value,
                            struct chp_arena *arena, struct chp_config_list *field)
{
    struct chp_config_list list = {0};
    size_t cap = 1;
    for (const char *at = value; *at != '\0'; at++) {
        cap += *at == ',';
    }
    if (cap > CHP_CONFIG_LIST_MAX) {
        return chp_arena_printf(arena, "a list of at most %d items", CHP_CONFIG_LIST_MAX);
    }
    list.items = chp_arena_calloc(arena, cap, sizeof(char *));
    const char *at = value;
    for (size_t i = 0; i < cap; i++) {
        size_t len = strcspn(at, ",");
        struct chp_bytes item = config__trim(chp_bytes(at, len));
        list.items[list.count++] = chp_arena_strndup(arena, item.data, item.len);
        const char *allowed = item.len == 0 ? "a list separated by ',', without empty items"
                              : option->check == NULL ? NULL
                                                      : option->check(list.items[list.count - 1]);
        if (allowed != NULL) {
            return allowed;
        }
        at += len + 1;
    }
    *field = list;
    return NULL;
}

static const char *set_text(const struct config__option *option, const char *value,
                            const char *directory, struct chp_arena *arena, const char **field)
{
    const char *allowed = option->check == NULL ? NULL : option->check(value);
    if (allowed != NULL) {
        return allowed;
    }
    bool relative = option->type == OPTION_PATH && value[0] != '/';
    *field = relative ? chp_arena_printf(arena, "%s/%s", directory, value)
                      : chp_arena_strdup(arena, value);
    return NULL;
}

static const char *unset(const struct config__option *option, void *field)
{
    if (option->preset != NULL || option->required) {
        return "a value that is not empty";
    }
    if (option->type == OPTION_LIST) {
        *(struct chp_config_list *)field = (struct chp_config_list){0};
    } else {
        CHP_ASSERT(option->type == OPTION_STRING || option->type == OPTION_PATH);
        *(const char **)field = NULL;
    }
    return NULL;
}

const char *config__set(const struct config__option *option, const char *value,
                        const char *directory, struct chp_arena *arena, void *target)
{
    void *field = (char *)target + option->offset;
    if (*value == '\0') {
        return unset(option, field);
    }
    switch (option->type) {
    case OPTION_STRING:
    case OPTION_PATH:
        return set_text(option, value, directory, arena, field);
    case OPTION_BOOL:
        *(bool *)field = strcmp(value, "yes") == 0;
        return *(bool *)field || strcmp(value, "no") == 0 ? NULL : "yes or no";
    case OPTION_NUMBER:
        return parse_number(option, value, field) ? NULL : number_allowed(option, arena);
    case OPTION_LIST:
        return set_list(option, value, arena, field);
    case OPTION_CHOICE:
        return set_choice(option, value, arena, field);
    }
    CHP_ASSERT(!"a type of option");
    return "";
}

void config__set_presets(enum config__section_id section, const char *directory,
                         struct chp_arena *arena, void *target)
{
    for (size_t i = 0; i < config__option_count; i++) {
        const struct config__option *option = &config__options[i];
        if (option->section == section && option->preset != NULL) {
            const char *refused = config__set(option, option->preset, directory, arena, target);
            CHP_ASSERT(refused == NULL);
        }
    }
}

static bool text_equal(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static bool list_equal(const struct chp_config_list *a, const struct chp_config_list *b)
{
    bool equal = a->count == b->count;
    for (size_t i = 0; i < a->count && equal; i++) {
        equal = strcmp(a->items[i], b->items[i]) == 0;
    }
    return equal;
}

bool config__equal(const struct config__option *option, const void *a, const void *b)
{
    const void *left = (const char *)a + option->offset;
    const void *right = (const char *)b + option->offset;
    switch (option->type) {
    case OPTION_STRING:
    case OPTION_PATH:
        return text_equal(*(const char *const *)left, *(const char *const *)right);
    case OPTION_BOOL:
        return *(const bool *)left == *(const bool *)right;
    case OPTION_NUMBER:
        return *(const uint64_t *)left == *(const uint64_t *)right;
    case OPTION_LIST:
        return list_equal(left, right);
    case OPTION_CHOICE:
        return *(const int *)left == *(const int *)right;
    }
    CHP_ASSERT(!"a type of option");
    return false;
}
