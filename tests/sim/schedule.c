/* SPDX-License-Identifier: AGPL-3.0-only */
#include "sim/schedule.h"

#include <string.h>

static const char *const action_names[SIM_ACTION_KINDS] = {
    [SIM_REQUEST] = "request",       [SIM_PARTITION] = "partition", [SIM_LOSSY] = "lossy",
    [SIM_SLOW_LINK] = "slow-link",   [SIM_SLOW_SITE] = "slow-site", [SIM_CRASH] = "crash",
    [SIM_STORE_DOWN] = "store-down", [SIM_BACKUP] = "backup",       [SIM_DISK_LOST] = "disk-lost",
    [SIM_RESTORE] = "restore",       [SIM_CLOCK] = "clock",
};

const char *sim_action_name(enum sim_action_kind kind)
{
    return action_names[kind];
}

const char *sim_site_name(int site)
{
    static const char *const names[SIM_SITES_MAX] = {"A", "B", "C", "D", "E"};
    return names[site];
}

static void print_mask(unsigned mask, struct chp_buf *out)
{
    for (int i = 0; i < SIM_SITES_MAX; i++) {
        if ((mask >> i & 1) != 0) {
            chp_buf_add_text(out, sim_site_name(i));
        }
    }
}

static void print_request(const struct sim_action *action, struct chp_buf *out)
{
    chp_buf_printf(out, " at %s: r%d %s", sim_site_name(action->site), action->request.resource,
                   action->request.command.text);
    if (action->request.command.undo[0] != 0) {
        chp_buf_printf(out, " (undo: %s)", action->request.command.undo);
    }
    if (action->request.creates) {
        chp_buf_add_text(out, ", scope ");
        print_mask(action->mask, out);
        chp_buf_printf(out, ", matrix %u", action->request.matrix);
    }
    if (action->request.fail_mask != 0) {
        chp_buf_add_text(out, ", fails at ");
        print_mask(action->request.fail_mask, out);
        if (action->request.fail_times == SIM_FOR_EVER) {
            chp_buf_add_text(out, " always");
        } else {
            chp_buf_printf(out, " %u times", action->request.fail_times);
        }
    }
}

static void print_crash(const struct sim_action *action, struct chp_buf *out)
{
    chp_buf_printf(out, " of %s", action->crash.machine ? "the machine" : "the agent");
    if (action->crash.at_once) {
        chp_buf_printf(out, ", the batch in flight %s",
                       action->crash.applied ? "stands" : "is lost");
    } else if (action->crash.place < 2) {
        chp_buf_printf(out, " with the next commit, which %s",
                       action->crash.place == 0 ? "is lost" : "stands");
    } else {
        chp_buf_printf(out, " with the next commit, after %u effects", action->crash.place - 2);
    }
    if (action->crash.loses_hand) {
        chp_buf_add_text(out, ", messages in hand are lost");
    }
}

static void print_fault(const struct sim_action *action, struct chp_buf *out)
{
    static const char *const directions[] = {"", " (only out of it)", " (only into it)"};
    switch (action->kind) {
    case SIM_PARTITION:
        chp_buf_printf(out, "%s", directions[action->direction]);
        break;
    case SIM_LOSSY:
        chp_buf_printf(out, ", %u percent", action->percent);
        break;
    case SIM_CRASH:
        print_crash(action, out);
        break;
    case SIM_STORE_DOWN:
        chp_buf_printf(out, ", the batch in flight %s", action->applied ? "stands" : "is lost");
        break;
    case SIM_DISK_LOST:
    case SIM_RESTORE:
        chp_buf_printf(out, " %s its high-water file", action->keeps_file ? "with" : "without");
        break;
    case SIM_CLOCK:
        chp_buf_printf(out, " to %lld ms", (long long)action->clock_ms);
        break;
    case SIM_REQUEST:
    case SIM_SLOW_LINK:
    case SIM_SLOW_SITE:
    case SIM_BACKUP:
        break;
    }
}

void sim_action_print(const struct sim_action *action, struct chp_buf *out)
{
    chp_buf_printf(out, "#%-3u %10.6f s  %s", action->number, (double)action->at_us / 1e6,
                   action_names[action->kind]);
    if (action->kind == SIM_REQUEST) {
        print_request(action, out);
        return;
    }
    chp_buf_add_byte(out, ' ');
    if (action->kind == SIM_PARTITION || action->kind == SIM_LOSSY ||
        action->kind == SIM_SLOW_LINK) {
        print_mask(action->mask, out);
    } else {
        chp_buf_add_text(out, sim_site_name(action->site));
    }
    print_fault(action, out);
    if (action->for_us != 0) {
        chp_buf_printf(out, ", for %.3f s", (double)action->for_us / 1e6);
    }
}

static unsigned draw_mask(struct sim_rng *rng, int count)
{
    return (unsigned)sim_rng_between(rng, 1, (1U << count) - 1);
}

/* Scopes of most resources have most sites. */
static unsigned draw_scope(struct sim_rng *rng, int count)
{
    unsigned mask = draw_mask(rng, count) | draw_mask(rng, count);
    return sim_rng_chance(rng, 40) ? (1U << count) - 1 : mask;
}

struct draft {
    struct sim_rng rng;
    struct sim_schedule *schedule;
    unsigned scopes[SIM_RESOURCES_MAX];
    unsigned other_scopes[SIM_RESOURCES_MAX]; /* of a second creation; 0: there is none */
    unsigned matrices[SIM_RESOURCES_MAX];
    bool fails;
};

static struct sim_action *add(struct draft *draft, enum sim_action_kind kind)
{
    struct sim_schedule *schedule = draft->schedule;
    CHP_ASSERT(schedule->count < SIM_ACTIONS_MAX);
    struct sim_action *action = &schedule->actions[schedule->count];
    *action = (struct sim_action){.kind = kind};
    schedule->count++;
    action->at_us = sim_rng_between(&draft->rng, 0, schedule->end_us);
    action->site = (int)sim_rng_between(&draft->rng, 0, (uint64_t)schedule->site_count - 1);
    return action;
}

/* More than half of the requests come close together, so that they are concurrent. */
static void draw_request(struct draft *draft, unsigned n)
{
    struct sim_rng *rng = &draft->rng;
    struct sim_schedule *schedule = draft->schedule;
    struct sim_action *action = add(draft, SIM_REQUEST);
    uint64_t burst = action->at_us / 5000000 * 5000000;
    bool together = sim_rng_chance(rng, 60);
    uint64_t within = sim_rng_between(rng, 0, 300000);
    int resource = (int)sim_rng_between(rng, 0, (uint64_t)schedule->resource_count - 1);
    bool other = sim_rng_chance(rng, 30);
    action->at_us = together ? burst + within : action->at_us;
    action->request.resource = resource;
    action->request.key_given = sim_rng_chance(rng, 70);
    action->request.creates = sim_rng_chance(rng, 30);
    action->mask = draft->scopes[resource];
    action->request.matrix = draft->matrices[resource];
    if (other && draft->other_scopes[resource] != 0) {
        action->mask = draft->other_scopes[resource];
        action->request.matrix++;
    }
    sim_command_draw(rng, schedule->kinds[resource], schedule->commuting, n,
                     &action->request.command);
    action->request.run_ms = (unsigned)sim_rng_between(rng, 1, sim_rng_chance(rng, 10) ? 3000 : 60);
    bool fails = sim_rng_chance(rng, 15);
    unsigned fail_mask = sim_rng_chance(rng, 30) ? (1U << schedule->site_count) - 1
                                                 : draw_mask(rng, schedule->site_count);
    unsigned fail_times =
        sim_rng_chance(rng, 50) ? SIM_FOR_EVER : (unsigned)sim_rng_between(rng, 1, 2);
    if (fails && draft->fails) {
        action->request.fail_mask = fail_mask;
        action->request.fail_times = fail_times;
    }
}

static void draw_crash(struct draft *draft, struct sim_action *action)
{
    struct sim_rng *rng = &draft->rng;
    action->crash.at_once = sim_rng_chance(rng, 40);
    action->crash.place = (unsigned)sim_rng_between(rng, 0, 9);
    action->crash.applied = sim_rng_chance(rng, 50);
    action->crash.machine = sim_rng_chance(rng, 40);
    action->crash.loses_hand = sim_rng_chance(rng, 20);
    action->for_us = sim_rng_between(rng, 10000, sim_rng_chance(rng, 20) ? 9000000 : 800000);
}

static void draw_fault(struct draft *draft, enum sim_action_kind kind)
{
    static const int64_t jumps_ms[] = {-7200000, -90000, -3000, -40,    40,
                                       3000,     30000,  90000, 7200000};
    struct sim_rng *rng = &draft->rng;
    struct sim_action *action = add(draft, kind);
    action->for_us = sim_rng_between(rng, 100000, sim_rng_chance(rng, 30) ? 20000000 : 5000000);
    action->mask = draw_mask(rng, draft->schedule->site_count);
    switch (kind) {
    case SIM_PARTITION:
        action->direction = (enum sim_direction)(
            sim_rng_chance(rng, 60) ? SIM_BOTH_WAYS : sim_rng_between(rng, 1, 2));
        break;
    case SIM_LOSSY:
        action->percent = (unsigned)sim_rng_between(rng, 5, 60);
        break;
    case SIM_CRASH:
        draw_crash(draft, action);
        break;
    case SIM_STORE_DOWN:
        action->applied = sim_rng_chance(rng, 50);
        break;
    case SIM_DISK_LOST:
    case SIM_RESTORE:
        action->keeps_file = sim_rng_chance(rng, 50);
        /* A site that lost both is a new one, as far as the others have not taken anything of it:
         * it runs again what its application has had. */
        action->keeps_file |= kind == SIM_DISK_LOST;
        action->for_us = sim_rng_between(rng, 10000, 3000000);
        break;
    case SIM_CLOCK:
        action->clock_ms =
            jumps_ms[sim_rng_between(rng, 0, sizeof jumps_ms / sizeof *jumps_ms - 1)];
        action->for_us = 0;
        break;
    case SIM_BACKUP:
        action->for_us = 0;
        break;
    case SIM_REQUEST:
    case SIM_SLOW_LINK:
    case SIM_SLOW_SITE:
        break;
    }
}

static void draw_faults(struct draft *draft)
{
    static const enum sim_action_kind usual[] = {
        SIM_PARTITION, SIM_PARTITION, SIM_PARTITION, SIM_LOSSY,      SIM_SLOW_LINK,
        SIM_SLOW_SITE, SIM_CRASH,     SIM_CRASH,     SIM_STORE_DOWN, SIM_CLOCK};
    struct sim_rng *rng = &draft->rng;
    uint64_t count = sim_rng_between(rng, 0, 12);
    bool loses = sim_rng_chance(rng, 20);
    for (uint64_t i = 0; i < count; i++) {
        enum sim_action_kind kind =
            usual[sim_rng_between(rng, 0, sizeof usual / sizeof *usual - 1)];
        bool lost = sim_rng_chance(rng, 25);
        bool restored = sim_rng_chance(rng, 60);
        if (loses && lost && !draft->schedule->no_loss) {
            draw_fault(draft, SIM_BACKUP);
            kind = restored ? SIM_RESTORE : SIM_DISK_LOST;
        }
        draw_fault(draft, kind);
    }
}

static void sort(struct sim_schedule *schedule)
{
    for (size_t i = 1; i < schedule->count; i++) {
        struct sim_action moved = schedule->actions[i];
        size_t at = i;
        for (; at > 0 && schedule->actions[at - 1].at_us > moved.at_us; at--) {
            schedule->actions[at] = schedule->actions[at - 1];
        }
        schedule->actions[at] = moved;
    }
    for (size_t i = 0; i < schedule->count; i++) {
        schedule->actions[i].number = (unsigned)i;
    }
}

/* The first request for a resource creates it, whatever was drawn. */
static void create_first(struct sim_schedule *schedule)
{
    bool seen[SIM_RESOURCES_MAX] = {false};
    for (size_t i = 0; i < schedule->count; i++) {
        struct sim_action *action = &schedule->actions[i];
        if (action->kind == SIM_REQUEST && !seen[action->request.resource]) {
            seen[action->request.resource] = true;
            action->request.creates = true;
        }
    }
}

void sim_schedule_draw(struct sim_schedule *schedule, uint64_t seed, bool commuting, bool no_loss)
{
    struct draft draft = {.rng = sim_rng_of(seed, 1), .schedule = schedule};
    struct sim_rng *rng = &draft.rng;
    *schedule = (struct sim_schedule){.seed = seed, .commuting = commuting, .no_loss = no_loss};
    schedule->site_count = (int)sim_rng_between(rng, 2, SIM_SITES_MAX);
    schedule->resource_count = (int)sim_rng_between(rng, 1, SIM_RESOURCES_MAX);
    schedule->end_us = sim_rng_between(rng, 3, 40) * 1000000;
    schedule->resources_cached = (unsigned)(sim_rng_chance(rng, 30) ? 16 : 64);
    schedule->pending_max = (unsigned)(sim_rng_chance(rng, 30) ? sim_rng_between(rng, 1, 4) : 256);
    schedule->operations_kept =
        (unsigned)(sim_rng_chance(rng, 30) ? sim_rng_between(rng, 0, 6) : 1000);
    draft.fails = sim_rng_chance(rng, 40);
    for (int i = 0; i < schedule->resource_count; i++) {
        uint64_t kind = sim_rng_between(rng, 0, SIM_APP_KINDS - 1);
        schedule->kinds[i] = commuting ? SIM_COUNTER : (enum sim_app_kind)kind;
        /* Concurrent creations that have no site in common would be two resources. */
        unsigned common = 1U << sim_rng_between(rng, 0, (uint64_t)schedule->site_count - 1);
        draft.scopes[i] = draw_scope(rng, schedule->site_count) | common;
        unsigned other_scope = draw_scope(rng, schedule->site_count) | common;
        draft.other_scopes[i] = sim_rng_chance(rng, 30) ? other_scope : 0;
        draft.matrices[i] = (unsigned)sim_rng_between(rng, 0, SIM_MATRIX_VARIANTS - 1);
    }
    uint64_t requests = sim_rng_between(rng, 5, sim_rng_chance(rng, 30) ? 60 : 20);
    for (unsigned i = 0; i < requests; i++) {
        draw_request(&draft, i);
    }
    draw_faults(&draft);
    sort(schedule);
    create_first(schedule);
}
