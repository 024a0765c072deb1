/* SPDX-License-Identifier: AGPL-3.0-only */
/* The set: operations, what they have seen of each other, and what they displaced when they were
 * made (rule 1). */
#include "sequence/internal.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

struct chp_sequence *chp_sequence_new(void)
{
    struct chp_sequence *sequence = chp_alloc(sizeof *sequence);
    sequence->by_id = chp_map_new((uint64_t)(uintptr_t)sequence);
    sequence->last = NONE;
    return sequence;
}

void chp_sequence_free(struct chp_sequence *sequence)
{
    if (sequence == NULL) {
        return;
    }
    for (uint32_t i = 0; i < sequence->node_count; i++) {
        free(sequence->nodes[i].seen);
        free(sequence->nodes[i].spans);
    }
    for (uint32_t i = 0; i < sequence->chain_count; i++) {
        free(sequence->chains[i].origin);
        free(sequence->chains[i].members);
        free(sequence->chains[i].open);
    }
    for (uint32_t i = 0; i < sequence->kind_count; i++) {
        free(sequence->kinds[i].type);
    }
    sequence__free_blocks(sequence);
    chp_map_free(sequence->by_id);
    free(sequence->nodes);
    free(sequence->chains);
    free(sequence->kinds);
    free(sequence->table);
    free(sequence->left_out);
    free(sequence);
}

static struct chp_bytes key_of(const struct chp_uuid *id)
{
    return chp_bytes(id->bytes, sizeof id->bytes);
}

uint32_t sequence__find(const struct chp_sequence *sequence, const struct chp_uuid *id)
{
    uintptr_t found = (uintptr_t)chp_map_get(sequence->by_id, key_of(id));
    return found == 0 ? NONE : (uint32_t)(found - 1);
}

int sequence__compare(const struct chp_sequence *sequence, uint32_t a, uint32_t b)
{
    const struct node *x = &sequence->nodes[a];
    const struct node *y = &sequence->nodes[b];
    return chp_arbitration_compare(x->stamp, sequence->chains[x->chain].origin, &x->id, y->stamp,
                                   sequence->chains[y->chain].origin, &y->id);
}

/* A resource has few chains and few types: no search is worth more than a walk. */
static uint32_t chain_of(struct chp_sequence *sequence, const char *origin, uint64_t incarnation)
{
    uint32_t count = sequence->chain_count;
    for (uint32_t i = 0; i < count; i++) {
        if (sequence->chains[i].incarnation == incarnation &&
            strcmp(sequence->chains[i].origin, origin) == 0) {
            return i;
        }
    }
    sequence->chains = chp_realloc(sequence->chains, (count + 1) * sizeof *sequence->chains);
    sequence->chains[count] =
        (struct chain){.origin = chp_strdup(origin), .incarnation = incarnation};
    return sequence->chain_count++;
}

/* The entry of the table. A type that establishes the whole state wipes whatever ran before, one
 * that says that it does not wipes nothing. */
static uint8_t ask_matrix(const struct kind *before, const struct kind *after)
{
    bool first =
        before->matrix == after->matrix || chp_matrix_compare(before->matrix, after->matrix) >= 0;
    const struct chp_matrix *matrix = first ? before->matrix : after->matrix;
    enum chp_pair_rule rule = chp_matrix_resolve(matrix, before->type, after->type);
    enum chp_replace replace = chp_matrix_replace(matrix, after->type);
    bool wipes = replace == CHP_REPLACE_YES ||
                 (replace == CHP_REPLACE_UNSAID &&
                  (rule == CHP_TAKE_ONE || rule == CHP_TAKE_BOTH_REVERSE_ORDER));
    bool assumed = chp_matrix_assumes(matrix, before->type, after->type);
    return (uint8_t)(rule | (assumed ? PAIR_ASSUMED : 0) | (wipes ? PAIR_WIPES : 0));
}

static void grow_kinds(struct chp_sequence *sequence)
{
    uint32_t cap = sequence->kind_cap == 0 ? 8 : sequence->kind_cap * 2;
    uint8_t *table = chp_calloc(cap, cap);
    for (uint32_t i = 0; i < sequence->kind_count; i++) {
        memcpy(&table[(size_t)i * cap], &sequence->table[(size_t)i * sequence->kind_cap],
               sequence->kind_count);
    }
    free(sequence->table);
    sequence->table = table;
    sequence->kind_cap = cap;
    sequence->kinds = chp_realloc(sequence->kinds, cap * sizeof *sequence->kinds);
}

uint32_t sequence__kind(struct chp_sequence *sequence, const char *type,
                        const struct chp_matrix *matrix)
{
    uint32_t count = sequence->kind_count;
    for (uint32_t i = 0; i < count; i++) {
        if (sequence->kinds[i].matrix == matrix && strcmp(sequence->kinds[i].type, type) == 0) {
            return i;
        }
    }
    if (count == sequence->kind_cap) {
        grow_kinds(sequence);
    }
    sequence->kinds[count] = (struct kind){.type = chp_strdup(type), .matrix = matrix};
    sequence->kind_count++;
    for (uint32_t i = 0; i <= count; i++) {
        const struct kind *kinds = sequence->kinds;
        sequence->table[(size_t)i * sequence->kind_cap + count] =
            ask_matrix(&kinds[i], &kinds[count]);
        sequence->table[(size_t)count * sequence->kind_cap + i] =
            ask_matrix(&kinds[count], &kinds[i]);
    }
    return count;
}

/* The index of the first member whose number is n or above. */
static uint32_t member_from(const struct chp_sequence *sequence, const struct chain *chain,
                            uint64_t n)
{
    uint32_t low = 0;
    uint32_t high = chain->count;
    if (high > 0 && sequence->nodes[chain->members[high - 1]].n < n) {
        return high;
    }
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (sequence->nodes[chain->members[middle]].n < n) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static bool span_has(const struct span *span, uint32_t chain, uint64_t n)
{
    return span->chain == chain && span->first <= n && n <= span->last;
}

static bool displaces(const struct node *node, const struct node *other)
{
    for (uint32_t i = 0; i < node->span_count; i++) {
        if (span_has(&node->spans[i], other->chain, other->n)) {
            return true;
        }
    }
    return false;
}

/* What rule 1 says of a node, from everything that is there. */
static void find_past(struct chp_sequence *sequence, uint32_t node)
{
    uint32_t past = NONE;
    for (uint32_t i = 0; i < sequence->node_count; i++) {
        if (!sequence->nodes[i].is_void && displaces(&sequence->nodes[i], &sequence->nodes[node]) &&
            (past == NONE || sequence__compare(sequence, i, past) < 0)) {
            past = i;
        }
    }
    if (sequence->nodes[node].past != past) {
        sequence->nodes[node].past = past;
        sequence__touch(sequence, node);
    }
}

/* The first open member from index on; the way there becomes shorter for who comes next. */
static uint32_t open_from(const struct chp_sequence *sequence, struct chain *chain, uint32_t index)
{
    uint32_t end = index;
    while (end < chain->count &&
           (chain->open[end] != end || sequence->nodes[chain->members[end]].past != NONE)) {
        end = chain->open[end] == end ? end + 1 : chain->open[end];
    }
    while (index < end) {
        uint32_t next = chain->open[index] == index ? index + 1 : chain->open[index];
        chain->open[index] = end;
        index = next;
    }
    return end;
}

static void forget_open(struct chain *chain)
{
    for (uint32_t i = 0; i < chain->count; i++) {
        chain->open[i] = i;
    }
}

/* Rule 1: node displaces the members of its spans, unless one that comes first has. When node is
 * the last, it can only be the first for those that are open. */
static void displace(struct chp_sequence *sequence, uint32_t node)
{
    bool last = sequence->last == node;
    for (uint32_t i = 0; i < sequence->nodes[node].span_count; i++) {
        struct span span = sequence->nodes[node].spans[i];
        struct chain *chain = &sequence->chains[span.chain];
        for (uint32_t at = member_from(sequence, chain, span.first); at < chain->count; at++) {
            at = last ? open_from(sequence, chain, at) : at;
            if (at == chain->count || sequence->nodes[chain->members[at]].n > span.last) {
                break;
            }
            struct node *member = &sequence->nodes[chain->members[at]];
            if (member->past == NONE || sequence__compare(sequence, node, member->past) < 0) {
                member->past = node;
                sequence__touch(sequence, chain->members[at]);
            }
        }
    }
}

/* Whether every cause that is here has a lower stamp. */
static bool is_after_causes(const struct chp_sequence *sequence, const struct node *node)
{
    for (uint32_t i = 0; i < node->seen_count; i++) {
        const struct chain *chain = &sequence->chains[i];
        if (node->seen[i] == 0 || chain->count == 0) {
            continue;
        }
        uint32_t until = member_from(sequence, chain, node->seen[i] + 1);
        if (until > 0 &&
            chp_stamp_compare(sequence->nodes[chain->members[until - 1]].stamp, node->stamp) >= 0) {
            return false;
        }
    }
    return true;
}

/* The same for what has node as its cause and came before it. */
static bool is_before_effects(const struct chp_sequence *sequence, uint32_t node)
{
    for (uint32_t i = 0; i < sequence->node_count; i++) {
        if (i != node && sequence__past(sequence, node, i) &&
            chp_stamp_compare(sequence->nodes[node].stamp, sequence->nodes[i].stamp) >= 0) {
            return false;
        }
    }
    return true;
}

static void join_chain(struct chp_sequence *sequence, uint32_t node)
{
    struct chain *chain = &sequence->chains[sequence->nodes[node].chain];
    uint32_t at = member_from(sequence, chain, sequence->nodes[node].n);
    if (chain->count == chain->cap) {
        chain->cap = chain->cap == 0 ? 8 : chain->cap * 2;
        chain->members = chp_realloc(chain->members, chain->cap * sizeof *chain->members);
        chain->open = chp_realloc(chain->open, chain->cap * sizeof *chain->open);
    }
    memmove(&chain->members[at + 1], &chain->members[at],
            (chain->count - at) * sizeof *chain->members);
    chain->members[at] = node;
    chain->open[chain->count] = chain->count;
    if (at < chain->count++) {
        forget_open(chain);
    }
}

/* Makes a node of an operation, not joined to anything; chains and kinds may become more. */
static struct node node_of(struct chp_sequence *sequence,
                           const struct chp_sequence_operation *operation)
{
    const struct chp_vector *context = &operation->context;
    struct node node = {.id = operation->id,
                        .n = operation->dot.n,
                        .stamp = operation->stamp,
                        .past = NONE,
                        .winner = NONE};
    node.chain = chain_of(sequence, operation->dot.origin, operation->dot.incarnation);
    node.kind = sequence__kind(sequence, operation->type, operation->matrix);
    for (size_t i = 0; i < context->count; i++) {
        (void)chain_of(sequence, context->entries[i].origin, context->entries[i].incarnation);
    }
    node.seen_count = sequence->chain_count;
    node.seen = chp_calloc(node.seen_count, sizeof *node.seen);
    for (size_t i = 0; i < context->count; i++) {
        uint32_t chain =
            chain_of(sequence, context->entries[i].origin, context->entries[i].incarnation);
        node.seen[chain] = context->entries[i].n;
    }
    node.seen[node.chain] = node.n - 1;
    node.spans = chp_calloc(operation->displaces_count, sizeof *node.spans);
    for (size_t i = 0; i < operation->displaces_count; i++) {
        const struct chp_range *range = &operation->displaces[i];
        uint32_t chain = chain_of(sequence, range->origin, range->incarnation);
        if (chain < node.seen_count) { /* what it has not seen it cannot displace */
            node.spans[node.span_count++] = (struct span){chain, range->first, range->last};
        }
    }
    return node;
}

static void take_back(struct chp_sequence *sequence)
{
    struct node *node = &sequence->nodes[--sequence->node_count];
    free(node->seen);
    free(node->spans);
}

static int check(const struct chp_sequence *sequence, uint32_t node, bool is_late,
                 struct chp_error *error)
{
    const struct node *added = &sequence->nodes[node];
    const struct chain *chain = &sequence->chains[added->chain];
    uint32_t at = member_from(sequence, chain, added->n);
    if (at < chain->count && sequence->nodes[chain->members[at]].n == added->n) {
        return chp_error_set(error, CHP_EINVAL, "its dot is that of another operation");
    }
    if (!is_after_causes(sequence, added) || (is_late && !is_before_effects(sequence, node))) {
        return chp_error_set(error, CHP_EINVAL, "its stamp is not above those of its causes");
    }
    return 0;
}

int chp_sequence_add(struct chp_sequence *sequence, const struct chp_sequence_operation *operation,
                     struct chp_error *error)
{
    CHP_ASSERT(operation->dot.n > 0);
    if (sequence__find(sequence, &operation->id) != NONE) {
        return 0;
    }
    if (sequence->node_count == sequence->node_cap) {
        sequence->node_cap = sequence->node_cap == 0 ? 8 : sequence->node_cap * 2;
        sequence->nodes = chp_realloc(sequence->nodes, sequence->node_cap * sizeof(struct node));
    }
    uint32_t node = sequence->node_count++;
    sequence->nodes[node] = node_of(sequence, operation);
    struct node *added = &sequence->nodes[node];
    bool is_late = added->n <= sequence->chains[added->chain].seen_max;
    int code = check(sequence, node, is_late, error);
    if (code != 0) {
        take_back(sequence);
        return code;
    }
    for (uint32_t i = 0; i < added->seen_count; i++) {
        struct chain *chain = &sequence->chains[i];
        chain->seen_max = chain->seen_max < added->seen[i] ? added->seen[i] : chain->seen_max;
    }
    (void)chp_map_put(sequence->by_id, key_of(&operation->id), (void *)(uintptr_t)(node + 1));
    if (sequence->last == NONE || sequence__compare(sequence, node, sequence->last) > 0) {
        sequence->last = node;
    }
    join_chain(sequence, node);
    sequence__place(sequence, node);
    displace(sequence, node);
    if (is_late) {
        find_past(sequence, node);
    }
    return 0;
}

bool chp_sequence_void(struct chp_sequence *sequence, const struct chp_uuid *id)
{
    uint32_t node = sequence__find(sequence, id);
    if (node == NONE || sequence->nodes[node].is_void) {
        return node != NONE;
    }
    sequence->nodes[node].is_void = true;
    sequence__touch(sequence, node);
    for (uint32_t i = 0; i < sequence->node_count; i++) {
        if (sequence->nodes[i].past == node) {
            find_past(sequence, i);
        }
    }
    for (uint32_t i = 0; i < sequence->chain_count; i++) {
        forget_open(&sequence->chains[i]);
    }
    return true;
}

size_t chp_sequence_block(struct chp_sequence *sequence, const struct chp_uuid *id, bool *single)
{
    uint32_t node = sequence__find(sequence, id);
    CHP_ASSERT(node != NONE);
    uint32_t block = sequence->nodes[node].block;
    *single = sequence->blocks[block].count == 1;
    return block;
}

bool chp_sequence_establishes(struct chp_sequence *sequence, const struct chp_uuid *id)
{
    uint32_t node = sequence__find(sequence, id);
    CHP_ASSERT(node != NONE);
    const struct kind *kind = &sequence->kinds[sequence->nodes[node].kind];
    return chp_matrix_establishes(kind->matrix, kind->type);
}

size_t chp_sequence_kinds(const struct chp_sequence *sequence)
{
    return sequence->kind_count;
}

size_t chp_sequence_known(const struct chp_sequence *sequence)
{
    return sequence->node_count;
}

bool chp_sequence_fate(struct chp_sequence *sequence, const struct chp_uuid *id,
                       struct chp_fate *fate)
{
    uint32_t index = sequence__find(sequence, id);
    if (index == NONE) {
        return false;
    }
    sequence__settle(sequence);
    const struct node *node = &sequence->nodes[index];
    uint32_t by = node->past != NONE ? node->past : node->winner;
    *fate = (struct chp_fate){.type = sequence->kinds[node->kind].type};
    if (node->is_void) {
        fate->displaced = CHP_DISPLACED_VOID;
    } else if (by != NONE) {
        fate->displaced = node->past != NONE ? CHP_DISPLACED_PAST : CHP_DISPLACED_TAKE_ONE;
        fate->by = sequence->nodes[by].id;
        fate->by_type = sequence->kinds[sequence->nodes[by].kind].type;
    } else {
        fate->place = sequence->blocks[node->block].start + node->place;
    }
    return true;
}

enum chp_pair_rule chp_sequence_resolve(struct chp_sequence *sequence,
                                        const struct chp_uuid *before, const struct chp_uuid *after)
{
    uint32_t first = sequence__find(sequence, before);
    uint32_t second = sequence__find(sequence, after);
    CHP_ASSERT(first != NONE && second != NONE);
    return sequence__rule(sequence, sequence->nodes[first].kind, sequence->nodes[second].kind);
}
