/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Tables of the in-memory store, shared by the mem_*.c. A row is never changed once it is in a map:
 * another takes its place. So a snapshot copies the maps and shares the rows, and what a load
 * answered stays as it was.
 */
#ifndef CHP_STORE_MEM_INTERNAL_H
#define CHP_STORE_MEM_INTERNAL_H

#include "base/list.h"
#include "base/map.h"
#include "store/mem_store.h"

struct mem_operation {
    struct chp_operation operation; /* decoded from item */
    struct chp_bytes item;
    const char *reply_to;
    const char *correlation_id;
    uint64_t arrival;
    bool clock_suspect;
    bool completed;
    bool failed;
};

struct mem_outbound {
    const char *site;
    enum chp_key key;
    uint64_t number;
    bool is_operation;
    struct chp_uuid operation; /* or zeroed, and then: */
    struct chp_bytes item;
    uint64_t queued_ms;
};

struct mem_execution {
    struct chp_execution_row row;
    bool own;
};

struct mem_event {
    uint64_t number;
    uint64_t at_ms;
    const char *kind;
    const char *json;
};

struct mem_key {
    struct chp_sha256 hash;
    struct chp_uuid operation;
    uint64_t at_ms;
};

struct mem_lost {
    const char *resource;
    struct chp_range range;
};

/* Memory of all rows: replaced ones stay until the last store that shares it goes. */
struct mem_rows {
    struct chp_arena arena;
    size_t stores;
};

struct mem_listener {
    struct chp_uuid operation;
    uint64_t place;
    struct chp_listener to;
};

struct mem_store {
    struct chp_store store;
    struct chp_store_callbacks callbacks;
    struct mem_rows *rows;
    const char *database;
    struct {
        const char *site; /* NULL: never used */
        uint64_t incarnation;
        const char *database; /* as it was written */
        uint64_t event_published;
        uint64_t serial;
    } self;
    uint64_t arrival_last;
    uint64_t event_last;
    struct chp_map *resources;  /* id -> chp_resource_row */
    struct chp_map *operations; /* id -> mem_operation */
    struct chp_map *dots;       /* resource, origin, incarnation, n -> mem_operation */
    struct chp_map *executions; /* operation, site -> mem_execution */
    struct chp_map *outbound;   /* site, key, number -> mem_outbound */
    struct chp_map *streams;    /* site, key, direction, incarnation -> chp_stream_row */
    struct chp_map *events;     /* number -> mem_event */
    struct chp_map *keys;       /* principal, key -> mem_key */
    struct chp_map *peers;      /* site -> chp_peer_row */
    struct chp_map *undecoded;  /* site, key, incarnation, number -> chp_undecoded_row */
    uint64_t undecoded_last;    /* arrival */
    struct chp_map *lost;       /* resource, origin, incarnation, first -> mem_lost */
    struct chp_map *listeners;  /* operation, place -> mem_listener */
    struct chp_map *replies;    /* number -> chp_reply_row */
    struct chp_batch *batch;    /* in flight, or NULL */
    bool failing;               /* batch ends as unavailable */
    struct chp_list queries;
    bool is_up;
    bool announce; /* on_up has not been called yet */
};

/* Rows of map that keep says (all with keep NULL), sorted; released with free(). */
typedef bool mem_keep_fn(const void *row, const void *user);
void **mem__select(const struct chp_map *map, mem_keep_fn *keep, const void *user,
                   int (*compare)(const void *, const void *), size_t *count);
/* Comparisons of pointers to rows, for the above. */
int mem__by_arbitration(const void *a, const void *b);  /* mem_operation */
int mem__by_arrival(const void *a, const void *b);      /* mem_operation */
int mem__by_site(const void *a, const void *b);         /* mem_execution */
int mem__by_number(const void *a, const void *b);       /* mem_event */
int mem__by_stream(const void *a, const void *b);       /* chp_stream_row */
int mem__by_id(const void *a, const void *b);           /* chp_resource_row */
int mem__by_reply_number(const void *a, const void *b); /* chp_reply_row */
/* Whether an event (row) of a store (user) is published and not the last one. */
bool mem__may_forget(const void *row, const void *user);

const struct mem_execution *mem__execution(const struct mem_store *store,
                                           const struct chp_uuid *operation, const char *site);
/* A row's name in its map: strings end with a NUL. Valid until buf changes. */
struct chp_bytes mem__name_of(struct chp_buf *buf, const char *first, const char *second,
                              uint64_t a, uint64_t b);
struct chp_bytes mem__execution_name(struct chp_buf *buf, const struct chp_uuid *operation,
                                     const char *site);
struct chp_bytes mem__uuid_bytes(const struct chp_uuid *uuid);
/* The writes of a batch that was checked, by kind. */
void mem__apply(struct mem_store *store, const struct chp_batch *batch);
/* Fills in the load's result. */
void mem__load(const struct mem_store *store, struct chp_load *load, struct chp_arena *arena);
/* The answer as JSON text, released with free(); NULL when there is no such row. */
char *mem__answer(const struct mem_store *store, enum chp_query query, char *const *params);

#endif
