/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Rules 2 and 3 in one block.
 *
 * Rule 2 asks of each operation, from the last one down, for the last survivor that is concurrent
 * with it and take-one with its type. Survivors are kept by chain and type, latest first; what the
 * operations of a chain have seen only grows, so in such a list those that have seen the operation
 * come first, and the one that is looked for is found by halving.
 */
#include "sequence/internal.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

/* A block's operations that rule 1 leaves, with chains and kinds numbered as they come in it. */
struct work {
    struct chp_sequence *sequence;
    struct block *block;
    uint32_t count;
    uint32_t chain_count;
    uint32_t kind_count;
    uint32_t *nodes; /* in arbitration order, as are all by operation */
    uint32_t *chain;
    uint32_t *kind;
    uint64_t *n;
    uint64_t *seen; /* count times chain_count */
    uint8_t *pair_rules;
    size_t left_out_cap;
};

/* name numbers value as names[value], which is NONE before. */
static uint32_t number(uint32_t *names, uint32_t value, uint32_t *values, uint32_t *count)
{
    if (names[value] == NONE) {
        names[value] = *count;
        values[(*count)++] = value;
    }
    return names[value];
}

static uint32_t *names_new(uint32_t count)
{
    uint32_t *names = chp_calloc(count, sizeof *names);
    memset(names, 0xff, count * sizeof *names);
    return names;
}

static void fill_seen(struct work *work, const uint32_t *chains)
{
    work->seen = chp_calloc((size_t)work->count * work->chain_count, sizeof *work->seen);
    for (uint32_t i = 0; i < work->count; i++) {
        const struct node *node = &work->sequence->nodes[work->nodes[i]];
        for (uint32_t c = 0; c < work->chain_count; c++) {
            work->seen[(size_t)i * work->chain_count + c] =
                chains[c] < node->seen_count ? node->seen[chains[c]] : 0;
        }
    }
}

static void fill_pair_rules(struct work *work, const uint32_t *kinds)
{
    work->pair_rules = chp_calloc(work->kind_count, work->kind_count);
    for (uint32_t a = 0; a < work->kind_count; a++) {
        for (uint32_t b = 0; b < work->kind_count; b++) {
            work->pair_rules[a * work->kind_count + b] =
                (uint8_t)sequence__rule(work->sequence, kinds[a], kinds[b]);
        }
    }
}

static void gather(struct work *work)
{
    struct chp_sequence *sequence = work->sequence;
    const struct block *block = work->block;
    uint32_t *chain_names = names_new(sequence->chain_count);
    uint32_t *kind_names = names_new(sequence->kind_count);
    uint32_t *chains = chp_calloc(sequence->chain_count, sizeof *chains);
    uint32_t *kinds = chp_calloc(sequence->kind_count, sizeof *kinds);
    work->nodes = chp_calloc(block->count, sizeof *work->nodes);
    work->chain = chp_calloc(block->count, sizeof *work->chain);
    work->kind = chp_calloc(block->count, sizeof *work->kind);
    work->n = chp_calloc(block->count, sizeof *work->n);
    for (uint32_t i = 0; i < block->count; i++) {
        struct node *node = &sequence->nodes[block->nodes[i]];
        node->winner = NONE;
        if (sequence__stands(node)) {
            uint32_t at = work->count++;
            work->nodes[at] = block->nodes[i];
            work->chain[at] = number(chain_names, node->chain, chains, &work->chain_count);
            work->kind[at] = number(kind_names, node->kind, kinds, &work->kind_count);
            work->n[at] = node->n;
        }
    }
    fill_seen(work, chains);
    fill_pair_rules(work, kinds);
    free(chain_names);
    free(kind_names);
    free(chains);
    free(kinds);
}

/* Survivors of one chain and kind, latest first. */
struct survivors {
    uint32_t *operations;
    uint32_t count;
};

/* The last survivor in a list that has not seen operation; NONE: all have. */
static uint32_t last_concurrent(const struct work *work, const struct survivors *list,
                                uint32_t operation)
{
    uint32_t low = 0;
    uint32_t high = list->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        uint64_t seen = work->seen[(size_t)list->operations[middle] * work->chain_count +
                                   work->chain[operation]];
        if (seen >= work->n[operation]) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < list->count ? list->operations[low] : NONE;
}

static uint32_t winner_of(const struct work *work, const struct survivors *lists,
                          uint32_t operation)
{
    const uint8_t *row = &work->pair_rules[work->kind[operation] * work->kind_count];
    uint32_t winner = NONE;
    for (uint32_t k = 0; k < work->kind_count; k++) {
        for (uint32_t c = 0; row[k] == CHP_TAKE_ONE && c < work->chain_count; c++) {
            const struct survivors *list = &lists[(size_t)c * work->kind_count + k];
            if (c == work->chain[operation] || list->count == 0) {
                continue;
            }
            uint32_t found = last_concurrent(work, list, operation);
            winner = found != NONE && (winner == NONE || found > winner) ? found : winner;
        }
    }
    return winner;
}

/* Rule 2. Only those that it leaves are in work afterwards. */
static void take_one(struct work *work)
{
    size_t list_count = (size_t)work->chain_count * work->kind_count;
    struct survivors *lists = chp_calloc(list_count, sizeof *lists);
    uint32_t *space = chp_calloc(work->count, sizeof *space);
    bool *lives = chp_alloc(work->count);
    for (uint32_t i = 0; i < work->count; i++) {
        lists[(size_t)work->chain[i] * work->kind_count + work->kind[i]].count++;
    }
    for (size_t i = 0, at = 0; i < list_count; i++) {
        lists[i].operations = space + at;
        at += lists[i].count;
        lists[i].count = 0;
    }
    for (uint32_t i = work->count; i-- > 0;) {
        uint32_t winner = winner_of(work, lists, i);
        struct node *node = &work->sequence->nodes[work->nodes[i]];
        if (winner != NONE) {
            node->winner = work->nodes[winner];
        } else {
            struct survivors *list =
                &lists[(size_t)work->chain[i] * work->kind_count + work->kind[i]];
            list->operations[list->count++] = i;
            lives[i] = true;
        }
    }
    uint32_t live = 0;
    for (uint32_t i = 0; i < work->count; i++) {
        if (lives[i]) {
            work->nodes[live] = work->nodes[i];
            work->chain[live] = work->chain[i];
            work->kind[live] = work->kind[i];
            work->n[live] = work->n[i];
            memmove(&work->seen[(size_t)live * work->chain_count],
                    &work->seen[(size_t)i * work->chain_count],
                    work->chain_count * sizeof *work->seen);
            live++;
        }
    }
    work->block->losers = work->count - live;
    work->count = live;
    free(lists);
    free(space);
    free(lives);
}

static void on_left_out(void *user, uint32_t first, uint32_t second)
{
    struct work *work = user;
    struct block *block = work->block;
    if (block->left_out_count == work->left_out_cap) {
        work->left_out_cap = work->left_out_cap == 0 ? 16 : work->left_out_cap * 2;
        block->left_out =
            chp_realloc(block->left_out, work->left_out_cap * sizeof *block->left_out);
    }
    block->left_out[block->left_out_count++] =
        (struct chp_left_out){work->sequence->nodes[work->nodes[first]].id,
                              work->sequence->nodes[work->nodes[second]].id};
}

void sequence__decide(struct chp_sequence *sequence, struct block *block)
{
    struct work work = {.sequence = sequence, .block = block};
    free(block->left_out);
    block->left_out = NULL;
    block->left_out_count = 0;
    gather(&work);
    take_one(&work);
    struct ordering ordering = {
        .count = work.count,
        .chain_count = work.chain_count,
        .kind_count = work.kind_count,
        .chain = work.chain,
        .kind = work.kind,
        .n = work.n,
        .seen = work.seen,
        .pair_rules = work.pair_rules,
        .left_out = on_left_out,
        .user = &work,
    };
    block->live = work.count;
    sequence__order(&ordering, block->order);
    for (uint32_t i = 0; i < block->live; i++) {
        block->order[i] = work.nodes[block->order[i]];
        sequence->nodes[block->order[i]].place = i;
    }
    free(work.nodes);
    free(work.chain);
    free(work.kind);
    free(work.n);
    free(work.seen);
    free(work.pair_rules);
}
