/* SPDX-License-Identifier: AGPL-3.0-only */
/* What the queries of port/store.h take: one table for the store and its twin. Internal to the
 * store. */
#ifndef CHP_STORE_QUERY_PARAMS_H
#define CHP_STORE_QUERY_PARAMS_H

#include "port/store.h"

enum { QUERY_PARAMS_MAX = 5, QUERY_LIMIT_MAX = 1000 };

struct query_params {
    size_t count;
    char *values[QUERY_PARAMS_MAX]; /* owned; with defaults where nothing was given, never NULL
                                       below count */
};

/* Checks params and fills in defaults; CHP_EINVAL says which one is wrong. Release with
 * query__params_deinit. */
int query__params_init(struct query_params *checked, enum chp_query query,
                       const char *const *params, size_t param_count,
                       struct chp_error *error) CHP_MUST_CHECK;
void query__params_deinit(struct query_params *checked);

#endif
