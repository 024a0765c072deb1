/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * A site's account of a resource, as JSON for the doors: what it knows, what became of each
 * operation and why, and what a new one would do. Made of rows of the database; pure.
 */
#ifndef CHP_DAEMON_ACCOUNT_H
#define CHP_DAEMON_ACCOUNT_H

#include "port/state.h"
#include "sequence/replica.h"

#include <jansson.h>

enum { ACCOUNT_LIST_MAX = 100 }; /* of lists within one answer; how many there are is said */

struct account;

/* Of a load of a resource that was found; the load must outlive it. site is this one. */
struct account *account__new(const struct chp_load *load, const char *site);
/* NULL is allowed. */
void account__free(struct account *account);

/* Resource, how many operations there are, and the limit newest of them: in the order of the
 * sequence, then those that are not in it. New reference, as below. */
json_t *account__history(struct account *account, size_t limit);
/* The same of level none, from the answer of CHP_QUERY_HISTORY. */
json_t *account__history_of_none(const char *resource, const char *site, const json_t *answer);

/* Vector, counts, digest of the sequence, state. */
json_t *account__knowledge(struct account *account);

/* What is to be made, and where. */
struct account_new {
    const char *principal;
    const char *type;
    bool has_undo;
    uint64_t incarnation; /* of this site */
    uint64_t wall_ms;
};
/* The operation that would be made here; in arena, and borrowing from the account and from made.
 * CHP_EREFUSED at level none; CHP_ETOOBIG as of chp_replica_displaces. */
int account__operation(struct account *account, const struct account_new *made,
                       struct chp_arena *arena, struct chp_operation *operation,
                       struct chp_error *error) CHP_MUST_CHECK;
/* What it would do here. Once for an account, which has it from then on. NULL with *error:
 * CHP_EREFUSED at level none, CHP_ECONFLICT when it could not be made any more. */
json_t *account__plan(struct account *account, const struct chp_operation *operation,
                      struct chp_error *error);

#endif
