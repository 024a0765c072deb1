/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * The plan (design section 6): from what a site has executed and the canonical sequence, the least
 * that makes its application's state that of the sequence. Pure.
 *
 * It holds as far as the matrix tells the truth about which operations commute, and which types
 * establish the whole state.
 */
#ifndef CHP_SEQUENCE_PLAN_H
#define CHP_SEQUENCE_PLAN_H

#include "sequence/sequence.h"

/* An execution that had its effect and was not undone. */
struct chp_ran {
    struct chp_uuid operation; /* in the set */
    bool has_undo;             /* the operation brings a command that takes its effect back */
};

enum chp_plan_kind {
    CHP_PLAN_NOTHING,    /* the state is right */
    CHP_PLAN_APPEND,     /* what is missing can run as it is */
    CHP_PLAN_REPLAY,     /* from the last operation that establishes the whole state */
    CHP_PLAN_COMPENSATE, /* some are undone, then run again where they belong */
    CHP_PLAN_DIVERGED,   /* no way is known */
};

struct chp_plan {
    enum chp_plan_kind kind;
    const struct chp_uuid *undo; /* COMPENSATE: in this order, before what runs */
    size_t undo_count;
    const struct chp_uuid *run; /* in this order */
    size_t run_count;
    size_t again;       /* how many of run have run before */
    bool order_assumed; /* a pair is out of order that is only assumed to commute */
    const char *reason; /* DIVERGED: a sentence */
    bool lacks;         /* the state is not right until something that is held back has run */
};

/*
 * ran: in the order of execution, an operation as often as it ran. held_back: operations that are
 * not to run (now): the state that is aimed at is that of the sequence without them. Lists and
 * reason are in arena.
 */
void chp_plan_make(struct chp_sequence *sequence, const struct chp_ran *ran, size_t ran_count,
                   const struct chp_uuid *held_back, size_t held_back_count,
                   struct chp_arena *arena, struct chp_plan *plan);

#endif
