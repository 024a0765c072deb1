/* SPDX-License-Identifier: AGPL-3.0-only */
/* Some sites in one process: engines over in-memory stores, messages and commands played by the
 * test, a virtual clock. */
#ifndef CHP_TESTS_CLUSTER_H
#define CHP_TESTS_CLUSTER_H

#include "engine/engine.h"
#include "store/mem_store.h"

enum {
    CLUSTER_SITES_MAX = 4,
    CLUSTER_RUNS_MAX = 4096,
    CLUSTER_MESSAGES_MAX = 8192,
    CLUSTER_TOLD_MAX = 64,
    CLUSTER_LATER_KIND = 42, /* of items that nobody knows yet */
};

struct cluster;

struct cluster_run {
    struct chp_uuid operation;
    char type[32];
};

struct cluster_message {
    int from;
    int to;
    enum chp_key key;
    uint64_t number;
    uint64_t incarnation;
    struct chp_buf item;
};

struct node {
    struct cluster *cluster;
    int index;
    const char *site;
    struct chp_engine_config config;
    struct chp_engine_peer peers[CLUSTER_SITES_MAX];
    struct chp_engine *engine;
    struct chp_store *store;
    struct chp_effects *open;
    struct chp_effects *in_flight;
    struct cluster_run runs[CLUSTER_RUNS_MAX]; /* commands that were really run, in order */
    size_t run_count;
    struct chp_arena kept;  /* messages and requests that the engine may still look at */
    struct chp_reply reply; /* the last */
    char error[512];
    size_t reply_count;
    size_t completed_count;
    size_t unverified_count;
    size_t settled_count;
    size_t dead_count;
    size_t events;
    bool lost_events; /* the next has another number */
    bool commands_hang;
    /* The high-water file. */
    struct chp_high_water known;
    struct chp_taken taken[CLUSTER_SITES_MAX];
    uint64_t serial;
    const char *regressed;
    uint64_t regressed_incarnation;
    size_t lives; /* engines that were started */
    struct {
        uint64_t incarnation;
        uint64_t number;
    } sent[CLUSTER_SITES_MAX][CHP_KEY_COUNT]; /* the last of each stream */
    const char *reply_to;                     /* of the next requests, or NULL */
    char told[CLUSTER_TOLD_MAX][64];
    size_t told_count;
    uint64_t told_last;
    bool commands_doubt; /* they end in doubt */
    const char *fails;   /* commands of this type fail here, or NULL */
    const char *matrix;  /* of the next requests, or NULL */
    bool undo;           /* the next requests bring one */
    int resolved_code;   /* the last answer to a resolve, its sentence in error */
    size_t resolved_count;
    int64_t clock_ms; /* what its wall clock is ahead of the others' */
};

struct cluster {
    struct node nodes[CLUSTER_SITES_MAX];
    int count;
    struct chp_now now;                                    /* of a site whose clock is right */
    struct cluster_message messages[CLUSTER_MESSAGES_MAX]; /* on their way */
    size_t message_count;
    bool cut[CLUSTER_SITES_MAX][CLUSTER_SITES_MAX];
    int drop_next; /* so many messages are lost */
    bool duplicate_all;
    bool upgraded; /* CLUSTER_LATER_KIND is known: it is that of operations */
    uint64_t next_ticket;
    uint64_t next_id;
    uint64_t next_delivery;
};

/* Sites A, B, C, ... started and up to date with each other's beats. */
void cluster_start(struct cluster *cluster, int count, size_t resources_max, size_t pending_max);
void cluster_stop(struct cluster *cluster);
/* From now on so many operations of a resource are kept; the engines are made anew. */
void cluster_keep(struct cluster *cluster, size_t operations);
/* Until nothing moves any more (bounded); messages on cut links stay. */
void cluster_settle(struct cluster *cluster);
/* A second passes: tick, beats and marks between sites that are not cut. */
void cluster_second(struct cluster *cluster);
/* Offers a request for an operation that runs `type`; returns its operation id. Results in the
 * node's reply. */
struct chp_uuid cluster_request(struct node *node, const char *resource, const char *type,
                                const char *scope, const char *key);
/* The engine is thrown away as when the store fails; applied says whether the batch in flight was.
 */
void cluster_reset(struct node *node, bool applied);
struct chp_store *cluster_empty_store(void);
/* The site stops, and starts again with this database (taken over) instead of its own; keeps_file:
 * with its high-water file. */
void cluster_replace_store(struct node *node, struct chp_store *store, bool keeps_file);
/* Says what became of an execution in doubt at node. */
void cluster_resolve(struct node *node, const struct chp_uuid *operation,
                     enum chp_resolution resolution);
/* Commits a batch that is not the engine's, and frees it. */
void cluster_write(struct node *node, struct chp_batch *batch);
/* The time at node, by its own clock. */
struct chp_now cluster_now(const struct node *node);
/* As the store of node shows them; suspect may be NULL. */
struct chp_stamp cluster_stamp(struct node *node, const struct chp_uuid *operation, bool *suspect);
/* What the store of node has of the operation at a site: "state run reason". */
const char *cluster_shown(struct node *node, const struct chp_uuid *operation, const char *site);
/* The row of a resource as the store of node has it, and of how many operations. */
struct chp_resource_row cluster_row(struct node *node, const char *resource, size_t *operations);
/* Puts an item into the stream of operations from a site to another, as if it had been sent. */
void cluster_inject(struct cluster *cluster, int from, int to, uint64_t number,
                    struct chp_bytes item);
size_t cluster_count_runs(const struct node *node, const struct chp_uuid *operation);

#endif
