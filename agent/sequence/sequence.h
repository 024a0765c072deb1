/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * The sequence of a resource (design section 6): which of its operations count, in which order, and
 * why the others do not. A function of the set of operations alone, in whatever order they were
 * added.
 *
 * Pure: no I/O, no clock. What is asked is computed when it is asked, as far as what was added
 * since can have changed it (blocks.c).
 */
#ifndef CHP_SEQUENCE_SEQUENCE_H
#define CHP_SEQUENCE_SEQUENCE_H

#include "matrix/matrix.h"
#include "wire/item.h"

struct chp_sequence;

/* Why an operation of the set is not in the sequence. */
enum chp_displaced {
    CHP_DISPLACED_NOT,      /* it is in the sequence */
    CHP_DISPLACED_PAST,     /* by an operation that had seen it, when that was made (rule 1) */
    CHP_DISPLACED_TAKE_ONE, /* by a later, concurrent one (rule 2) */
    CHP_DISPLACED_VOID,     /* it failed at every member */
};

struct chp_sequence_operation {
    struct chp_uuid id;
    struct chp_dot dot;
    struct chp_stamp stamp;
    const char *type;
    const struct chp_matrix *matrix; /* that it was made under */
    struct chp_vector context;
    const struct chp_range *displaces;
    size_t displaces_count;
};

/* What became of an operation. */
struct chp_fate {
    enum chp_displaced displaced;
    size_t place;        /* in the sequence, when it is there */
    struct chp_uuid by;  /* who displaced it, for PAST and TAKE_ONE */
    const char *type;    /* its own type */
    const char *by_type; /* that of by */
};

/* Two operations of which the matrix wants first before second, and which are the other way round:
 * with other pairs it would have closed a circle (rule 3). */
struct chp_left_out {
    struct chp_uuid first;
    struct chp_uuid second;
};

struct chp_sequence *chp_sequence_new(void);
/* NULL is allowed. */
void chp_sequence_free(struct chp_sequence *sequence);

/*
 * Adds an operation, which is copied, but for its matrix: that must outlive the sequence. One whose
 * id is there already changes nothing. Causes may come after what they cause.
 *
 * CHP_EINVAL: the dot is another operation's, or the stamp is not above that of every cause, or not
 * below that of everything that it is a cause of: no agent makes such an operation.
 */
int chp_sequence_add(struct chp_sequence *sequence, const struct chp_sequence_operation *operation,
                     struct chp_error *error) CHP_MUST_CHECK;

/* The operation takes no part in resolution any more; what it displaced is back. false: it is not
 * in the set. */
bool chp_sequence_void(struct chp_sequence *sequence, const struct chp_uuid *id);

/* How many operations are in the set, and in the sequence. */
size_t chp_sequence_known(const struct chp_sequence *sequence);
size_t chp_sequence_count(struct chp_sequence *sequence);
/* How many types there are, each under each matrix that its operations were made under. */
size_t chp_sequence_kinds(const struct chp_sequence *sequence);

/*
 * The causal block that an operation of the set is in, from 0: it has seen every operation of the
 * lower blocks, and every operation of the higher ones has seen it. single: it is alone in it.
 */
size_t chp_sequence_block(struct chp_sequence *sequence, const struct chp_uuid *id, bool *single);
/* Whether it makes the whole state, as the matrix says that it was made under. */
bool chp_sequence_establishes(struct chp_sequence *sequence, const struct chp_uuid *id);

/* The operation at a place of the sequence, below count; valid until the next change. */
const struct chp_uuid *chp_sequence_at(struct chp_sequence *sequence, size_t place);

/* false: it is not in the set. The strings are the sequence's. */
bool chp_sequence_fate(struct chp_sequence *sequence, const struct chp_uuid *id,
                       struct chp_fate *fate);

/* How the matrices decide about a pair, whose order is before, after: both in the set. */
enum chp_pair_rule chp_sequence_resolve(struct chp_sequence *sequence,
                                        const struct chp_uuid *before,
                                        const struct chp_uuid *after);

/* The pairs that rule 3 left out, in arbitration order; the sequence's until the next change. */
const struct chp_left_out *chp_sequence_left_out(struct chp_sequence *sequence, size_t *count);

/*
 * What a new operation of this type displaces that has seen the whole set (rule 1): what it takes
 * out of the sequence, and what a concurrent one had taken out. What others displaced when they
 * were made stays displaced by them, and is back with what they displaced when they are void. The
 * ranges are in arena, sorted by origin, incarnation and number.
 */
void chp_sequence_displaces(struct chp_sequence *sequence, const char *type,
                            const struct chp_matrix *matrix, struct chp_arena *arena,
                            const struct chp_range **ranges, size_t *count);

#endif
