/* SPDX-License-Identifier: AGPL-3.0-only */
/* What must hold when all has settled (design sections 4 and 6, C1 to C6), read from the databases
 * and from the applications. */
#include "sim/world.h"

#include "sequence/replica.h"
#include "wire/wire.h"

#include <stdio.h>
#include <string.h>

/* What the database of a site says: of each resource, then of each operation. */
struct view {
    struct sim_site *site;
    struct chp_batch batch;
    const struct chp_load *resources;
    const struct chp_load *operations;
};

struct inspection {
    struct sim *sim;
    struct chp_buf *why;
    struct view views[SIM_SITES_MAX];
    unsigned members;                     /* of the resource that is looked at */
    const struct chp_operation **decoded; /* of each operation; NULL: never stored */
    size_t *by_stamp;                     /* their indexes, those of causes first */
    size_t stored_count;
    struct chp_arena arena;
    struct chp_matrices *matrices;
    struct chp_replica *replica; /* of that resource, as it follows from its operations */
};

static bool wrong(struct inspection *inspection, const char *format, ...) CHP_PRINTF(2, 3);

static bool wrong(struct inspection *inspection, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    chp_buf_add_text(inspection->why, text);
    return false;
}

static bool is_member(const struct inspection *inspection, int site)
{
    return (inspection->members >> site & 1) != 0;
}

static void look(struct sim *sim, int index, struct view *view)
{
    struct chp_batch *batch = &view->batch;
    view->site = &sim->sites[index];
    for (int r = 0; r < sim->schedule->resource_count; r++) {
        struct chp_load *load = chp_batch_load(batch, CHP_LOAD_RESOURCE);
        load->resource = chp_arena_printf(&batch->arena, "r%d", r);
        load->limit = SIM_OPERATIONS_MAX;
    }
    for (size_t i = 0; i < sim->operation_count; i++) {
        chp_batch_load(batch, CHP_LOAD_OPERATION)->operation = sim->operations[i].id;
    }
    sim_site_ask(view->site, batch);
    view->resources = batch->loads;
    view->operations = batch->loads + sim->schedule->resource_count;
}

static const struct chp_ack *execution_of(const struct view *view, size_t operation,
                                          const char *site)
{
    const struct chp_load *load = &view->operations[operation];
    for (size_t i = 0; i < load->operation_result.execution_count; i++) {
        if (strcmp(load->operation_result.executions[i].ack.site, site) == 0) {
            return &load->operation_result.executions[i].ack;
        }
    }
    return NULL;
}

static void print_row(const struct chp_resource_row *row, struct chp_buf *out)
{
    chp_buf_add_text(out, "members");
    for (size_t i = 0; i < row->member_count; i++) {
        chp_buf_printf(out, " %s", row->members[i]);
    }
    chp_buf_add_text(out, ", vector");
    for (size_t i = 0; i < row->vector.count; i++) {
        const struct chp_dot *dot = &row->vector.entries[i];
        chp_buf_printf(out, " %s.%llu:%llu", dot->origin, (unsigned long long)dot->incarnation,
                       (unsigned long long)dot->n);
    }
    chp_buf_printf(
        out, ", scope %s, level %s, created by %s%s", row->scope, chp_level_name(row->level),
        row->created_origin == NULL ? "?" : row->created_origin, row->merged ? ", merged" : "");
}

/* Members know the same of the resource: members, scope, level, matrix, dots. */
static bool check_rows(struct inspection *inspection, int r)
{
    struct chp_buf first = {0};
    int first_site = -1;
    bool same = true;
    for (int i = 0; same && i < inspection->sim->schedule->site_count; i++) {
        const struct chp_load *load = &inspection->views[i].resources[r];
        struct chp_buf text = {0};
        if (!is_member(inspection, i)) {
            continue;
        }
        if (!load->found) {
            chp_buf_deinit(&first);
            return wrong(inspection, "member %s does not know r%d", sim_site_name(i), r);
        }
        print_row(&load->resource_result.row, &text);
        if (first_site < 0) {
            first_site = i;
            chp_buf_add_text(&first, chp_buf_text(&text));
        } else if (strcmp(chp_buf_text(&first), chp_buf_text(&text)) != 0) {
            same = wrong(inspection, "r%d is at %s: %s; at %s: %s", r, sim_site_name(first_site),
                         chp_buf_text(&first), sim_site_name(i), chp_buf_text(&text));
        }
        chp_buf_deinit(&text);
    }
    chp_buf_deinit(&first);
    return same;
}

static void find_members(struct inspection *inspection, int r)
{
    struct sim *sim = inspection->sim;
    inspection->members = 0;
    for (int i = 0; i < sim->schedule->site_count; i++) {
        const struct chp_load *load = &inspection->views[i].resources[r];
        for (size_t j = 0; load->found && j < load->resource_result.row.member_count; j++) {
            int member = sim_site_of(sim, load->resource_result.row.members[j]);
            inspection->members |= member < 0 ? 0 : 1U << member;
        }
    }
}

static bool done_anywhere(const struct inspection *inspection, size_t index)
{
    bool done = false;
    for (int i = 0; i < inspection->sim->schedule->site_count; i++) {
        const struct chp_ack *ack = execution_of(&inspection->views[i], index, sim_site_name(i));
        done |= ack != NULL && ack->state == CHP_STATE_DONE;
    }
    return done;
}

/* Why an execution that did not end as done may be so. */
static bool check_end(struct inspection *inspection, size_t index, int site,
                      const struct chp_ack *ack)
{
    struct sim *sim = inspection->sim;
    const struct sim_operation *operation = &sim->operations[index];
    const char *name = sim_site_name(site);
    if (ack == NULL) {
        return wrong(inspection, "%s is at %s, but nothing of its execution", operation->label,
                     name);
    }
    if (!chp_state_final(ack->state)) {
        return wrong(inspection, "%s is %s at %s", operation->label, chp_state_name(ack->state),
                     name);
    }
    if (ack->state != CHP_STATE_DONE && (ack->reason == NULL || ack->reason[0] == 0)) {
        return wrong(inspection, "%s is %s at %s without a reason", operation->label,
                     chp_state_name(ack->state), name);
    }
    if (ack->state == CHP_STATE_FAILED) {
        const struct sim_action *action = &sim->schedule->actions[operation->action];
        if ((action->request.fail_mask >> site & 1) == 0) {
            return wrong(inspection, "%s failed at %s, where it does not fail: %s",
                         operation->label, name, ack->reason);
        }
    }
    return true;
}

/* The origin knows how it ended everywhere, and that this is all. */
static bool check_origin(struct inspection *inspection, size_t index)
{
    struct sim *sim = inspection->sim;
    const struct sim_operation *operation = &sim->operations[index];
    const struct view *origin = &inspection->views[operation->origin];
    const struct chp_load *load = &origin->operations[index];
    if (!load->found || origin->site->database_lost) {
        return true;
    }
    if (!load->operation_result.completed) {
        return wrong(inspection, "%s is not completed at its origin %s", operation->label,
                     origin->site->name);
    }
    for (int i = 0; i < sim->schedule->site_count; i++) {
        const struct chp_ack *known = execution_of(origin, index, sim_site_name(i));
        const struct chp_ack *own = execution_of(&inspection->views[i], index, sim_site_name(i));
        if (known != NULL && own != NULL &&
            (known->state != own->state || known->run != own->run)) {
            return wrong(inspection, "%s is %s (run %u) at %s, its origin %s says %s (run %u)",
                         operation->label, chp_state_name(own->state), own->run, sim_site_name(i),
                         origin->site->name, chp_state_name(known->state), known->run);
        }
    }
    return true;
}

/* Whether the database of the site has the operation, or had it and has forgotten it. */
static bool is_held(const struct inspection *inspection, int site, size_t index)
{
    const struct chp_operation *operation = inspection->decoded[index];
    const struct view *view = &inspection->views[site];
    int r = inspection->sim->operations[index].resource;
    return view->operations[index].found ||
           (operation != NULL && r >= 0 &&
            operation->dot.n <= chp_vector_get(&view->resources[r].resource_result.row.forgotten,
                                               operation->dot.origin, operation->dot.incarnation));
}

static bool check_operation(struct inspection *inspection, size_t index)
{
    struct sim *sim = inspection->sim;
    const struct sim_operation *operation = &sim->operations[index];
    bool anywhere = false;
    for (int i = 0; i < sim->schedule->site_count; i++) {
        anywhere |= is_held(inspection, i, index);
    }
    if (!anywhere) {
        return !operation->accepted || operation->may_be_lost ||
               wrong(inspection, "%s was accepted and is lost", operation->label);
    }
    for (int i = 0; i < sim->schedule->site_count; i++) {
        if (!is_member(inspection, i)) {
            continue;
        }
        if (!is_held(inspection, i, index)) {
            return wrong(inspection, "%s is not at member %s", operation->label, sim_site_name(i));
        }
        if (operation->action >= 0 && inspection->views[i].operations[index].found &&
            !check_end(inspection, index, i,
                       execution_of(&inspection->views[i], index, sim_site_name(i)))) {
            return false;
        }
    }
    return operation->action < 0 || check_origin(inspection, index);
}

/* The replica that follows from the operations that a member holds, or held before it forgot what
 * nobody needs any more. */
static bool build(struct inspection *inspection, int r)
{
    struct sim *sim = inspection->sim;
    inspection->replica = chp_replica_new(inspection->matrices, NULL);
    for (int i = 0; i < sim->schedule->site_count; i++) {
        const struct chp_load *load = &inspection->views[i].resources[r];
        for (size_t k = 0; is_member(inspection, i) && k < inspection->stored_count; k++) {
            size_t j = inspection->by_stamp[k];
            struct chp_entry *entry = NULL;
            struct chp_error error = {0};
            if (sim->operations[j].resource != r || !is_held(inspection, i, j)) {
                continue;
            }
            int code = chp_replica_add(inspection->replica, inspection->decoded[j],
                                       &load->resource_result.row.vector, &entry, &error);
            if (code != 0 || entry->refused) {
                return wrong(inspection, "%s cannot be in the sequence of r%d: %s",
                             sim->operations[j].label, r, error.text);
            }
        }
        if (is_member(inspection, i)) {
            (void)chp_replica_advance(inspection->replica, &load->resource_result.row.vector);
            return true; /* the others have the same */
        }
    }
    return true;
}

/* What the application of a member must be: the sequence, run from empty, without what failed
 * there. */
static bool expect(struct inspection *inspection, int r, int site, struct sim_app *app)
{
    struct sim *sim = inspection->sim;
    struct chp_sequence *sequence = chp_replica_sequence(inspection->replica);
    *app = (struct sim_app){.kind = sim->schedule->kinds[r]};
    for (size_t i = 0; i < chp_sequence_count(sequence); i++) {
        const struct sim_operation *operation = sim_operation_of(sim, chp_sequence_at(sequence, i));
        CHP_ASSERT(operation != NULL);
        const struct chp_ack *own = execution_of(
            &inspection->views[site], (size_t)(operation - sim->operations), sim_site_name(site));
        if (operation->action < 0) {
            continue;
        }
        const struct sim_action *action = &sim->schedule->actions[operation->action];
        if (own == NULL || own->state != CHP_STATE_FAILED) { /* NULL: forgotten */
            (void)sim_app_run(app, action->request.command.text);
        } else if (action->request.fail_times != SIM_FOR_EVER &&
                   done_anywhere(inspection, (size_t)(operation - sim->operations))) {
            return wrong(inspection, "%s failed at %s and was not tried again", operation->label,
                         sim_site_name(site));
        }
    }
    return true;
}

static void print_sequence(struct inspection *inspection, struct chp_buf *out)
{
    struct chp_sequence *sequence = chp_replica_sequence(inspection->replica);
    for (size_t i = 0; i < chp_sequence_count(sequence); i++) {
        chp_buf_printf(out, " %s", sim_label(inspection->sim, chp_sequence_at(sequence, i)));
    }
}

static bool failed_at(const struct inspection *inspection, int r, int site)
{
    for (size_t i = 0; i < inspection->sim->operation_count; i++) {
        const struct chp_ack *own = execution_of(&inspection->views[site], i, sim_site_name(site));
        if (inspection->sim->operations[i].resource == r && own != NULL &&
            own->state == CHP_STATE_FAILED) {
            return true;
        }
    }
    return false;
}

/* A replica may only be given up when there is no other way. There always is one when every type
 * establishes the whole state, or all commute, and nothing failed there. */
static bool check_diverged(struct inspection *inspection, int r, int site, const char *reason)
{
    struct sim *sim = inspection->sim;
    bool may = (sim->schedule->kinds[r] != SIM_REGISTER && !sim->schedule->commuting) ||
               failed_at(inspection, r, site);
    sim->totals.diverged++;
    return may || wrong(inspection, "r%d is diverged at %s: %s", r, sim_site_name(site), reason);
}

/* The matrix that decides is a function of the operations, too. */
static bool check_matrix(struct inspection *inspection, int r, int site)
{
    const char *right = chp_replica_config(inspection->replica);
    const char *known = inspection->views[site].resources[r].resource_result.row.config;
    if (strcmp(right == NULL ? "" : right, known == NULL ? "" : known) == 0) {
        return true;
    }
    return wrong(inspection, "the matrix of r%d is at %s: %s, and must be: %s", r,
                 sim_site_name(site), known == NULL ? "none" : known,
                 right == NULL ? "none" : right);
}

static bool check_app(struct inspection *inspection, int r, int site)
{
    const struct sim_app *app = &inspection->sim->sites[site].apps[r];
    const struct chp_resource_row *row = &inspection->views[site].resources[r].resource_result.row;
    struct sim_app expected;
    struct chp_buf texts[3] = {{0}};
    if (row->diverged != NULL) {
        return check_diverged(inspection, r, site, row->diverged);
    }
    if (row->degraded && failed_at(inspection, r, site)) {
        return true; /* it says so: what failed there is missing, and what it replaces may be there
                      */
    }
    if (row->unsettled || (row->order_assumed && !inspection->sim->schedule->commuting)) {
        return wrong(inspection, "r%d is %s at %s", r,
                     row->unsettled ? "unsettled" : "in an assumed order", sim_site_name(site));
    }
    if (!expect(inspection, r, site, &expected)) {
        return false;
    }
    bool right = sim_app_equal(app, &expected);
    if (!right) {
        sim_app_print(app, &texts[0]);
        sim_app_print(&expected, &texts[1]);
        print_sequence(inspection, &texts[2]);
        (void)wrong(inspection, "r%d is %s at %s and must be %s, after%s", r,
                    chp_buf_text(&texts[0]), sim_site_name(site), chp_buf_text(&texts[1]),
                    chp_buf_text(&texts[2]));
        chp_buf_deinit(&texts[2]);
        chp_buf_deinit(&texts[0]);
        chp_buf_deinit(&texts[1]);
    }
    return right;
}

/* A request that was repeated with its key is one operation, however often it was asked. */
static bool check_keys(struct inspection *inspection)
{
    struct sim *sim = inspection->sim;
    int of_action[SIM_ACTIONS_MAX];
    memset(of_action, 0xff, sizeof of_action);
    for (size_t i = 0; i < sim->operation_count; i++) {
        const struct sim_operation *operation = &sim->operations[i];
        bool anywhere = false;
        for (int j = 0; j < sim->schedule->site_count; j++) {
            anywhere |= inspection->views[j].operations[i].found;
        }
        if (!anywhere || operation->action < 0 || sim->sites[operation->origin].database_lost) {
            continue;
        }
        if (of_action[operation->action] >= 0) {
            return wrong(inspection, "request %s became two operations", operation->label);
        }
        of_action[operation->action] = (int)i;
    }
    return true;
}

static bool check_resource(struct inspection *inspection, int r)
{
    struct sim *sim = inspection->sim;
    find_members(inspection, r);
    bool right = check_rows(inspection, r);
    for (size_t i = 0; right && i < sim->operation_count; i++) {
        right = sim->operations[i].resource != r || check_operation(inspection, i);
    }
    right = right && build(inspection, r);
    for (int i = 0; right && i < sim->schedule->site_count; i++) {
        right = !is_member(inspection, i) ||
                (check_matrix(inspection, r, i) && check_app(inspection, r, i));
    }
    chp_replica_free(inspection->replica);
    inspection->replica = NULL;
    return right;
}

static void decode_all(struct inspection *inspection)
{
    const struct sim *sim = inspection->sim;
    struct chp_arena *arena = &inspection->arena;
    inspection->decoded =
        chp_arena_calloc(arena, sim->operation_count, sizeof *inspection->decoded);
    inspection->by_stamp =
        chp_arena_calloc(arena, sim->operation_count, sizeof *inspection->by_stamp);
    for (size_t i = 0; i < sim->operation_count; i++) {
        struct chp_item *item = chp_arena_alloc(arena, sizeof *item);
        if (sim->operations[i].item.len > 0) {
            CHP_ASSERT(chp_item_decode(sim->operations[i].item, arena, item, NULL) == 0);
            inspection->decoded[i] = &item->operation;
            size_t at = inspection->stored_count++;
            while (at > 0 &&
                   chp_stamp_compare(inspection->decoded[inspection->by_stamp[at - 1]]->stamp,
                                     item->operation.stamp) > 0) {
                inspection->by_stamp[at] = inspection->by_stamp[at - 1];
                at--;
            }
            inspection->by_stamp[at] = i;
        }
    }
}

bool sim_check(struct sim *sim, struct chp_buf *why)
{
    struct inspection inspection = {.sim = sim, .why = why, .matrices = chp_matrices_new()};
    for (int i = 0; i < sim->schedule->site_count; i++) {
        look(sim, i, &inspection.views[i]);
    }
    decode_all(&inspection);
    bool right = check_keys(&inspection);
    for (int r = 0; right && r < sim->schedule->resource_count; r++) {
        right = check_resource(&inspection, r);
    }
    for (int i = 0; i < sim->schedule->site_count; i++) {
        chp_batch_deinit(&inspection.views[i].batch);
    }
    chp_arena_deinit(&inspection.arena);
    chp_matrices_free(inspection.matrices);
    return right;
}
