/* SPDX-License-Identifier: AGPL-3.0-only */
/* Inside the sequence: what the replicas share of compiled matrices. */
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

#endif
