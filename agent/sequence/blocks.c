/* SPDX-License-Identifier: AGPL-3.0-only */
/* Blocks: what is concurrent together, in causal order of the blocks (internal.h); and the sequence
 * that they make. */
#include "sequence/internal.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

static void free_block(struct block *block)
{
    free(block->nodes);
    free(block->order);
    free(block->left_out);
}

void sequence__free_blocks(struct chp_sequence *sequence)
{
    for (uint32_t i = 0; i < sequence->block_count; i++) {
        free_block(&sequence->blocks[i]);
    }
    free(sequence->blocks);
}

static void add_block(struct chp_sequence *sequence, uint32_t node)
{
    if (sequence->block_count == sequence->block_cap) {
        sequence->block_cap = sequence->block_cap == 0 ? 8 : sequence->block_cap * 2;
        sequence->blocks =
            chp_realloc(sequence->blocks, sequence->block_cap * sizeof *sequence->blocks);
    }
    sequence->nodes[node].block = sequence->block_count;
    sequence->blocks[sequence->block_count++] =
        (struct block){.single = node, .count = 1, .dirty = true};
}

static void reserve(struct block *block, uint32_t count)
{
    if (count > block->cap) {
        uint32_t cap = block->cap == 0 ? 16 : block->cap;
        while (cap < count) {
            cap *= 2;
        }
        block->nodes = chp_realloc(block->nodes, cap * sizeof *block->nodes);
        block->order = chp_realloc(block->order, cap * sizeof *block->order);
        block->cap = cap;
    }
    if (block->count == 1) {
        block->nodes[0] = block->single;
    }
}

/* Joins the blocks from first on. Each one's stamps are above those of the one before. */
static void merge(struct chp_sequence *sequence, uint32_t first, uint32_t extra)
{
    struct block *block = &sequence->blocks[first];
    uint32_t count = extra;
    for (uint32_t i = first; i < sequence->block_count; i++) {
        count += sequence->blocks[i].count;
    }
    reserve(block, count);
    for (uint32_t i = first + 1; i < sequence->block_count; i++) {
        struct block *other = &sequence->blocks[i];
        const uint32_t *nodes = sequence__nodes(other);
        memcpy(&block->nodes[block->count], nodes, other->count * sizeof *nodes);
        for (uint32_t j = 0; j < other->count; j++) {
            sequence->nodes[nodes[j]].block = first;
        }
        block->count += other->count;
        sequence->losers -= other->losers;
        free_block(other);
    }
    sequence->block_count = first + 1;
}

static void insert(struct chp_sequence *sequence, struct block *block, uint32_t node)
{
    uint32_t at = block->count++;
    while (at > 0 && sequence__compare(sequence, block->nodes[at - 1], node) > 0) {
        block->nodes[at] = block->nodes[at - 1];
        at--;
    }
    block->nodes[at] = node;
}

static bool all_past(const struct chp_sequence *sequence, const struct block *block, uint32_t node)
{
    const uint32_t *nodes = sequence__nodes(block);
    for (uint32_t i = block->count; i > 0; i--) {
        if (!sequence__past(sequence, nodes[i - 1], node)) {
            return false;
        }
    }
    return true;
}

void sequence__place(struct chp_sequence *sequence, uint32_t node)
{
    uint32_t first = sequence->block_count;
    /* What a block has seen, who has seen the block has seen, too. */
    while (first > 0 && !all_past(sequence, &sequence->blocks[first - 1], node)) {
        first--;
    }
    if (first == sequence->block_count) {
        add_block(sequence, node);
        return;
    }
    merge(sequence, first, 1);
    insert(sequence, &sequence->blocks[first], node);
    sequence->nodes[node].block = first;
    sequence__touch(sequence, node);
}

void sequence__touch(struct chp_sequence *sequence, uint32_t node)
{
    uint32_t block = sequence->nodes[node].block;
    sequence->blocks[block].dirty = true;
    sequence->settled = sequence->settled < block ? sequence->settled : block;
    sequence->first_live = sequence->first_live < block ? sequence->first_live : block;
}

void sequence__settle(struct chp_sequence *sequence)
{
    uint32_t start = 0;
    if (sequence->settled > 0) {
        const struct block *before = &sequence->blocks[sequence->settled - 1];
        start = before->start + before->live;
    }
    for (; sequence->settled < sequence->block_count; sequence->settled++) {
        struct block *block = &sequence->blocks[sequence->settled];
        if (block->dirty && block->count == 1) {
            struct node *node = &sequence->nodes[block->single];
            node->place = 0;
            block->live = sequence__stands(node);
        } else if (block->dirty) {
            sequence->losers -= block->losers;
            sequence__decide(sequence, block);
            sequence->losers += block->losers;
        }
        block->dirty = false;
        block->start = start;
        start += block->live;
    }
    while (sequence->first_live < sequence->block_count &&
           sequence->blocks[sequence->first_live].live == 0) {
        sequence->first_live++;
    }
}

size_t chp_sequence_count(struct chp_sequence *sequence)
{
    sequence__settle(sequence);
    if (sequence->block_count == 0) {
        return 0;
    }
    const struct block *last = &sequence->blocks[sequence->block_count - 1];
    return (size_t)last->start + last->live;
}

const struct chp_uuid *chp_sequence_at(struct chp_sequence *sequence, size_t place)
{
    uint32_t low = 0;
    uint32_t high = sequence->block_count;
    CHP_ASSERT(place < chp_sequence_count(sequence));
    while (high - low > 1) { /* blocks before low start at or before place */
        uint32_t middle = low + (high - low) / 2;
        if (sequence->blocks[middle].start <= place) {
            low = middle;
        } else {
            high = middle;
        }
    }
    const struct block *block = &sequence->blocks[low];
    const uint32_t *order = block->count == 1 ? &block->single : block->order;
    return &sequence->nodes[order[place - block->start]].id;
}

const struct chp_left_out *chp_sequence_left_out(struct chp_sequence *sequence, size_t *count)
{
    *count = 0;
    sequence__settle(sequence);
    for (uint32_t i = 0; i < sequence->block_count; i++) {
        *count += sequence->blocks[i].left_out_count;
    }
    sequence->left_out = chp_realloc(sequence->left_out, (*count + 1) * sizeof *sequence->left_out);
    size_t done = 0;
    for (uint32_t i = 0; i < sequence->block_count; i++) {
        const struct block *block = &sequence->blocks[i];
        if (block->left_out_count > 0) {
            memcpy(&sequence->left_out[done], block->left_out,
                   block->left_out_count * sizeof *block->left_out);
            done += block->left_out_count;
        }
    }
    return sequence->left_out;
}

/* Nodes, as many as come. */
struct list {
    uint32_t *nodes;
    size_t count;
    size_t cap;
};

static void append(struct list *list, uint32_t node)
{
    if (list->count == list->cap) {
        list->cap = list->cap == 0 ? 16 : list->cap * 2;
        list->nodes = chp_realloc(list->nodes, list->cap * sizeof *list->nodes);
    }
    list->nodes[list->count++] = node;
}

/* What a new operation of the kind takes out of the sequence: a walk from its end. */
static void walk(const struct chp_sequence *sequence, uint32_t kind, struct list *list)
{
    bool commutes = true;
    for (uint32_t k = 0; k < sequence->kind_count; k++) {
        commutes = commutes && sequence__rule(sequence, k, kind) == CHP_TAKE_BOTH_ANY_ORDER;
    }
    for (uint32_t i = sequence->block_count; i > sequence->first_live && !commutes; i--) {
        const struct block *block = &sequence->blocks[i - 1];
        const uint32_t *order = block->count == 1 ? &block->single : block->order;
        for (uint32_t j = block->live; j > 0; j--) {
            switch (sequence__rule(sequence, sequence->nodes[order[j - 1]].kind, kind)) {
            case CHP_TAKE_ONE:
            case CHP_TAKE_BOTH_REVERSE_ORDER:
                append(list, order[j - 1]);
                break;
            case CHP_TAKE_BOTH_ANY_ORDER:
                break;
            case CHP_TAKE_BOTH_KEEP_ORDER:
                return;
            }
        }
    }
}

/* What concurrent ones have taken out: that is for good now. */
static void add_losers(const struct chp_sequence *sequence, struct list *list)
{
    uint64_t left = sequence->losers;
    for (uint32_t i = sequence->block_count; i > 0 && left > 0; i--) {
        const struct block *block = &sequence->blocks[i - 1];
        left -= block->losers;
        for (uint32_t j = 0; j < block->count && block->losers > 0; j++) {
            if (sequence->nodes[block->nodes[j]].winner != NONE) {
                append(list, block->nodes[j]);
            }
        }
    }
}

static int compare_ranges(const void *a, const void *b)
{
    const struct chp_range *x = a;
    const struct chp_range *y = b;
    int order = strcmp(x->origin, y->origin);
    if (order != 0) {
        return order;
    }
    if (x->incarnation != y->incarnation) {
        return x->incarnation < y->incarnation ? -1 : 1;
    }
    return x->first < y->first ? -1 : x->first > y->first;
}

void chp_sequence_displaces(struct chp_sequence *sequence, const char *type,
                            const struct chp_matrix *matrix, struct chp_arena *arena,
                            const struct chp_range **ranges, size_t *count)
{
    struct list list = {0};
    sequence__settle(sequence);
    walk(sequence, sequence__kind(sequence, type, matrix), &list);
    add_losers(sequence, &list);
    struct chp_range *found = chp_arena_calloc(arena, list.count, sizeof *found);
    for (size_t i = 0; i < list.count; i++) {
        const struct node *node = &sequence->nodes[list.nodes[i]];
        const struct chain *chain = &sequence->chains[node->chain];
        found[i] = (struct chp_range){chain->origin, chain->incarnation, node->n, node->n};
    }
    if (list.count > 1) {
        qsort(found, list.count, sizeof *found, compare_ranges);
    }
    *count = 0;
    for (size_t i = 0; i < list.count; i++) {
        struct chp_range *last = *count == 0 ? NULL : &found[*count - 1];
        if (last != NULL && last->origin == found[i].origin &&
            last->incarnation == found[i].incarnation && last->last + 1 == found[i].first) {
            last->last = found[i].last;
        } else {
            found[(*count)++] = found[i];
        }
    }
    for (size_t i = 0; i < *count; i++) {
        found[i].origin = chp_arena_strdup(arena, found[i].origin);
    }
    *ranges = found;
    free(list.nodes);
}
