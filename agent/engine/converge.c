/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Replicas of level eventual converge (design section 6): the plan says what has to run here so
 * that the application's state is that of the sequence. It is made again whenever something that it
 * depends on has changed, but for the ordinary case: an operation that has seen all that is held
 * here comes to a replica that is right, and just runs.
 *
 * With the plan follow the states of executions: what does not count any more before it ran, or is
 * replaced by what follows it, is superseded; so is what ran and lost against a concurrent one.
 * What ran and was then replaced by an operation that had seen it stays done.
 */
#include "engine/internal.h"

#include <string.h>

void converge__free(struct resource *resource)
{
    chp_arena_deinit(&resource->course.arena);
    chp_replica_free(resource->replica);
    resource->replica = NULL;
}

struct chp_entry *converge__entry(const struct chp_engine *engine, const char *resource_id,
                                  const struct chp_uuid *operation)
{
    struct resource *resource = resource__get(engine, resource_id);
    return resource == NULL || resource->replica == NULL
               ? NULL
               : chp_replica_find(resource->replica, operation);
}

void converge__fill(const struct chp_engine *engine, struct chp_execution_row *row)
{
    if (strcmp(row->ack.site, engine->config.site) != 0) {
        return;
    }
    const struct chp_entry *entry = converge__entry(engine, row->ack.resource, &row->ack.operation);
    if (entry != NULL) {
        row->effect = entry->effect;
        row->undoing = entry->undoing;
    }
}

static bool is_over(const struct course *course)
{
    return course->undo_at == course->plan.undo_count && course->run_at == course->plan.run_count;
}

void converge__changed(struct resource *resource)
{
    resource->course.valid = false;
    resource->course.scan = true;
}

/* Whether it only has to run, behind all that did. */
static bool just_runs(const struct resource *resource, const struct chp_operation *operation)
{
    const struct course *course = &resource->course;
    return course->valid && course->plan.kind != CHP_PLAN_DIVERGED && !course->plan.lacks &&
           is_over(course) &&
           (operation->displaces_count == 0 ||
            chp_matrix_replace(chp_replica_matrix(resource->replica), operation->type) !=
                CHP_REPLACE_NO);
}

void converge__added(struct resource *resource, const struct chp_operation *operation,
                     bool sequential)
{
    struct course *course = &resource->course;
    if (resource->replica == NULL) {
        return;
    }
    struct chp_entry *entry = chp_replica_find(resource->replica, &operation->id);
    sequential = sequential && !entry->is_void && !entry->waits;
    if (sequential && entry->executes && just_runs(resource, operation)) {
        bool assumed = course->plan.order_assumed;
        course->single = operation->id;
        course->plan = (struct chp_plan){.kind = CHP_PLAN_APPEND,
                                         .run = &course->single,
                                         .run_count = 1,
                                         .order_assumed = assumed};
        course->undo_at = 0;
        course->run_at = 0;
        entry->planned = true;
        return;
    }
    course->valid = false;
    course->scan =
        course->scan || !sequential || resource->pending_count > 1 || resource->pending_stored > 0;
}

static void make_plan(struct resource *resource)
{
    struct course *course = &resource->course;
    bool scan = course->scan;
    chp_arena_deinit(&course->arena);
    *course = (struct course){.valid = true, .scan = scan};
    chp_replica_plan(resource->replica, &course->arena, &course->plan);
    for (size_t i = 0; i < chp_replica_count(resource->replica); i++) {
        chp_replica_entry(resource->replica, i)->planned = false;
    }
    for (size_t i = 0; i < course->plan.run_count; i++) {
        chp_replica_find(resource->replica, &course->plan.run[i])->planned = true;
    }
}

/* The execution here gets another state without a run. */
static void conclude(struct chp_engine *engine, struct resource *resource, struct chp_entry *entry,
                     const char *reason, const struct chp_now *now, struct chp_effects *effects)
{
    struct chp_operation operation = {.id = entry->id,
                                      .resource = resource->row.id,
                                      .dot = entry->dot,
                                      .stamp = entry->stamp,
                                      .type = entry->type};
    struct chp_ack ack = {
        .operation = entry->id,
        .resource = resource->row.id,
        .site = engine->config.site,
        .incarnation = engine->incarnation,
        .run = entry->run,
        .state = entry->state,
        .exit_code = entry->state == CHP_STATE_DONE ? 0 : -1,
        .reason = reason,
        .started_ms = now->wall_ms,
    };
    engine__conclude(engine, &operation, &ack, now, effects);
}

/* It will not run, or does not count though it ran: state says which. */
static void supersede(struct chp_engine *engine, struct resource *resource, struct chp_entry *entry,
                      enum chp_state state, const char *reason, const struct chp_now *now,
                      struct chp_effects *effects)
{
    struct pending *pending = resource__find_pending(resource, &entry->id);
    CHP_ASSERT(pending == NULL || resource->running != pending);
    entry->run += chp_state_final(entry->state);
    entry->state = state;
    conclude(engine, resource, entry, reason, now, effects);
    if (pending != NULL) {
        resource__remove_pending(resource, pending);
    }
}

/* It takes effect by being held: nothing runs. */
static void settle_void(struct chp_engine *engine, struct resource *resource,
                        struct chp_entry *entry, const struct chp_now *now,
                        struct chp_effects *effects)
{
    struct pending *pending = resource__find_pending(resource, &entry->id);
    entry->state = CHP_STATE_DONE;
    if (entry->executes) {
        conclude(engine, resource, entry, NULL, now, effects);
    }
    outcome__voided(resource, entry, effects);
    if (pending != NULL) {
        resource__remove_pending(resource, pending);
    }
}

/* Brings the state of the execution here up to date with what has become of the operation. */
static void settle(struct chp_engine *engine, struct resource *resource, struct chp_entry *entry,
                   const struct chp_now *now, struct chp_effects *effects)
{
    struct chp_fate fate;
    bool ended = chp_state_final(entry->state);
    if (entry->is_void) {
        if (!ended && !entry->waits) {
            settle_void(engine, resource, entry, now, effects);
        }
        return;
    }
    if (!entry->executes || entry->waits || entry->undoing || entry->state == CHP_STATE_IN_DOUBT ||
        entry->state == CHP_STATE_RUNNING) {
        return;
    }
    if (entry->refused) {
        if (!ended) {
            entry->state = CHP_STATE_REFUSED;
            conclude(engine, resource, entry,
                     chp_replica_reason(resource->replica, entry, &effects->batch.arena), now,
                     effects);
        }
        return;
    }
    bool known = chp_sequence_fate(chp_replica_sequence(resource->replica), &entry->id, &fate);
    CHP_ASSERT(known);
    bool lost = entry->state == CHP_STATE_DONE && fate.displaced == CHP_DISPLACED_TAKE_ONE;
    if (fate.displaced != CHP_DISPLACED_NOT) {
        if ((!ended || lost) && !entry->planned) {
            supersede(
                engine, resource, entry,
                fate.displaced == CHP_DISPLACED_VOID ? CHP_STATE_VOIDED : CHP_STATE_SUPERSEDED,
                chp_replica_reason(resource->replica, entry, &effects->batch.arena), now, effects);
        }
    } else if (!ended && !entry->planned && !entry->held_back) {
        supersede(engine, resource, entry, CHP_STATE_SUPERSEDED,
                  "not run: an operation that follows it in the sequence replaces what it does",
                  now, effects);
    } else if (entry->state == CHP_STATE_SUPERSEDED && entry->effect > 0 && !entry->planned) {
        entry->run++;
        entry->state = CHP_STATE_DONE;
        conclude(engine, resource, entry, NULL, now, effects);
    }
}

static void settle_all(struct chp_engine *engine, struct resource *resource,
                       const struct chp_now *now, struct chp_effects *effects)
{
    if (resource->course.scan) {
        for (size_t i = 0; i < chp_replica_count(resource->replica); i++) {
            settle(engine, resource, chp_replica_entry(resource->replica, i), now, effects);
        }
        resource->course.scan = false;
        return;
    }
    CHP_LIST_FOREACH_SAFE(&resource->pending, link, following)
    {
        const struct pending *pending = CHP_CONTAINER(link, struct pending, link);
        settle(engine, resource, chp_replica_find(resource->replica, &pending->operation->id), now,
               effects);
    }
}

/* Whether something is to run, or to be undone, of which no execution says so. */
static bool is_unsettled(struct resource *resource)
{
    const struct course *course = &resource->course;
    if (course->undo_at < course->plan.undo_count) {
        return true;
    }
    for (size_t i = course->run_at; i < course->plan.run_count; i++) {
        if (chp_state_final(chp_replica_find(resource->replica, &course->plan.run[i])->state)) {
            return true;
        }
    }
    return false;
}

static bool is_degraded(struct resource *resource)
{
    for (size_t i = 0; resource->has_failed && i < chp_replica_count(resource->replica); i++) {
        const struct chp_entry *entry = chp_replica_entry(resource->replica, i);
        struct chp_fate fate;
        if (entry->done_elsewhere &&
            (entry->state == CHP_STATE_FAILED || entry->state == CHP_STATE_REFUSED ||
             !chp_state_final(entry->state)) &&
            chp_sequence_fate(chp_replica_sequence(resource->replica), &entry->id, &fate) &&
            fate.displaced == CHP_DISPLACED_NOT) {
            return true;
        }
    }
    return false;
}

static bool is_deleted(struct resource *resource)
{
    struct chp_sequence *sequence = chp_replica_sequence(resource->replica);
    size_t count = chp_sequence_count(sequence);
    if (count == 0) {
        return false;
    }
    const struct chp_entry *last =
        chp_replica_find(resource->replica, chp_sequence_at(sequence, count - 1));
    return strcmp(last->type, "delete") == 0 && last->effect > 0;
}

static void tell_diverged(struct chp_engine *engine, const struct resource *resource,
                          const struct chp_now *now, struct chp_effects *effects)
{
    struct chp_buf data = {0};
    chp_buf_add_text(&data, "{\"reason\":");
    journal__add_string(&data, resource->row.diverged);
    chp_buf_add_byte(&data, '}');
    journal__add(engine,
                 &(struct journal_entry){.kind = "resource.diverged",
                                         .resource = resource->row.id,
                                         .data = journal__take(&data, effects)},
                 now, effects);
}

void converge__show(struct chp_engine *engine, struct resource *resource, const struct chp_now *now,
                    struct chp_effects *effects)
{
    struct chp_resource_row *row = &resource->row;
    const struct chp_plan *plan = &resource->course.plan;
    if (resource->replica == NULL || !resource->course.valid) {
        return;
    }
    bool diverged = plan->kind == CHP_PLAN_DIVERGED;
    bool degraded = plan->lacks || is_degraded(resource);
    bool deleted = is_deleted(resource);
    bool unsettled = is_unsettled(resource);
    bool news = diverged && row->diverged == NULL;
    if (diverged == (row->diverged != NULL) && degraded == row->degraded &&
        deleted == row->deleted && unsettled == row->unsettled &&
        plan->order_assumed == row->order_assumed) {
        return;
    }
    row->diverged = diverged ? chp_arena_strdup(&resource->arena, plan->reason) : NULL;
    row->degraded = degraded;
    row->deleted = deleted;
    row->unsettled = unsettled;
    row->order_assumed = plan->order_assumed;
    resource__write(resource, effects);
    if (news) {
        tell_diverged(engine, resource, now, effects);
    }
}

bool converge__next(struct chp_engine *engine, struct resource *resource, const struct chp_now *now,
                    struct chp_effects *effects, struct step *step)
{
    struct course *course = &resource->course;
    if (!course->valid) {
        make_plan(resource);
        settle_all(engine, resource, now, effects);
    }
    converge__show(engine, resource, now, effects);
    if (is_over(course)) {
        return false;
    }
    step->undo = course->undo_at < course->plan.undo_count;
    step->entry =
        chp_replica_find(resource->replica, step->undo ? &course->plan.undo[course->undo_at]
                                                       : &course->plan.run[course->run_at]);
    return true;
}

void converge__stepped(struct resource *resource)
{
    struct course *course = &resource->course;
    if (!course->valid) {
        return;
    }
    if (course->undo_at < course->plan.undo_count) {
        course->undo_at++;
    } else {
        course->run_at++;
    }
    /* What ran is where it belongs now: the next plan would be the rest of this one. */
    if (is_over(course) && course->plan.kind != CHP_PLAN_DIVERGED) {
        course->plan = (struct chp_plan){.kind = CHP_PLAN_NOTHING,
                                         .order_assumed = course->plan.order_assumed,
                                         .lacks = course->plan.lacks};
        course->undo_at = 0;
        course->run_at = 0;
    }
}

/* Whether something that has had its effect follows it in the sequence. */
static bool ran_early(struct resource *resource, const struct chp_entry *entry)
{
    struct chp_sequence *sequence = chp_replica_sequence(resource->replica);
    struct chp_fate fate;
    if (!resource->course.plan.order_assumed || !chp_sequence_fate(sequence, &entry->id, &fate) ||
        fate.displaced != CHP_DISPLACED_NOT) {
        return false;
    }
    for (size_t i = fate.place + 1; i < chp_sequence_count(sequence); i++) {
        if (chp_replica_find(resource->replica, chp_sequence_at(sequence, i))->effect > 0) {
            return true;
        }
    }
    return false;
}

/* The undo of an execution has ended: the operation has no effect any more, and runs again where
 * it belongs, or not at all. */
static void undone(struct resource *resource, struct chp_entry *entry, struct chp_ack *ack)
{
    if (ack->state == CHP_STATE_DONE) {
        entry->effect = 0;
        ack->state = entry->planned ? CHP_STATE_DELIVERED : CHP_STATE_SUPERSEDED;
        ack->reason = "undone";
        converge__stepped(resource);
        return;
    }
    /* Whether it still has its effect is not known: nothing is built on it. */
    entry->has_undo = false;
    ack->state = CHP_STATE_DONE;
    ack->reason = "its undo failed";
    converge__changed(resource);
}

/* The places of effects that one life of the database gives are above those of the lives before:
 * incarnations grow by more than one life can give. */
static uint64_t life_base(const struct chp_engine *engine)
{
    const uint64_t max = UINT64_C(1) << 41;
    return (engine->incarnation < max ? engine->incarnation : max) << 21;
}

static uint64_t next_effect(const struct chp_engine *engine, struct resource *resource)
{
    uint64_t base = life_base(engine);
    resource->effect_last = resource->effect_last < base ? base + 1 : resource->effect_last + 1;
    return resource->effect_last;
}

void converge__ended(const struct chp_engine *engine, struct resource *resource,
                     const struct chp_operation *operation, const struct chp_now *now,
                     struct chp_ack *ack)
{
    if (resource->replica == NULL) {
        return;
    }
    struct chp_entry *entry = chp_replica_find(resource->replica, &operation->id);
    bool undo = entry->undoing;
    ack->unverified = false;
    if (ack->state == CHP_STATE_IN_DOUBT) {
        converge__begin(engine, resource, operation, ack);
        return;
    }
    entry->undoing = false;
    if (undo) {
        undone(resource, entry, ack);
    } else if (ack->state == CHP_STATE_DONE) {
        ack->unverified = ran_early(resource, entry);
        entry->planned = false;
        if (entry->state != CHP_STATE_IN_DOUBT || entry->effect == 0) {
            entry->effect = next_effect(engine, resource);
        }
        converge__stepped(resource);
    } else if (ack->state == CHP_STATE_FAILED || ack->state == CHP_STATE_REFUSED) {
        entry->planned = false;
        entry->effect = 0;
        entry->held_back = true;
        resource->has_failed = true;
        outcome__retry_later(entry, now);
        converge__changed(resource);
    } else {
        entry->effect = 0; /* as its origin knows it */
    }
    entry->state = ack->state;
    entry->run = ack->run;
}

void converge__begin(const struct chp_engine *engine, struct resource *resource,
                     const struct chp_operation *operation, const struct chp_ack *ack)
{
    if (resource->replica == NULL) {
        return;
    }
    struct chp_entry *entry = chp_replica_find(resource->replica, &operation->id);
    if (!entry->undoing) {
        /* In doubt: if it ran, it had its effect before whatever runs from now on. */
        entry->effect = ack->state == CHP_STATE_IN_DOUBT ? next_effect(engine, resource) : 0;
    }
    entry->state = ack->state;
    entry->run = ack->run;
}

void converge__recalled(const struct chp_engine *engine, struct resource *resource,
                        const struct chp_operation *operation, const struct chp_now *now,
                        struct chp_ack *ack)
{
    if (resource->replica == NULL) {
        return;
    }
    struct chp_entry *entry = chp_replica_find(resource->replica, &operation->id);
    /* In which order they ran is not known: most likely in that of the sequence, before all that
     * runs in this life. */
    entry->state = CHP_STATE_IN_DOUBT;
    if (!entry->undoing) {
        entry->effect = ack->state == CHP_STATE_IN_DOUBT || ack->state == CHP_STATE_DONE
                            ? life_base(engine)
                            : 0;
    }
    if (ack->state == CHP_STATE_IN_DOUBT) {
        entry->run = ack->run;
    } else {
        converge__ended(engine, resource, operation, now, ack);
    }
    converge__changed(resource);
}
