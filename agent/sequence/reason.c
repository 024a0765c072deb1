/* SPDX-License-Identifier: AGPL-3.0-only */
/* The sentences that tell what became of an operation. They depend on the set alone. */
#include "sequence/replica.h"

static const char *pair_text(struct chp_sequence *sequence, const struct chp_uuid *before,
                             const struct chp_uuid *after, const char *before_type,
                             const char *after_type, struct chp_arena *arena)
{
    enum chp_pair_rule rule = chp_sequence_resolve(sequence, before, after);
    return chp_arena_printf(arena, "%s %s/%s", chp_pair_rule_name(rule), before_type, after_type);
}

static const char *void_reason(struct chp_replica *replica, const struct chp_uuid *id,
                               struct chp_arena *arena)
{
    const struct chp_entry *first = NULL;
    char text[CHP_UUID_TEXT_BYTES];
    for (size_t i = 0; i < chp_replica_count(replica); i++) {
        const struct chp_entry *entry = chp_replica_entry(replica, i);
        if (entry->is_void && !entry->waits && chp_uuid_equal(&entry->target, id) &&
            (first == NULL || chp_uuid_compare(&entry->id, &first->id) < 0)) {
            first = entry;
        }
    }
    CHP_ASSERT(first != NULL);
    chp_uuid_format(&first->id, text);
    return chp_arena_printf(arena, "voided by %s: it failed at every member", text);
}

/* The nearest that comes after it in the sequence, was before it in arbitration order, and with
 * which the matrix wants an order. */
static const char *reordered(struct chp_replica *replica, const struct chp_entry *entry,
                             size_t place, struct chp_arena *arena)
{
    struct chp_sequence *sequence = chp_replica_sequence(replica);
    for (size_t i = place + 1; i < chp_sequence_count(sequence); i++) {
        const struct chp_entry *other = chp_replica_find(replica, chp_sequence_at(sequence, i));
        if (chp_arbitration_compare(other->stamp, other->dot.origin, &other->id, entry->stamp,
                                    entry->dot.origin, &entry->id) > 0) {
            continue;
        }
        enum chp_pair_rule rule = chp_sequence_resolve(sequence, &other->id, &entry->id);
        if (rule == CHP_TAKE_BOTH_REVERSE_ORDER) {
            char text[CHP_UUID_TEXT_BYTES];
            chp_uuid_format(&other->id, text);
            return chp_arena_printf(
                arena, "reordered before %s (%s)", text,
                pair_text(sequence, &other->id, &entry->id, other->type, entry->type, arena));
        }
    }
    return NULL;
}

static const char *left_out(struct chp_replica *replica, const struct chp_entry *entry,
                            struct chp_arena *arena)
{
    struct chp_sequence *sequence = chp_replica_sequence(replica);
    size_t count;
    const struct chp_left_out *pairs = chp_sequence_left_out(sequence, &count);
    for (size_t i = 0; i < count; i++) {
        if (chp_uuid_equal(&pairs[i].first, &entry->id)) {
            const struct chp_entry *second = chp_replica_find(replica, &pairs[i].second);
            char text[CHP_UUID_TEXT_BYTES];
            chp_uuid_format(&second->id, text);
            return chp_arena_printf(
                arena, "not put before %s (%s): it would close a circle", text,
                pair_text(sequence, &entry->id, &second->id, entry->type, second->type, arena));
        }
    }
    return NULL;
}

static const char *superseded(struct chp_sequence *sequence, const struct chp_entry *entry,
                              const struct chp_fate *fate, struct chp_arena *arena)
{
    char text[CHP_UUID_TEXT_BYTES];
    chp_uuid_format(&fate->by, text);
    enum chp_pair_rule rule = chp_sequence_resolve(sequence, &entry->id, &fate->by);
    if (rule == CHP_TAKE_ONE || rule == CHP_TAKE_BOTH_REVERSE_ORDER) {
        return chp_arena_printf(
            arena, "superseded by %s (%s)", text,
            pair_text(sequence, &entry->id, &fate->by, fate->type, fate->by_type, arena));
    }
    return chp_arena_printf(arena, "superseded by %s (it was not in the sequence any more)", text);
}

const char *chp_replica_reason(struct chp_replica *replica, const struct chp_entry *entry,
                               struct chp_arena *arena)
{
    struct chp_fate fate;
    if (entry->is_void) {
        char text[CHP_UUID_TEXT_BYTES];
        chp_uuid_format(&entry->target, text);
        return chp_arena_printf(arena, "voids %s", text);
    }
    if (entry->waits) {
        return "waits for an operation that it depends on";
    }
    if (entry->refused || !chp_sequence_fate(chp_replica_sequence(replica), &entry->id, &fate)) {
        return "not a possible operation: its stamp is not above those of its causes";
    }
    switch (fate.displaced) {
    case CHP_DISPLACED_VOID:
        return void_reason(replica, &entry->id, arena);
    case CHP_DISPLACED_PAST:
    case CHP_DISPLACED_TAKE_ONE:
        return superseded(chp_replica_sequence(replica), entry, &fate, arena);
    case CHP_DISPLACED_NOT:
        break;
    }
    const char *reason = reordered(replica, entry, fate.place, arena);
    return reason != NULL ? reason : left_out(replica, entry, arena);
}
