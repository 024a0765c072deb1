/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Inside the sequence.
 *
 * A chain is the operations of one origin and incarnation. Each has seen those before it, so what
 * one knows of a chain is a number, and what can be reached of it begins or ends at a place in it.
 *
 * A block is operations that have all seen every operation of the blocks before. Nothing in it is
 * concurrent with anything outside it, so the sequence is that of the blocks, one after the other:
 * an operation that has seen everything is a block of its own at the end, one that is concurrent
 * with some joins the blocks from the first of these on.
 */
#ifndef CHP_SEQUENCE_INTERNAL_H
#define CHP_SEQUENCE_INTERNAL_H

#include "sequence/sequence.h"

#include "base/map.h"

#include <stdint.h>

#define NONE UINT32_MAX

/* What the table of pairs holds: the rule, and whether it is assumed, and whether the second one,
 * run after the first, leaves the state as if the first had not run. */
enum { PAIR_RULE = 3, PAIR_ASSUMED = 4, PAIR_WIPES = 8 };

/* A type under one matrix. */
struct kind {
    char *type;
    const struct chp_matrix *matrix;
};

struct chain {
    char *origin;
    uint64_t incarnation;
    uint32_t *members; /* nodes by number */
    /* For each member the first from it on that nothing displaces (rule 1), as far as is known:
     * followed and shortened by who looks. */
    uint32_t *open;
    uint32_t count;
    uint32_t cap;
    uint64_t seen_max; /* the highest number that a context names */
};

/* Numbers of one chain. */
struct span {
    uint32_t chain;
    uint64_t first;
    uint64_t last;
};

/* An operation. Others name it by its index. */
struct node {
    struct chp_uuid id;
    uint64_t n;
    struct chp_stamp stamp;
    uint32_t chain;
    uint32_t kind;
    uint32_t block;
    uint32_t place;      /* in its block's order, when live */
    uint64_t *seen;      /* by chain: all up to this number */
    uint32_t seen_count; /* of later chains it has seen nothing */
    uint32_t span_count;
    struct span *spans; /* that it displaces (rule 1) */
    uint32_t past;      /* the arbitration-first of those that displace it (rule 1), or NONE */
    uint32_t winner;    /* that displaces it as a concurrent one (rule 2), or NONE */
    bool is_void;
};

/* With one node, which most have, nothing is allocated. */
struct block {
    uint32_t single;
    uint32_t count;
    uint32_t cap;
    uint32_t live;   /* how many are in the sequence */
    uint32_t losers; /* and how many lost against a concurrent one */
    uint32_t start;  /* place in the sequence of the first of them */
    uint32_t *nodes; /* in arbitration order */
    uint32_t *order; /* of those that live */
    struct chp_left_out *left_out;
    size_t left_out_count;
    bool dirty;
};

struct chp_sequence {
    struct chp_map *by_id; /* of the index + 1 */
    struct node *nodes;
    uint32_t node_count;
    uint32_t node_cap;
    uint32_t last; /* in arbitration order, or NONE */
    struct chain *chains;
    uint32_t chain_count;
    struct kind *kinds;
    uint32_t kind_count;
    uint32_t kind_cap;
    uint8_t *table; /* kind_cap squared: before, after */
    struct block *blocks;
    uint32_t block_count;
    uint32_t block_cap;
    uint32_t settled;              /* the blocks before this one are computed */
    uint32_t first_live;           /* in the blocks before this one nothing lives */
    uint64_t losers;               /* of all blocks that are computed */
    struct chp_left_out *left_out; /* of all blocks */
};

/* Whether a is in the past of b. */
static inline bool sequence__past(const struct chp_sequence *sequence, uint32_t a, uint32_t b)
{
    const struct node *of = &sequence->nodes[a];
    const struct node *by = &sequence->nodes[b];
    return of->chain < by->seen_count && by->seen[of->chain] >= of->n;
}

static inline const uint32_t *sequence__nodes(const struct block *block)
{
    return block->count == 1 ? &block->single : block->nodes;
}

/* Whether rule 1 and voids leave it. */
static inline bool sequence__stands(const struct node *node)
{
    return !node->is_void && node->past == NONE;
}

/* What the higher of two kinds' matrices says of them. */
static inline unsigned sequence__pair(const struct chp_sequence *sequence, uint32_t before_kind,
                                      uint32_t after_kind)
{
    return sequence->table[(size_t)before_kind * sequence->kind_cap + after_kind];
}

static inline enum chp_pair_rule sequence__rule(const struct chp_sequence *sequence,
                                                uint32_t before_kind, uint32_t after_kind)
{
    return (enum chp_pair_rule)(sequence__pair(sequence, before_kind, after_kind) & PAIR_RULE);
}

/* A type under a matrix; added when it is new. */
uint32_t sequence__kind(struct chp_sequence *sequence, const char *type,
                        const struct chp_matrix *matrix);

/* The node with this id, or NONE. */
uint32_t sequence__find(const struct chp_sequence *sequence, const struct chp_uuid *id);

/* Arbitration: stamp, origin, id. */
int sequence__compare(const struct chp_sequence *sequence, uint32_t a, uint32_t b);

/* Joins a node to the blocks. */
void sequence__place(struct chp_sequence *sequence, uint32_t node);
/* Something about a node has changed that its block depends on. */
void sequence__touch(struct chp_sequence *sequence, uint32_t node);
/* Computes what has changed. */
void sequence__settle(struct chp_sequence *sequence);
void sequence__free_blocks(struct chp_sequence *sequence);

/* Rules 2 and 3 in a block of several (rules.c): winners, places, order, left out. */
void sequence__decide(struct chp_sequence *sequence, struct block *block);

/* What rule 3 works on (order.c): operations that live, by their place in arbitration order. */
struct ordering {
    uint32_t count;
    uint32_t chain_count;
    uint32_t kind_count;
    const uint32_t *chain; /* by operation */
    const uint32_t *kind;
    const uint64_t *n;         /* number in its chain */
    const uint64_t *seen;      /* count times chain_count: of each chain all up to this number */
    const uint8_t *pair_rules; /* kind_count squared: before, after */
    /* Called for each pair that is left out: first should have been before second. */
    void (*left_out)(void *user, uint32_t first, uint32_t second);
    void *user;
};

/* Fills out with the operations in the order of rule 3. */
void sequence__order(const struct ordering *ordering, uint32_t *out);

#endif
