/* SPDX-License-Identifier: AGPL-3.0-only */
/* Names of the enums, rules for names, order of stamps, version vectors: what needs no bytes. */
#include "wire/item.h"

#include <string.h>

static const char *const key_names[CHP_KEY_COUNT] = {
    [CHP_KEY_REQUEST] = "request", [CHP_KEY_OPERATION] = "operation", [CHP_KEY_ACK] = "ack",
    [CHP_KEY_CONTROL] = "control", [CHP_KEY_BEAT] = "beat",           [CHP_KEY_BULK] = "bulk",
};

enum { LEVEL_COUNT = CHP_LEVEL_STRONG + 1 };

static const char *const level_names[LEVEL_COUNT] = {
    [CHP_LEVEL_NONE] = "none",
    [CHP_LEVEL_EVENTUAL] = "eventual",
    [CHP_LEVEL_TRANSACTIONAL] = "transactional",
    [CHP_LEVEL_STRONG] = "strong",
};

static const char *const state_names[CHP_STATE_COUNT] = {
    [CHP_STATE_ACCEPTED] = "accepted",   [CHP_STATE_QUEUED] = "queued",
    [CHP_STATE_DELIVERED] = "delivered", [CHP_STATE_RUNNING] = "running",
    [CHP_STATE_DONE] = "done",           [CHP_STATE_FAILED] = "failed",
    [CHP_STATE_REFUSED] = "refused",     [CHP_STATE_SUPERSEDED] = "superseded",
    [CHP_STATE_VOIDED] = "voided",       [CHP_STATE_EXPIRED] = "expired",
    [CHP_STATE_IN_DOUBT] = "in-doubt",
};

static const char *const resolution_names[CHP_RESOLUTION_COUNT] = {
    [CHP_RESOLVE_DONE] = "done",
    [CHP_RESOLVE_FAILED] = "failed",
    [CHP_RESOLVE_RERUN] = "rerun",
    [CHP_RESOLVE_REBUILD] = "rebuild",
    [CHP_RESOLVE_REBUILD_EMPTY] = "rebuild-empty",
};

const char *chp_key_name(enum chp_key key)
{
    CHP_ASSERT((unsigned)key < CHP_KEY_COUNT);
    return key_names[key];
}

const char *chp_level_name(enum chp_level level)
{
    CHP_ASSERT((unsigned)level < LEVEL_COUNT);
    return level_names[level];
}

const char *chp_state_name(enum chp_state state)
{
    CHP_ASSERT((unsigned)state < CHP_STATE_COUNT);
    return state_names[state];
}

const char *chp_resolution_name(enum chp_resolution resolution)
{
    CHP_ASSERT((unsigned)resolution < CHP_RESOLUTION_COUNT);
    return resolution_names[resolution];
}

/* Index of text in names, -1 when it is not there. */
static int index_of(const char *const *names, size_t count, const char *text)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(names[i], text) == 0) {
            return (int)i;
        }
    }
    return -1;
}

int chp_key_parse(const char *text, enum chp_key *key)
{
    int index = index_of(key_names, CHP_KEY_COUNT, text);
    if (index < 0) {
        return CHP_EINVAL;
    }
    *key = (enum chp_key)index;
    return 0;
}

int chp_level_parse(const char *text, enum chp_level *level)
{
    int index = index_of(level_names, LEVEL_COUNT, text);
    if (index < 0) {
        return CHP_EINVAL;
    }
    *level = (enum chp_level)index;
    return 0;
}

int chp_state_parse(const char *text, enum chp_state *state)
{
    int index = index_of(state_names, CHP_STATE_COUNT, text);
    if (index < 0) {
        return CHP_EINVAL;
    }
    *state = (enum chp_state)index;
    return 0;
}

int chp_resolution_parse(const char *text, enum chp_resolution *resolution)
{
    int index = index_of(resolution_names, CHP_RESOLUTION_COUNT, text);
    if (index < 0) {
        return CHP_EINVAL;
    }
    *resolution = (enum chp_resolution)index;
    return 0;
}

bool chp_state_final(enum chp_state state)
{
    switch (state) {
    case CHP_STATE_ACCEPTED:
    case CHP_STATE_QUEUED:
    case CHP_STATE_DELIVERED:
    case CHP_STATE_RUNNING:
    case CHP_STATE_IN_DOUBT:
        return false;
    case CHP_STATE_DONE:
    case CHP_STATE_FAILED:
    case CHP_STATE_REFUSED:
    case CHP_STATE_SUPERSEDED:
    case CHP_STATE_VOIDED:
    case CHP_STATE_EXPIRED:
        return true;
    }
    CHP_ASSERT(!"a state");
    return false;
}

int chp_stamp_compare(struct chp_stamp a, struct chp_stamp b)
{
    if (a.ms != b.ms) {
        return a.ms < b.ms ? -1 : 1;
    }
    return (a.counter > b.counter) - (a.counter < b.counter);
}

int chp_arbitration_compare(struct chp_stamp a, const char *a_origin, const struct chp_uuid *a_id,
                            struct chp_stamp b, const char *b_origin, const struct chp_uuid *b_id)
{
    int order = chp_stamp_compare(a, b);
    if (order == 0) {
        order = strcmp(a_origin, b_origin);
    }
    return order != 0 ? order : chp_uuid_compare(a_id, b_id);
}

static bool is_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

enum { SHOWN_BYTES = 64 };

/* A name as it may stand in a sentence: cut, and whatever could disturb a line or a quotation as
 * '?'. */
static const char *shown(const char *name, char text[SHOWN_BYTES])
{
    size_t len = 0;
    for (; name[len] != 0 && len < SHOWN_BYTES - 4; len++) {
        bool plain = name[len] >= ' ' && name[len] <= '~' && name[len] != '"';
        text[len] = plain ? name[len] : '?';
    }
    memcpy(text + len, name[len] == 0 ? "" : "...", name[len] == 0 ? 1 : 4);
    return text;
}

/* 1 to max letters, digits and characters of more, the first one not in not_first. */
static bool name_fits(const char *name, size_t max, const char *more, const char *not_first)
{
    size_t len = strlen(name);
    if (len == 0 || len > max || strchr(not_first, name[0]) != NULL) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (!is_alnum(name[i]) && strchr(more, name[i]) == NULL) {
            return false;
        }
    }
    return true;
}

int chp_resource_id_check(const char *id, struct chp_error *error)
{
    char text[SHOWN_BYTES];
    if (name_fits(id, CHP_ID_MAX_BYTES, "._-:@+=~,", "-.")) {
        return 0;
    }
    return chp_error_set(error, CHP_EINVAL,
                         "resource id \"%s\" is not allowed: 1 to %d letters, digits and any of"
                         " . _ - : @ + = ~ , and not starting with '-' or '.'",
                         shown(id, text), CHP_ID_MAX_BYTES);
}

int chp_type_check(const char *type, struct chp_error *error)
{
    char text[SHOWN_BYTES];
    if (name_fits(type, CHP_TYPE_MAX_BYTES, "._-", "")) {
        return 0;
    }
    return chp_error_set(error, CHP_EINVAL,
                         "type \"%s\" is not allowed: 1 to %d letters, digits and any of . _ -",
                         shown(type, text), CHP_TYPE_MAX_BYTES);
}

int chp_file_name_check(const char *name, struct chp_error *error)
{
    char text[SHOWN_BYTES];
    if (name_fits(name, CHP_FILE_NAME_MAX_BYTES, "._-", "-.")) {
        return 0;
    }
    return chp_error_set(error, CHP_EINVAL,
                         "file name \"%s\" is not allowed: 1 to %d letters, digits and any of . _ -"
                         " and not starting with '.' or '-'",
                         shown(name, text), CHP_FILE_NAME_MAX_BYTES);
}

int chp_site_name_check(const char *site, struct chp_error *error)
{
    char text[SHOWN_BYTES];
    size_t len = strlen(site);
    bool fits = len >= 1 && len <= CHP_SITE_MAX_BYTES && chp_utf8_valid(site, len) &&
                site[0] != ' ' && site[len - 1] != ' ';
    for (size_t i = 0; i < len && fits; i++) {
        unsigned char c = (unsigned char)site[i];
        fits = c >= ' ' && c != 0x7f && strchr("/\\\"*#", c) == NULL;
    }
    if (fits) {
        return 0;
    }
    return chp_error_set(error, CHP_EINVAL,
                         "site name \"%s\" is not allowed: 1 to %d bytes of UTF-8 without control"
                         " characters, / \\ \" * # and spaces at its ends",
                         shown(site, text), CHP_SITE_MAX_BYTES);
}

/* Index of (origin, incarnation) in the sorted entries, or where it would be. */
static size_t vector_place(const struct chp_vector *vector, const char *origin,
                           uint64_t incarnation, bool *found)
{
    size_t low = 0;
    size_t high = vector->count;
    *found = false;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct chp_dot *dot = &vector->entries[middle];
        int order = strcmp(dot->origin, origin);
        if (order == 0) {
            order = (dot->incarnation > incarnation) - (dot->incarnation < incarnation);
        }
        if (order == 0) {
            *found = true;
            return middle;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

uint64_t chp_vector_get(const struct chp_vector *vector, const char *origin, uint64_t incarnation)
{
    bool found = false;
    size_t place = vector_place(vector, origin, incarnation, &found);
    return found ? vector->entries[place].n : 0;
}

/* An insertion copies all entries: they have no spare capacity that could be trusted (a decoded
 * vector is exact), and a new origin or incarnation is rare. */
void chp_vector_set(struct chp_vector *vector, struct chp_arena *arena, const char *origin,
                    uint64_t incarnation, uint64_t n)
{
    bool found = false;
    size_t place = vector_place(vector, origin, incarnation, &found);
    if (found) {
        vector->entries[place].n = n;
        return;
    }
    struct chp_dot *entries = chp_arena_calloc(arena, vector->count + 1, sizeof *entries);
    if (vector->count > 0) {
        memcpy(entries, vector->entries, place * sizeof *entries);
        memcpy(entries + place + 1, vector->entries + place,
               (vector->count - place) * sizeof *entries);
    }
    entries[place] = (struct chp_dot){
        .origin = chp_arena_strdup(arena, origin), .incarnation = incarnation, .n = n};
    vector->entries = entries;
    vector->count++;
}

struct chp_vector chp_vector_copy(const struct chp_vector *vector, struct chp_arena *arena)
{
    struct chp_vector copy = {.count = vector->count};
    copy.entries = chp_arena_calloc(arena, vector->count, sizeof *copy.entries);
    for (size_t i = 0; i < vector->count; i++) {
        copy.entries[i] = vector->entries[i];
        copy.entries[i].origin = chp_arena_strdup(arena, vector->entries[i].origin);
    }
    return copy;
}

bool chp_vector_includes(const struct chp_vector *vector, const struct chp_vector *context)
{
    for (size_t i = 0; i < context->count; i++) {
        const struct chp_dot *dot = &context->entries[i];
        if (chp_vector_get(vector, dot->origin, dot->incarnation) < dot->n) {
            return false;
        }
    }
    return true;
}
