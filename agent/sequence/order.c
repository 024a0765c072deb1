/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Rule 3: causes first, then the pairs that the matrix orders, in arbitration order, without those
 * that would close a circle; ties by arbitration.
 *
 * What is before what is a closure over chains: of each chain, an operation is before all from one
 * place on (reach), and after all up to one place (pred). A pair is then one look, and to add an
 * edge is to carry its two ends along the chains as far as they change anything. Most pairs need
 * not even the look: of all operations of a chain that must come after this one, the first says it
 * for the rest; of those that must come before it, the last. So each operation looks at each chain
 * a few times, instead of at each operation.
 */
#include "sequence/internal.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

/* Places of one kind in one chain, in order; those before cursor are of operations that come before
 * the present one in arbitration order. */
struct places {
    uint32_t *at;
    uint32_t count;
    uint32_t cursor;
};

struct graph {
    const struct ordering *in;
    uint32_t *place;       /* of each operation, in its chain */
    uint32_t **chains;     /* operations by place */
    uint32_t *chain_space; /* all of them */
    uint32_t *lengths;     /* of the chains */
    uint32_t *reach;       /* count times chain_count: the first place that comes after */
    uint32_t *pred;        /* the same: how many come before; of its own chain with itself */
    uint32_t *effects;     /* the same as reach, by causes alone */
    struct places *places; /* chain_count times kind_count */
    uint32_t *place_space;
};

/* What is going on with the pairs of one operation. */
struct pairs {
    uint32_t operation;
    uint32_t *keep;    /* by chain: the next place that may have to come after, NONE: no further */
    uint32_t *until;   /* by chain: behind the last place that is concurrent */
    uint32_t *reverse; /* by chain: places before it have been looked at for reverse */
    uint64_t *refused; /* first and second, for left_out */
    uint32_t refused_count;
    uint32_t refused_cap;
};

static uint32_t *cell(const struct graph *graph, uint32_t *table, uint32_t operation)
{
    return &table[(size_t)operation * graph->in->chain_count];
}

static enum chp_pair_rule rule_of(const struct graph *graph, uint32_t before_kind,
                                  uint32_t after_kind)
{
    return (enum chp_pair_rule)
        graph->in->pair_rules[before_kind * graph->in->kind_count + after_kind];
}

/* Whether some pair wants the later one of two first: otherwise arbitration order fulfils all. */
static bool any_reverse(const struct ordering *in)
{
    for (uint32_t i = 0; i < in->kind_count * in->kind_count; i++) {
        if (in->pair_rules[i] == CHP_TAKE_BOTH_REVERSE_ORDER) {
            return true;
        }
    }
    return false;
}

static void build_chains(struct graph *graph)
{
    const struct ordering *in = graph->in;
    uint32_t *space = graph->chain_space;
    for (uint32_t i = 0; i < in->count; i++) {
        graph->place[i] = graph->lengths[in->chain[i]]++;
    }
    for (uint32_t c = 0; c < in->chain_count; c++) {
        graph->chains[c] = space;
        space += graph->lengths[c];
    }
    for (uint32_t i = 0; i < in->count; i++) {
        graph->chains[in->chain[i]][graph->place[i]] = i;
    }
}

static void build_places(struct graph *graph)
{
    const struct ordering *in = graph->in;
    uint32_t *space = graph->place_space;
    for (uint32_t i = 0; i < in->count; i++) {
        graph->places[in->chain[i] * in->kind_count + in->kind[i]].count++;
    }
    for (uint32_t i = 0; i < in->chain_count * in->kind_count; i++) {
        graph->places[i].at = space;
        space += graph->places[i].count;
        graph->places[i].count = 0;
    }
    for (uint32_t i = 0; i < in->count; i++) {
        struct places *places = &graph->places[in->chain[i] * in->kind_count + in->kind[i]];
        places->at[places->count++] = graph->place[i];
    }
}

/* How many of a chain an operation has seen. */
static uint32_t count_seen(const struct graph *graph, uint32_t operation, uint32_t chain)
{
    const struct ordering *in = graph->in;
    uint64_t seen = in->seen[(size_t)operation * in->chain_count + chain];
    uint32_t low = 0;
    uint32_t high = graph->lengths[chain];
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (in->n[graph->chains[chain][middle]] <= seen) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Causes: pred from what was seen; reach is its reverse, and both only grow along a chain. */
static void build_closure(struct graph *graph)
{
    const struct ordering *in = graph->in;
    for (uint32_t i = 0; i < in->count; i++) {
        for (uint32_t c = 0; c < in->chain_count; c++) {
            cell(graph, graph->pred, i)[c] =
                c == in->chain[i] ? graph->place[i] + 1 : count_seen(graph, i, c);
        }
    }
    for (uint32_t a = 0; a < in->chain_count; a++) {
        for (uint32_t b = 0; b < in->chain_count; b++) {
            uint32_t first = 0; /* of b that has seen the one of a */
            for (uint32_t p = 0; p < graph->lengths[a]; p++) {
                while (first < graph->lengths[b] &&
                       cell(graph, graph->pred, graph->chains[b][first])[a] <= p) {
                    first++;
                }
                cell(graph, graph->reach, graph->chains[a][p])[b] = first;
            }
        }
    }
    memcpy(graph->effects, graph->reach,
           (size_t)in->count * in->chain_count * sizeof *graph->reach);
}

/* first comes before second, from now on: neither is the case nor the opposite. */
static void add_edge(struct graph *graph, uint32_t first, uint32_t second)
{
    const struct ordering *in = graph->in;
    const uint32_t *behind = cell(graph, graph->reach, second);
    const uint32_t *ahead = cell(graph, graph->pred, first);
    for (uint32_t a = 0; a < in->chain_count; a++) {
        bool changed = true;
        for (uint32_t p = ahead[a]; p > 0 && changed; p--) {
            uint32_t *reach = cell(graph, graph->reach, graph->chains[a][p - 1]);
            changed = false;
            for (uint32_t c = 0; c < in->chain_count; c++) {
                changed = changed || behind[c] < reach[c];
                reach[c] = behind[c] < reach[c] ? behind[c] : reach[c];
            }
        }
        changed = true;
        for (uint32_t p = behind[a]; p < graph->lengths[a] && changed; p++) {
            uint32_t *pred = cell(graph, graph->pred, graph->chains[a][p]);
            changed = false;
            for (uint32_t c = 0; c < in->chain_count; c++) {
                changed = changed || ahead[c] > pred[c];
                pred[c] = ahead[c] > pred[c] ? ahead[c] : pred[c];
            }
        }
    }
}

static void refuse(struct pairs *pairs, uint32_t other, bool other_first)
{
    if (pairs->refused_count == pairs->refused_cap) {
        pairs->refused_cap = pairs->refused_cap == 0 ? 16 : pairs->refused_cap * 2;
        pairs->refused = chp_realloc(pairs->refused, pairs->refused_cap * sizeof *pairs->refused);
    }
    pairs->refused[pairs->refused_count++] = (uint64_t)other << 1 | other_first;
}

/* The first place of a chain, from one on, that must come after the operation; NONE: none that is
 * concurrent. */
static uint32_t next_keep(const struct graph *graph, const struct pairs *pairs, uint32_t chain,
                          uint32_t from)
{
    const struct ordering *in = graph->in;
    uint32_t next = NONE;
    for (uint32_t k = 0; k < in->kind_count; k++) {
        if (rule_of(graph, in->kind[pairs->operation], k) != CHP_TAKE_BOTH_KEEP_ORDER) {
            continue;
        }
        const struct places *places = &graph->places[chain * in->kind_count + k];
        uint32_t i = places->cursor;
        while (i < places->count && places->at[i] < from) {
            i++;
        }
        if (i < places->count && places->at[i] < next) {
            next = places->at[i];
        }
    }
    return next < pairs->until[chain] ? next : NONE;
}

/* Those of a chain before a place that must come before the operation: the last that can says it
 * for all. */
static void reverse_until(struct graph *graph, struct pairs *pairs, uint32_t chain, uint32_t end)
{
    const struct ordering *in = graph->in;
    uint32_t operation = pairs->operation;
    uint32_t reached = cell(graph, graph->reach, operation)[chain];
    uint32_t last = NONE;
    for (uint32_t k = 0; k < in->kind_count && pairs->reverse[chain] < end; k++) {
        if (rule_of(graph, in->kind[operation], k) != CHP_TAKE_BOTH_REVERSE_ORDER) {
            continue;
        }
        const struct places *places = &graph->places[chain * in->kind_count + k];
        for (uint32_t i = places->count; i > places->cursor; i--) {
            uint32_t at = places->at[i - 1];
            if (at >= end) {
                continue;
            }
            if (at < pairs->reverse[chain]) {
                break;
            }
            if (at >= reached) {
                refuse(pairs, graph->chains[chain][at], true);
                continue;
            }
            last = last == NONE || at > last ? at : last;
            break;
        }
    }
    pairs->reverse[chain] = end > pairs->reverse[chain] ? end : pairs->reverse[chain];
    if (last != NONE && last >= cell(graph, graph->pred, operation)[chain]) {
        add_edge(graph, graph->chains[chain][last], operation);
    }
}

/* The first place of a chain, from one on, whose operation is behind another in arbitration
 * order. */
static uint32_t place_behind(const struct graph *graph, uint32_t chain, uint32_t from,
                             uint32_t until, uint32_t operation)
{
    while (from < until) {
        uint32_t middle = from + (until - from) / 2;
        if (graph->chains[chain][middle] <= operation) {
            from = middle + 1;
        } else {
            until = middle;
        }
    }
    return from;
}

static void begin_pairs(struct graph *graph, struct pairs *pairs, uint32_t operation)
{
    const struct ordering *in = graph->in;
    pairs->operation = operation;
    pairs->refused_count = 0;
    for (uint32_t c = 0; c < in->chain_count; c++) {
        for (uint32_t k = 0; k < in->kind_count; k++) {
            struct places *places = &graph->places[c * in->kind_count + k];
            while (places->cursor < places->count &&
                   graph->chains[c][places->at[places->cursor]] <= operation) {
                places->cursor++;
            }
        }
        bool own = c == in->chain[operation];
        pairs->until[c] = own ? 0 : cell(graph, graph->effects, operation)[c];
        pairs->reverse[c] = 0;
        pairs->keep[c] = own ? NONE : next_keep(graph, pairs, c, 0);
    }
}

static int compare_refused(const void *a, const void *b)
{
    const uint64_t *x = a;
    const uint64_t *y = b;
    return *x < *y ? -1 : *x > *y;
}

static void tell_refused(const struct graph *graph, struct pairs *pairs)
{
    if (pairs->refused_count > 1) {
        qsort(pairs->refused, pairs->refused_count, sizeof *pairs->refused, compare_refused);
    }
    for (uint32_t i = 0; i < pairs->refused_count; i++) {
        uint32_t other = (uint32_t)(pairs->refused[i] >> 1);
        bool other_first = (pairs->refused[i] & 1) != 0;
        graph->in->left_out(graph->in->user, other_first ? other : pairs->operation,
                            other_first ? pairs->operation : other);
    }
}

/* The pairs of an operation with later ones, in their order. */
static void add_pairs(struct graph *graph, struct pairs *pairs, uint32_t operation)
{
    const struct ordering *in = graph->in;
    begin_pairs(graph, pairs, operation);
    for (;;) {
        uint32_t chain = NONE;
        uint32_t other = in->count;
        for (uint32_t c = 0; c < in->chain_count; c++) {
            if (pairs->keep[c] != NONE && graph->chains[c][pairs->keep[c]] < other) {
                chain = c;
                other = graph->chains[c][pairs->keep[c]];
            }
        }
        for (uint32_t c = 0; c < in->chain_count; c++) {
            if (c != in->chain[operation]) {
                reverse_until(graph, pairs, c,
                              place_behind(graph, c, pairs->reverse[c], pairs->until[c], other));
            }
        }
        if (chain == NONE) {
            break;
        }
        uint32_t at = pairs->keep[chain];
        if (at < cell(graph, graph->pred, operation)[chain]) {
            refuse(pairs, other, false);
            pairs->keep[chain] = next_keep(graph, pairs, chain, at + 1);
            continue;
        }
        pairs->keep[chain] = NONE; /* the others of the chain follow from this one */
        if (at < cell(graph, graph->reach, operation)[chain]) {
            add_edge(graph, operation, other);
        }
    }
    tell_refused(graph, pairs);
}

/* Of the operations whose predecessors are all out, the first in arbitration order. */
static uint32_t next_ready(const struct graph *graph, const uint32_t *out)
{
    const struct ordering *in = graph->in;
    uint32_t best = NONE;
    for (uint32_t c = 0; c < in->chain_count; c++) {
        if (out[c] == graph->lengths[c] || graph->chains[c][out[c]] > best) {
            continue;
        }
        const uint32_t *pred = cell(graph, graph->pred, graph->chains[c][out[c]]);
        bool ready = true;
        for (uint32_t other = 0; other < in->chain_count && ready; other++) {
            ready = pred[other] <= out[other] + (other == c);
        }
        best = ready ? graph->chains[c][out[c]] : best;
    }
    CHP_ASSERT(best != NONE); /* stamps are above those of causes, and no circle was let in */
    return best;
}

void sequence__order(const struct ordering *ordering, uint32_t *out)
{
    if (ordering->chain_count < 2 || !any_reverse(ordering)) {
        for (uint32_t i = 0; i < ordering->count; i++) {
            out[i] = i;
        }
        return;
    }
    size_t cells = (size_t)ordering->count * ordering->chain_count;
    uint32_t chains = ordering->chain_count;
    uint32_t *by_chain = chp_calloc((size_t)chains * 5, sizeof *by_chain);
    struct graph graph = {
        .in = ordering,
        .place = chp_calloc(ordering->count, sizeof(uint32_t)),
        .chains = chp_calloc(chains, sizeof(uint32_t *)),
        .chain_space = chp_calloc(ordering->count, sizeof(uint32_t)),
        .lengths = by_chain,
        .reach = chp_calloc(cells, sizeof(uint32_t)),
        .pred = chp_calloc(cells, sizeof(uint32_t)),
        .effects = chp_calloc(cells, sizeof(uint32_t)),
        .places = chp_calloc((size_t)chains * ordering->kind_count, sizeof(struct places)),
        .place_space = chp_calloc(ordering->count, sizeof(uint32_t)),
    };
    struct pairs pairs = {.keep = by_chain + chains,
                          .until = by_chain + 2 * chains,
                          .reverse = by_chain + 3 * chains};
    build_chains(&graph);
    build_places(&graph);
    build_closure(&graph);
    for (uint32_t i = 0; i < ordering->count; i++) {
        add_pairs(&graph, &pairs, i);
    }
    uint32_t *gone = by_chain + 4 * chains;
    for (uint32_t i = 0; i < ordering->count; i++) {
        out[i] = next_ready(&graph, gone);
        gone[ordering->chain[out[i]]]++;
    }
    free(by_chain);
    free(graph.place);
    free(graph.chains);
    free(graph.chain_space);
    free(graph.reach);
    free(graph.pred);
    free(graph.effects);
    free(graph.places);
    free(graph.place_space);
    free(pairs.refused);
}
