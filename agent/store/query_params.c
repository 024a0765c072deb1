/* SPDX-License-Identifier: AGPL-3.0-only */
#include "store/query_params.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

enum kind {
    KIND_TEXT,
    KIND_OPERATION, /* id, must be given */
    KIND_BEFORE,    /* id of an operation, or "" */
    KIND_STATE,     /* or "" */
    KIND_NUMBER,    /* 0 when not given */
    KIND_LIMIT,
};

static const struct {
    size_t count;
    enum kind kinds[QUERY_PARAMS_MAX];
} queries[CHP_QUERY_COUNT] = {
    [CHP_QUERY_OPERATION] = {1, {KIND_OPERATION}},
    [CHP_QUERY_OPERATIONS] = {5, {KIND_TEXT, KIND_STATE, KIND_BEFORE, KIND_LIMIT, KIND_TEXT}},
    [CHP_QUERY_RESOURCE] = {1, {KIND_TEXT}},
    [CHP_QUERY_RESOURCES] = {2, {KIND_TEXT, KIND_LIMIT}},
    [CHP_QUERY_HISTORY] = {2, {KIND_TEXT, KIND_LIMIT}},
    [CHP_QUERY_EVENTS] = {2, {KIND_NUMBER, KIND_LIMIT}},
    [CHP_QUERY_SITES] = {0, {KIND_TEXT}},
    [CHP_QUERY_STATUS] = {0, {KIND_TEXT}},
    [CHP_QUERY_TROUBLED] = {0, {KIND_TEXT}},
};

/* Digits only, at most 18 of them, so that it is a bigint. */
static bool is_number(const char *text)
{
    size_t digits = strspn(text, "0123456789");
    return digits > 0 && digits <= 18 && text[digits] == 0;
}

static int check_one(enum kind kind, const char *text, const char **value, struct chp_error *error)
{
    struct chp_uuid id;
    enum chp_state state;
    *value = text;
    switch (kind) {
    case KIND_TEXT:
        if (!chp_utf8_valid(text, strlen(text))) {
            return chp_error_set(error, CHP_EINVAL, "the id is not valid UTF-8");
        }
        return 0;
    case KIND_BEFORE:
        if (text[0] == 0) {
            return 0;
        }
        __attribute__((fallthrough));
    case KIND_OPERATION:
        if (chp_uuid_parse(text, &id) != 0) {
            return chp_error_set(error, CHP_EINVAL,
                                 "'%.40s' is not the id of an operation: a UUID is needed", text);
        }
        return 0;
    case KIND_STATE:
        if (text[0] != 0 && chp_state_parse(text, &state) != 0) {
            return chp_error_set(
                error, CHP_EINVAL,
                "'%.40s' is not a state: accepted, queued, delivered, running, done, failed, "
                "refused, superseded, voided, expired and in-doubt are",
                text);
        }
        return 0;
    case KIND_NUMBER:
        *value = text[0] == 0 ? "0" : text;
        if (!is_number(*value)) {
            return chp_error_set(error, CHP_EINVAL, "'%.40s' is not a number: digits are needed",
                                 text);
        }
        return 0;
    case KIND_LIMIT:
        *value = text[0] == 0 ? "100" : text;
        if (!is_number(*value) || strtoul(*value, NULL, 10) < 1 ||
            strtoul(*value, NULL, 10) > QUERY_LIMIT_MAX) {
            return chp_error_set(error, CHP_EINVAL, "'%.40s' is not a limit: 1 to %d are allowed",
                                 text, QUERY_LIMIT_MAX);
        }
        return 0;
    }
    return 0;
}

int query__params_init(struct query_params *checked, enum chp_query query,
                       const char *const *params, size_t param_count, struct chp_error *error)
{
    CHP_ASSERT((size_t)query < CHP_QUERY_COUNT && param_count <= queries[query].count);
    *checked = (struct query_params){0};
    for (size_t i = 0; i < queries[query].count; i++) {
        const char *text = i < param_count && params[i] != NULL ? params[i] : "";
        const char *value;
        int code = check_one(queries[query].kinds[i], text, &value, error);
        if (code != 0) {
            query__params_deinit(checked);
            return code;
        }
        checked->values[checked->count++] = chp_strdup(value);
    }
    return 0;
}

void query__params_deinit(struct query_params *checked)
{
    for (size_t i = 0; i < checked->count; i++) {
        free(checked->values[i]);
    }
    *checked = (struct query_params){0};
}
