/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * The store as the daemon sees it: PostgreSQL (store/pg_store.h) or its in-memory twin
 * (store/mem_store.h), which keep the same contract (tests/contract/store).
 *
 * - A batch is one transaction. on_done is called once, never from inside submit: 0 when it has
 * committed (loads are then filled in); CHP_EUNAVAILABLE when the database is away and the outcome
 * is *unknown*; CHP_EINVAL when the database refused the data (nothing of it is stored; *error says
 * what).
 * - One batch is in flight at a time; submit while busy is a broken invariant.
 * - Nothing blocks. After a loss the store reconnects by itself with backoff and calls on_up.
 */
#ifndef CHP_PORT_STORE_H
#define CHP_PORT_STORE_H

#include "port/state.h"

struct chp_batch {
    struct chp_arena arena;
    struct chp_write *writes;
    size_t write_count;
    size_t write_cap;
    struct chp_load *loads;
    size_t load_count;
    size_t load_cap;
    void (*on_done)(struct chp_batch *batch, int code, const struct chp_error *error);
    void *user;
};

/* Adds a zeroed write or load of the kind; valid until the next call (arrays grow in the arena). */
struct chp_write *chp_batch_write(struct chp_batch *batch, enum chp_write_kind kind);
struct chp_load *chp_batch_load(struct chp_batch *batch, enum chp_load_kind kind);
bool chp_batch_empty(const struct chp_batch *batch);
/* Frees what the batch holds, not the batch. */
void chp_batch_deinit(struct chp_batch *batch);

/* What doors ask; answers are JSON text made by the database from committed state only (shapes:
 * schema/openapi.json). Parameters are text; an empty one means "no filter". */
enum chp_query {
    CHP_QUERY_OPERATION,  /* id -> object */
    CHP_QUERY_OPERATIONS, /* resource, state, before id, limit, site -> {"operations": [...]},
                             newest first; with a site: those with it, in the state there */
    CHP_QUERY_RESOURCE,   /* id -> object */
    CHP_QUERY_RESOURCES,  /* after id, limit -> {"resources": [...]} by id */
    CHP_QUERY_HISTORY,    /* resource id, limit -> {"operations": [...]} in sequence order */
    CHP_QUERY_EVENTS, /* after number, limit -> {"events": [...], "last": N, "oldest": N (0: none)}
                       */
    CHP_QUERY_SITES,  /* -> [{"site", "waiting", "oldest_at", "marks": {...}}] for every site with a
                         stream */
    CHP_QUERY_STATUS, /* -> {"schema_version", "incarnation", "site", "resources", "operations",
                         ...} */
    CHP_QUERY_TROUBLED, /* -> {"diverged": N, "degraded": N, "resources": [{"id", "diverged"}]}: how
                           many replicas are (diverged ones count as that only), and the first
                           ten of each by id, diverged ones first; "diverged" says why, or null */
};
enum { CHP_QUERY_COUNT = CHP_QUERY_TROUBLED + 1 };

/* code 0 with json NULL: no such row. json is valid during the call only. */
typedef void chp_query_fn(void *user, int code, const char *json, const struct chp_error *error);

struct chp_store;

struct chp_store_vtable {
    void (*submit)(struct chp_store *store, struct chp_batch *batch);
    /* Queries queue up behind each other (bounded: CHP_EBUSY through the callback). Canceled ones
     * are never called back; cancel with the user pointer. */
    void (*query)(struct chp_store *store, enum chp_query query, const char *const *params,
                  size_t param_count, chp_query_fn *on_answer, void *user);
    void (*query_cancel)(struct chp_store *store, void *user);
    bool (*up)(const struct chp_store *store);
    void (*free)(struct chp_store *store);
};

struct chp_store {
    const struct chp_store_vtable *vtable; /* first member of every implementation */
};

struct chp_store_callbacks {
    void *user;
    /* The database answers and its schema fits (again), or does not. error says why when down. */
    void (*on_up)(void *user);
    void (*on_down)(void *user, const struct chp_error *error);
};

static inline void chp_store_submit(struct chp_store *store, struct chp_batch *batch)
{
    store->vtable->submit(store, batch);
}

static inline void chp_store_query(struct chp_store *store, enum chp_query query,
                                   const char *const *params, size_t param_count,
                                   chp_query_fn *on_answer, void *user)
{
    store->vtable->query(store, query, params, param_count, on_answer, user);
}

static inline void chp_store_query_cancel(struct chp_store *store, void *user)
{
    store->vtable->query_cancel(store, user);
}

static inline bool chp_store_up(const struct chp_store *store)
{
    return store->vtable->up(store);
}

static inline void chp_store_free(struct chp_store *store)
{
    if (store != NULL) {
        store->vtable->free(store);
    }
}

#endif
