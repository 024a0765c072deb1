/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * What a new operation displaces beside what it finds in the sequence. An operation whose success
 * is not known yet may turn out to have failed everywhere, and then what it had displaced is back:
 * but not what the new one, which has seen it, would have displaced as well.
 */
#include "sequence/matrices.h"

#include <stdlib.h>
#include <string.h>

/* Whether it has had its effect anywhere that is known here, so that nothing voids it. */
static bool has_succeeded(const struct chp_entry *entry)
{
    return entry->effect > 0 || entry->state == CHP_STATE_DONE || entry->done_elsewhere;
}

/* The last of the sequence that the new one has to follow: it stops the walk (rule 1). */
static const struct chp_entry *find_stop(struct chp_replica *replica, const char *type,
                                         const struct chp_matrix *matrix)
{
    struct chp_sequence *sequence = chp_replica_sequence(replica);
    for (size_t i = chp_sequence_count(sequence); i > 0; i--) {
        const struct chp_entry *entry = chp_replica_find(replica, chp_sequence_at(sequence, i - 1));
        if (chp_matrix_resolve(matrix, entry->type, type) == CHP_TAKE_BOTH_KEEP_ORDER) {
            return entry;
        }
    }
    return NULL;
}

static bool may_come_back(struct chp_replica *replica, const struct chp_entry *entry)
{
    struct chp_fate fate;
    if (entry->is_void || entry->waits || entry->refused ||
        !chp_sequence_fate(chp_replica_sequence(replica), &entry->id, &fate) ||
        (fate.displaced != CHP_DISPLACED_PAST && fate.displaced != CHP_DISPLACED_TAKE_ONE)) {
        return false;
    }
    const struct chp_entry *by = chp_replica_find(replica, &fate.by);
    return by != NULL && !has_succeeded(by);
}

static int by_dot(const void *a, const void *b)
{
    const struct chp_range *x = a;
    const struct chp_range *y = b;
    int order = strcmp(x->origin, y->origin);
    if (order != 0) {
        return order;
    }
    return x->incarnation != y->incarnation ? (x->incarnation > y->incarnation ? 1 : -1)
           : x->first != y->first           ? (x->first > y->first ? 1 : -1)
                                            : 0;
}

/* Sorted ranges without those that touch or overlap. */
static size_t join_ranges(struct chp_range *ranges, size_t count)
{
    size_t kept = 0;
    qsort(ranges, count, sizeof *ranges, by_dot);
    for (size_t i = 0; i < count; i++) {
        struct chp_range *last = kept > 0 ? &ranges[kept - 1] : NULL;
        if (last != NULL && strcmp(last->origin, ranges[i].origin) == 0 &&
            last->incarnation == ranges[i].incarnation && ranges[i].first <= last->last + 1) {
            last->last = ranges[i].last > last->last ? ranges[i].last : last->last;
        } else {
            ranges[kept++] = ranges[i];
        }
    }
    return kept;
}

static bool is_unsure(struct chp_replica *replica)
{
    for (size_t i = 0; i < chp_replica_count(replica); i++) {
        const struct chp_entry *entry = chp_replica_entry(replica, i);
        if (!entry->is_void && !has_succeeded(entry)) {
            return true;
        }
    }
    return false;
}

void replica__displace_unsure(struct chp_replica *replica, const char *type,
                              const struct chp_matrix *matrix, struct chp_arena *arena,
                              const struct chp_range **ranges, size_t *count)
{
    size_t total = is_unsure(replica) ? chp_replica_count(replica) : 0;
    struct chp_range *all = NULL;
    size_t used = *count;
    const struct chp_entry *stop = NULL;
    for (size_t i = 0; i < total; i++) {
        const struct chp_entry *entry = chp_replica_entry(replica, i);
        enum chp_pair_rule rule = chp_matrix_resolve(matrix, entry->type, type);
        if ((rule != CHP_TAKE_ONE && rule != CHP_TAKE_BOTH_REVERSE_ORDER) ||
            !may_come_back(replica, entry)) {
            continue;
        }
        if (all == NULL) {
            stop = find_stop(replica, type, matrix);
            all = chp_arena_calloc(arena, *count + total, sizeof *all);
            for (size_t j = 0; j < *count; j++) {
                all[j] = (*ranges)[j];
            }
        }
        if (stop == NULL || replica__compare(entry, stop) > 0) {
            all[used++] = (struct chp_range){.origin = entry->dot.origin,
                                             .incarnation = entry->dot.incarnation,
                                             .first = entry->dot.n,
                                             .last = entry->dot.n};
        }
    }
    if (all != NULL) {
        *ranges = all;
        *count = used == 0 ? 0 : join_ranges(all, used);
    }
}
