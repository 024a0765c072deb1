/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * The replica of a resource of level eventual on one site (design section 6): the operations that
 * the site holds, the sequence that follows from them, and what of it the application has had.
 *
 * Operations may be added before their causes are held: until then they wait and do not count.
 * Pure: no I/O, no clock.
 */
#ifndef CHP_SEQUENCE_REPLICA_H
#define CHP_SEQUENCE_REPLICA_H

#include "sequence/plan.h"

/* Compiled matrices, each once, for all replicas that refer to it. Must outlive them. */
struct chp_matrices;
struct chp_matrices *chp_matrices_new(void);
void chp_matrices_free(struct chp_matrices *matrices);

/* Operations of the agents themselves, which no driver runs: their driver's name, and the type of
 * one that voids another, whose id is its payload. */
#define CHP_DRIVER_INTERNAL "cheops"
#define CHP_TYPE_VOID       "void"

/* What became of an operation at this site. */
struct chp_entry {
    /* Of the operation. */
    struct chp_uuid id;
    struct chp_dot dot; /* the replica's */
    struct chp_stamp stamp;
    const char *type; /* the replica's */
    bool has_undo;
    bool is_void; /* it voids target */
    struct chp_uuid target;
    bool waits;   /* for a cause that is not held */
    bool refused; /* it is not a possible operation: its stamp is not above those of its causes */
    /* Of its execution here, set by the replica's owner. */
    bool executes; /* this site is to execute it */
    enum chp_state state;
    uint32_t run;
    uint64_t effect; /* its place among those whose effect the application has, equal ones in
                        arbitration order; 0: it has not */
    bool undoing;
    bool done_elsewhere;
    bool completed;    /* every member has answered: known at its origin */
    bool held_back;    /* it failed and is not to run now: the plan does without it */
    bool planned;      /* it is to run */
    uint64_t retry_us; /* when it may run again, if it is held back */
    unsigned retries;
};

struct chp_replica;

/* base: the canonical text of the matrix that was in force for all that is not added any more,
 * since it was forgotten (design 4.8); NULL: everything is. */
struct chp_replica *chp_replica_new(struct chp_matrices *matrices, const char *base);
/* NULL is allowed. */
void chp_replica_free(struct chp_replica *replica);

/* Adds an operation, which is copied; *entry is new, or the one that is there, and the replica's
 * until it is freed. held: the dots that are held here, this one included. CHP_EINVAL: as of
 * chp_sequence_add. */
int chp_replica_add(struct chp_replica *replica, const struct chp_operation *operation,
                    const struct chp_vector *held, struct chp_entry **entry,
                    struct chp_error *error) CHP_MUST_CHECK;
/* Those that waited for what is held now do not wait any more; false: there are none. */
bool chp_replica_advance(struct chp_replica *replica, const struct chp_vector *held);

/* NULL: it is not known. */
struct chp_entry *chp_replica_find(struct chp_replica *replica, const struct chp_uuid *id);
size_t chp_replica_count(const struct chp_replica *replica);
/* By index, in the order of adding. */
struct chp_entry *chp_replica_entry(struct chp_replica *replica, size_t index);

struct chp_sequence *chp_replica_sequence(struct chp_replica *replica);

/* What an operation that is made here has seen: held, without what waits. */
void chp_replica_context(const struct chp_replica *replica, const struct chp_vector *held,
                         struct chp_arena *arena, struct chp_vector *context);

/* The matrix in force: that of the creation that comes first in arbitration order, or a later one
 * with a higher (version, hash). Canonical text, the replica's; NULL: none. */
const char *chp_replica_config(const struct chp_replica *replica);
uint64_t chp_replica_config_version(const struct chp_replica *replica);
/* The one in force for who has seen no more than this. */
const char *chp_replica_config_seen(const struct chp_replica *replica,
                                    const struct chp_vector *seen);
const struct chp_matrix *chp_replica_matrix(const struct chp_replica *replica);
/* Whether config (canonical text) may follow the one in force: it is the same, or higher. */
int chp_replica_check_config(const struct chp_replica *replica, const char *config,
                             struct chp_error *error) CHP_MUST_CHECK;

/* What a new operation of this type displaces, made here now under config (NULL: the one in force):
 * as chp_sequence_displaces. CHP_ETOOBIG: over CHP_DISPLACES_MAX, or over CHP_KINDS_MAX types. */
int chp_replica_displaces(struct chp_replica *replica, const char *type, const char *config,
                          struct chp_arena *arena, const struct chp_range **ranges, size_t *count,
                          struct chp_error *error) CHP_MUST_CHECK;

/*
 * What has to run here. Entries that are held back do not run and are not waited for: when only
 * with them a way is known, what else is missing runs, and the state is not right yet, nor is it
 * diverged. When it is diverged, what is missing is in run as well.
 */
void chp_replica_plan(struct chp_replica *replica, struct chp_arena *arena, struct chp_plan *plan);

/* Why the operation is not in the sequence, or not where arbitration order would have it: the same
 * sentence on every site that holds the same operations. NULL: there is nothing to say. */
const char *chp_replica_reason(struct chp_replica *replica, const struct chp_entry *entry,
                               struct chp_arena *arena);

#endif
