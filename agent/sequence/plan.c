/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * What runs wipes what it is take-one with or reverse-order after, as far back as it commutes with
 * what stands in between: that is what the matrix says when the origin of an operation displaces
 * others without undoing them (rule 1). So from a list of executions follow its effects, those of
 * which the state consists, and two lists with the same effects, up to neighbours that commute,
 * make the same state.
 *
 * The plan begins with what is missing and plays it: whatever is then not there, or before what it
 * has to follow, has to run again, and whatever is there too much has to be wiped, by the last of
 * the sequence that can. That is repeated until the effects are those of the sequence, which is
 * the proof of the plan. When nothing in the sequence wipes what has to go, it is undone.
 */
#include "sequence/plan.h"

#include "sequence/internal.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

enum { ROUNDS_MAX = 64 };

/* Effects in the order in which they came about. What is wiped stays in the list as NONE. */
struct effects {
    uint32_t *nodes;
    uint32_t count;
    uint32_t *previous; /* by place: the one before of the same kind, or NONE */
    uint32_t *last;     /* by kind: the place of the last, or NONE */
};

struct planning {
    struct chp_sequence *sequence;
    const struct chp_ran *executions;
    uint32_t execution_count;
    uint32_t *executed; /* by execution: node */
    bool *undone;       /* by execution */
    uint32_t count;     /* of the sequence */
    uint32_t *nodes;    /* by place */
    uint32_t *wanted;   /* by node: place among the effects of the sequence, or NONE */
    bool *runs;         /* by place: has to run */
    uint32_t first;     /* runs before them, though it is not in the sequence; or NONE */
    bool *held_back;    /* by place: is not to run */
    uint32_t *lowest;   /* by kind: scratch */
};

static void effects_init(struct effects *effects, const struct chp_sequence *sequence, size_t cap)
{
    *effects = (struct effects){.nodes = chp_calloc(cap, sizeof(uint32_t)),
                                .previous = chp_calloc(cap, sizeof(uint32_t)),
                                .last = chp_calloc(sequence->kind_count, sizeof(uint32_t))};
    memset(effects->last, 0xff, sequence->kind_count * sizeof *effects->last);
}

static void effects_deinit(struct effects *effects)
{
    free(effects->nodes);
    free(effects->previous);
    free(effects->last);
}

/* A run: wipes back to the last that it has to follow, then takes its place. */
static void effects_run(struct effects *effects, const struct chp_sequence *sequence, uint32_t node)
{
    uint32_t kind = sequence->nodes[node].kind;
    uint32_t stop = 0; /* behind the last that stops it */
    for (uint32_t k = 0; k < sequence->kind_count; k++) {
        unsigned pair = sequence__pair(sequence, k, kind);
        if (effects->last[k] != NONE && effects->last[k] >= stop && (pair & PAIR_WIPES) == 0 &&
            (pair & PAIR_RULE) != CHP_TAKE_BOTH_ANY_ORDER) {
            stop = effects->last[k] + 1;
        }
    }
    for (uint32_t k = 0; k < sequence->kind_count; k++) {
        while ((sequence__pair(sequence, k, kind) & PAIR_WIPES) != 0 && effects->last[k] != NONE &&
               effects->last[k] >= stop) {
            effects->nodes[effects->last[k]] = NONE;
            effects->last[k] = effects->previous[effects->last[k]];
        }
    }
    effects->nodes[effects->count] = node;
    effects->previous[effects->count] = effects->last[kind];
    effects->last[kind] = effects->count++;
}

/* What is left of the executions, without those that are undone: whatever these had wiped is back.
 * So the first places
 * are those of the executions. */
static void play_executions(const struct planning *planning, struct effects *effects)
{
    effects_init(effects, planning->sequence, planning->execution_count + planning->count + 1);
    for (uint32_t i = 0; i < planning->execution_count; i++) {
        if (planning->undone[i]) {
            effects->nodes[effects->count] = NONE;
            effects->previous[effects->count++] = NONE;
        } else {
            effects_run(effects, planning->sequence, planning->executed[i]);
        }
    }
}

/* And then what has to run. */
static void play(const struct planning *planning, struct effects *effects)
{
    play_executions(planning, effects);
    if (planning->first != NONE) {
        effects_run(effects, planning->sequence, planning->first);
    }
    for (uint32_t place = 0; place < planning->count; place++) {
        if (planning->runs[place]) {
            effects_run(effects, planning->sequence, planning->nodes[place]);
        }
    }
}

static uint32_t place_of(const struct chp_sequence *sequence, uint32_t node)
{
    const struct node *of = &sequence->nodes[node];
    bool lives = sequence__stands(of) && of->winner == NONE;
    return lives ? sequence->blocks[of->block].start + of->place : NONE;
}

/* What is to be: the effects of the sequence. */
static void find_wanted(struct planning *planning)
{
    struct effects effects;
    uint32_t at = 0;
    effects_init(&effects, planning->sequence, planning->count);
    memset(planning->wanted, 0xff, planning->sequence->node_count * sizeof *planning->wanted);
    for (uint32_t place = 0; place < planning->count; place++) {
        if (!planning->held_back[place]) {
            effects_run(&effects, planning->sequence, planning->nodes[place]);
        }
    }
    for (uint32_t i = 0; i < effects.count; i++) {
        if (effects.nodes[i] != NONE) {
            planning->wanted[effects.nodes[i]] = at++;
        }
    }
    effects_deinit(&effects);
}

/* Lets the last of the sequence run that wipes node, and is before it when it has to run again.
 * false: there is none that does not run already. */
static bool wipe(struct planning *planning, uint32_t node)
{
    const struct chp_sequence *sequence = planning->sequence;
    uint32_t from = planning->wanted[node] == NONE ? planning->count : place_of(sequence, node) + 1;
    for (uint32_t place = from; place > 0; place--) {
        uint32_t by = planning->nodes[place - 1];
        unsigned pair =
            sequence__pair(sequence, sequence->nodes[node].kind, sequence->nodes[by].kind);
        if ((pair & PAIR_WIPES) != 0 && !planning->runs[place - 1] &&
            !planning->held_back[place - 1]) {
            planning->runs[place - 1] = true;
            return true;
        }
    }
    return false;
}

/* Whether an effect stands before one that it has to follow. lowest: of what stands behind it. */
static bool is_early(const struct planning *planning, uint32_t node, bool *assumed)
{
    const struct chp_sequence *sequence = planning->sequence;
    uint32_t kind = sequence->nodes[node].kind;
    for (uint32_t k = 0; k < sequence->kind_count; k++) {
        if (planning->lowest[k] < planning->wanted[node]) {
            unsigned pair = sequence__pair(sequence, k, kind);
            if ((pair & PAIR_RULE) != CHP_TAKE_BOTH_ANY_ORDER) {
                return true;
            }
            *assumed = *assumed || (pair & PAIR_ASSUMED) != 0;
        }
    }
    return false;
}

enum progress { PLAN_RIGHT, PLAN_CHANGED, PLAN_STUCK };

/* Compares effects with what is wanted, from their end, and lets run what helps. stuck: node that
 * nothing wipes. */
static enum progress compare(struct planning *planning, const struct effects *effects,
                             bool *assumed, uint32_t *stuck)
{
    const struct chp_sequence *sequence = planning->sequence;
    bool *there = chp_alloc(sequence->node_count);
    enum progress progress = PLAN_RIGHT;
    memset(planning->lowest, 0xff, sequence->kind_count * sizeof *planning->lowest);
    *assumed = false;
    for (uint32_t i = effects->count; i > 0 && progress != PLAN_STUCK; i--) {
        uint32_t node = effects->nodes[i - 1];
        if (node == NONE) {
            continue;
        }
        uint32_t wanted = planning->wanted[node];
        if (wanted == NONE || there[node] || is_early(planning, node, assumed)) {
            *stuck = node;
            progress = wipe(planning, node) ? PLAN_CHANGED : PLAN_STUCK;
            continue; /* when it has to run again, it will be missing */
        }
        there[node] = true;
        uint32_t *lowest = &planning->lowest[sequence->nodes[node].kind];
        *lowest = wanted < *lowest ? wanted : *lowest;
    }
    for (uint32_t place = 0; place < planning->count && progress != PLAN_STUCK; place++) {
        uint32_t node = planning->nodes[place];
        if (planning->wanted[node] != NONE && !there[node] && !planning->runs[place]) {
            planning->runs[place] = true;
            progress = PLAN_CHANGED;
        }
    }
    free(there);
    return progress;
}

/* Whether what runs makes the effects those of the sequence; more runs until it does. */
static bool solve(struct planning *planning, bool *assumed, uint32_t *stuck)
{
    enum progress progress = PLAN_CHANGED;
    for (int round = 0; round < ROUNDS_MAX && progress == PLAN_CHANGED; round++) {
        struct effects effects;
        play(planning, &effects);
        progress = compare(planning, &effects, assumed, stuck);
        effects_deinit(&effects);
    }
    return progress == PLAN_RIGHT;
}

static void begin_with_missing(struct planning *planning)
{
    struct effects effects;
    for (uint32_t place = 0; place < planning->count; place++) {
        planning->runs[place] = planning->wanted[planning->nodes[place]] != NONE;
    }
    play_executions(planning, &effects);
    for (uint32_t i = 0; i < effects.count; i++) {
        uint32_t node = effects.nodes[i];
        if (node != NONE && planning->wanted[node] != NONE) {
            planning->runs[place_of(planning->sequence, node)] = false;
        }
    }
    effects_deinit(&effects);
}

/* From the last operation that establishes the whole state. */
static bool replay(struct planning *planning, bool *assumed, uint32_t *stuck)
{
    const struct chp_sequence *sequence = planning->sequence;
    for (uint32_t first = planning->count; first > 0; first--) {
        const struct kind *kind =
            &sequence->kinds[sequence->nodes[planning->nodes[first - 1]].kind];
        if (chp_matrix_establishes(kind->matrix, kind->type) && !planning->held_back[first - 1]) {
            for (uint32_t place = 0; place < planning->count; place++) {
                planning->runs[place] = place >= first - 1 && !planning->held_back[place];
            }
            return solve(planning, assumed, stuck);
        }
    }
    return false;
}

/* Whether an effect cannot stay, with what stands before it. */
static bool must_go(const struct planning *planning, uint32_t node, const bool *stands,
                    const bool *undone_kinds)
{
    const struct chp_sequence *sequence = planning->sequence;
    uint32_t kind = sequence->nodes[node].kind;
    if (planning->wanted[node] == NONE || stands[node]) {
        return true;
    }
    for (uint32_t k = 0; k < sequence->kind_count; k++) {
        if (undone_kinds[k] && (sequence__rule(sequence, k, kind) != CHP_TAKE_BOTH_ANY_ORDER ||
                                sequence__rule(sequence, kind, k) != CHP_TAKE_BOTH_ANY_ORDER)) {
            return true;
        }
    }
    for (uint32_t place = 0; planning->nodes[place] != node; place++) {
        uint32_t before = planning->nodes[place];
        if (planning->wanted[before] != NONE && !stands[before] &&
            sequence__rule(sequence, sequence->nodes[before].kind, kind) !=
                CHP_TAKE_BOTH_ANY_ORDER) {
            return true;
        }
    }
    return false;
}

/* Marks what has to be undone: what does not count, or stands before what it has to follow, and
 * what does not commute with such a one and came after it. false: there was nothing more. */
static bool mark_undone(struct planning *planning)
{
    const struct chp_sequence *sequence = planning->sequence;
    bool *undone_kinds = chp_alloc(sequence->kind_count);
    bool *stands = chp_alloc(sequence->node_count);
    bool marked = false;
    struct effects effects;
    play_executions(planning, &effects);
    for (uint32_t i = 0; i < planning->execution_count; i++) {
        uint32_t node = effects.nodes[i];
        if (node != NONE && must_go(planning, node, stands, undone_kinds)) {
            planning->undone[i] = true;
            marked = true;
        } else if (node != NONE) {
            stands[node] = true;
        }
        if (planning->undone[i]) {
            undone_kinds[sequence->nodes[planning->executed[i]].kind] = true;
        }
    }
    effects_deinit(&effects);
    free(undone_kinds);
    free(stands);
    return marked;
}

/* NONE: all that is to be undone can be; else an execution that brings no undo. */
static uint32_t without_undo(const struct planning *planning)
{
    for (uint32_t i = 0; i < planning->execution_count; i++) {
        if (planning->undone[i] && !planning->executions[i].has_undo) {
            return planning->executed[i];
        }
    }
    return NONE;
}

static bool compensate(struct planning *planning, bool *assumed, uint32_t *stuck)
{
    while (mark_undone(planning)) {
    }
    uint32_t without = without_undo(planning);
    if (without != NONE) {
        *stuck = without;
        return false;
    }
    begin_with_missing(planning);
    return solve(planning, assumed, stuck);
}

/* From an operation that is displaced, but makes the whole state, and is then replaced by what runs
 * after it: a delete that was followed by a new beginning. */
static bool clear(struct planning *planning, const bool *may_run, bool *assumed, uint32_t *stuck)
{
    const struct chp_sequence *sequence = planning->sequence;
    uint32_t was_stuck = *stuck;
    memset(planning->undone, 0, planning->execution_count);
    for (uint32_t node = sequence->node_count; node > 0; node--) {
        const struct node *candidate = &sequence->nodes[node - 1];
        const struct kind *kind = &sequence->kinds[candidate->kind];
        if (!may_run[node - 1] || candidate->is_void || candidate->past == NONE ||
            !chp_matrix_establishes(kind->matrix, kind->type)) {
            continue;
        }
        planning->first = node - 1;
        for (uint32_t place = 0; place < planning->count; place++) {
            planning->runs[place] = planning->wanted[planning->nodes[place]] != NONE;
        }
        if (solve(planning, assumed, stuck)) {
            return true;
        }
    }
    planning->first = NONE;
    *stuck = was_stuck;
    return false;
}

static void fill(const struct planning *planning, struct chp_arena *arena, struct chp_plan *plan)
{
    const struct chp_sequence *sequence = planning->sequence;
    bool *ran = chp_alloc(sequence->node_count);
    struct chp_uuid *run = chp_arena_calloc(arena, planning->count + 1, sizeof *run);
    struct chp_uuid *undo = chp_arena_calloc(arena, planning->execution_count, sizeof *undo);
    for (uint32_t i = planning->execution_count; i > 0; i--) {
        ran[planning->executed[i - 1]] = true;
        if (planning->undone[i - 1]) {
            undo[plan->undo_count++] = planning->executions[i - 1].operation;
        }
    }
    if (planning->first != NONE) {
        run[plan->run_count++] = sequence->nodes[planning->first].id;
        plan->again += ran[planning->first];
    }
    for (uint32_t place = 0; place < planning->count; place++) {
        if (planning->runs[place]) {
            run[plan->run_count++] = sequence->nodes[planning->nodes[place]].id;
            plan->again += ran[planning->nodes[place]];
        }
    }
    plan->run = run;
    plan->undo = undo;
    plan->kind = plan->undo_count > 0   ? CHP_PLAN_COMPENSATE
                 : plan->again > 0      ? CHP_PLAN_REPLAY
                 : plan->run_count == 0 ? CHP_PLAN_NOTHING
                                        : CHP_PLAN_APPEND;
    free(ran);
}

static void explain(const struct planning *planning, uint32_t stuck, struct chp_arena *arena,
                    struct chp_plan *plan)
{
    const struct node *node = &planning->sequence->nodes[stuck];
    char id[CHP_UUID_TEXT_BYTES];
    chp_uuid_format(&node->id, id);
    plan->kind = CHP_PLAN_DIVERGED;
    plan->reason = chp_arena_printf(
        arena,
        "operation %s (%s) ran here %s, can't be undone, and nothing in the sequence replaces it",
        id, planning->sequence->kinds[node->kind].type,
        planning->wanted[stuck] == NONE ? "and does not count any more"
                                        : "before operations that it has to follow");
}

static void decide(struct planning *planning, const bool *may_run, struct chp_arena *arena,
                   struct chp_plan *plan)
{
    uint32_t stuck = NONE;
    bool assumed = false;
    *plan = (struct chp_plan){.kind = CHP_PLAN_NOTHING};
    begin_with_missing(planning);
    if (!solve(planning, &assumed, &stuck) && !replay(planning, &assumed, &stuck) &&
        !compensate(planning, &assumed, &stuck) && !clear(planning, may_run, &assumed, &stuck)) {
        explain(planning, stuck, arena, plan);
        return;
    }
    plan->order_assumed = assumed;
    fill(planning, arena, plan);
}

static void find_nodes(struct planning *planning)
{
    for (uint32_t i = 0; i < planning->sequence->node_count; i++) {
        uint32_t place = place_of(planning->sequence, i);
        if (place != NONE) {
            planning->nodes[place] = i;
        }
    }
}

static void hold_back(struct planning *planning, bool *may_run, const struct chp_uuid *ids,
                      size_t count)
{
    memset(may_run, 1, planning->sequence->node_count);
    for (size_t i = 0; i < count; i++) {
        uint32_t node = sequence__find(planning->sequence, &ids[i]);
        CHP_ASSERT(node != NONE);
        uint32_t place = place_of(planning->sequence, node);
        may_run[node] = false;
        if (place != NONE) {
            planning->held_back[place] = true;
        }
    }
}

void chp_plan_make(struct chp_sequence *sequence, const struct chp_ran *ran, size_t ran_count,
                   const struct chp_uuid *held_back, size_t held_back_count,
                   struct chp_arena *arena, struct chp_plan *plan)
{
    uint32_t count = (uint32_t)chp_sequence_count(sequence);
    bool *may_run = chp_alloc(sequence->node_count); /* by node */
    struct planning planning = {
        .sequence = sequence,
        .executions = ran,
        .execution_count = (uint32_t)ran_count,
        .executed = chp_calloc(ran_count, sizeof(uint32_t)),
        .undone = chp_alloc(ran_count),
        .count = count,
        .nodes = chp_calloc(count, sizeof(uint32_t)),
        .wanted = chp_calloc(sequence->node_count, sizeof(uint32_t)),
        .runs = chp_alloc(count),
        .held_back = chp_alloc(count),
        .lowest = chp_calloc(sequence->kind_count, sizeof(uint32_t)),
        .first = NONE,
    };
    find_nodes(&planning);
    hold_back(&planning, may_run, held_back, held_back_count);
    for (size_t i = 0; i < ran_count; i++) {
        planning.executed[i] = sequence__find(sequence, &ran[i].operation);
        CHP_ASSERT(planning.executed[i] != NONE);
    }
    find_wanted(&planning);
    decide(&planning, may_run, arena, plan);
    free(may_run);
    free(planning.executed);
    free(planning.undone);
    free(planning.nodes);
    free(planning.wanted);
    free(planning.runs);
    free(planning.held_back);
    free(planning.lowest);
}
