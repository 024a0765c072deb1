/* SPDX-License-Identifier: AGPL-3.0-only */
/* Inside the sequence: what the replicas share of compiled matrices, and parts of the replica. */
#ifndef CHP_SEQUENCE_MATRICES_H
#define CHP_SEQUENCE_MATRICES_H

#include "sequence/replica.h"

struct compiled {
    char *text; /* canonical; NULL: the matrix without rows */
    struct chp_matrix *matrix;
    size_t users;
};

/* The compiled form of a canonical text, or of none (NULL); to be left as often as it was used. */
struct compiled *matrices__use(struct chp_matrices *matrices, const char *text);
void matrices__leave(struct chp_matrices *matrices, struct compiled *compiled);

/* Arbitration order. */
int replica__compare(const struct chp_entry *a, const struct chp_entry *b);

/* Adds to the ranges what is displaced already, by operations that may yet turn out to have failed
 * everywhere, and what a new operation of this type displaces as well (displaces.c). */
void replica__displace_unsure(struct chp_replica *replica, const char *type,
                              const struct chp_matrix *matrix, struct chp_arena *arena,
                              const struct chp_range **ranges, size_t *count);

#endif
