/* SPDX-License-Identifier: AGPL-3.0-only */
#include "sim/world.h"

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at_us < b->at_us || (a->at_us == b->at_us && a->order < b->order);
}

static void swap(struct sim_event *a, struct sim_event *b)
{
    struct sim_event held = *a;
    *a = *b;
    *b = held;
}

void sim_after(struct sim *sim, uint64_t delay_us, enum sim_event_kind kind, int site, uint64_t a)
{
    if (sim->event_count == sim->event_cap) {
        sim->event_cap = sim->event_cap == 0 ? 256 : sim->event_cap * 2;
        sim->heap = chp_realloc(sim->heap, sim->event_cap * sizeof *sim->heap);
    }
    size_t at = sim->event_count++;
    sim->heap[at] = (struct sim_event){.at_us = sim->now_us + delay_us,
                                       .order = sim->event_order++,
                                       .kind = kind,
                                       .site = site,
                                       .a = a};
    while (at > 0 && before(&sim->heap[at], &sim->heap[(at - 1) / 2])) {
        swap(&sim->heap[at], &sim->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
}

static struct sim_event next_event(struct sim *sim)
{
    CHP_ASSERT(sim->event_count > 0);
    struct sim_event first = sim->heap[0];
    sim->heap[0] = sim->heap[--sim->event_count];
    for (size_t at = 0;;) {
        size_t least = at;
        for (size_t child = 2 * at + 1; child <= 2 * at + 2; child++) {
            if (child < sim->event_count && before(&sim->heap[child], &sim->heap[least])) {
                least = child;
            }
        }
        if (least == at) {
            return first;
        }
        swap(&sim->heap[at], &sim->heap[least]);
        at = least;
    }
}

void sim_trace(struct sim *sim, const struct sim_site *site, const char *format, ...)
{
    if (sim->trace == NULL) {
        return;
    }
    char text[1024];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    chp_buf_printf(sim->trace, "%12.6f  %s  %s\n", (double)sim->now_us / 1e6,
                   site == NULL ? "-" : site->name, text);
}

void sim_fail(struct sim *sim, const char *format, ...)
{
    char text[2048];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    sim_trace(sim, NULL, "FAILURE: %s", text);
    if (sim->failure.len == 0) {
        chp_buf_add_text(&sim->failure, text);
    }
}

static struct chp_bytes id_key(const struct chp_uuid *id)
{
    return chp_bytes(id->bytes, sizeof id->bytes);
}

struct sim_operation *sim_operation_of(struct sim *sim, const struct chp_uuid *id)
{
    return chp_map_get(sim->by_id, id_key(id));
}

struct sim_operation *sim_operation_add(struct sim *sim, const struct chp_uuid *id, int action)
{
    CHP_ASSERT(sim->operation_count < SIM_OPERATIONS_MAX);
    struct sim_operation *operation = &sim->operations[sim->operation_count++];
    operation->id = *id;
    operation->action = action;
    operation->resource = -1;
    operation->origin = -1;
    if (action >= 0) {
        (void)snprintf(operation->label, sizeof operation->label, "op#%u",
                       sim->schedule->actions[action].number);
    } else {
        (void)snprintf(operation->label, sizeof operation->label, "own#%zu", sim->operation_count);
    }
    (void)chp_map_put(sim->by_id, id_key(&operation->id), operation);
    return operation;
}

const char *sim_label(struct sim *sim, const struct chp_uuid *id)
{
    const struct sim_operation *operation = sim_operation_of(sim, id);
    return operation == NULL ? "op?" : operation->label;
}

int sim_resource_of(const struct sim *sim, const char *id)
{
    int resource = id[0] == 'r' ? id[1] - '0' : -1;
    return resource >= 0 && resource < sim->schedule->resource_count ? resource : -1;
}

int sim_site_of(const struct sim *sim, const char *name)
{
    for (int i = 0; i < sim->schedule->site_count; i++) {
        if (strcmp(sim_site_name(i), name) == 0) {
            return i;
        }
    }
    return -1;
}

static bool in_mask(const struct sim_action *action, int site)
{
    return (action->mask >> site & 1) != 0;
}

/* Begins (change 1) or ends (change -1, as unsigned) a fault of links. */
static void change_links(struct sim *sim, const struct sim_action *action, unsigned change)
{
    int count = sim->schedule->site_count;
    for (int from = 0; from < count; from++) {
        if (action->kind == SIM_LOSSY && in_mask(action, from)) {
            sim->lossy[from] += change * action->percent;
        }
        if (action->kind == SIM_SLOW_LINK && in_mask(action, from)) {
            sim->slow_link[from] += change;
        }
        for (int to = 0; action->kind == SIM_PARTITION && to < count; to++) {
            bool out = in_mask(action, from) && !in_mask(action, to);
            bool in = !in_mask(action, from) && in_mask(action, to);
            if ((out && action->direction != SIM_IN_ONLY) ||
                (in && action->direction != SIM_OUT_ONLY)) {
                sim->cut[from][to] += change;
            }
        }
    }
}

static void act(struct sim *sim, size_t index)
{
    const struct sim_action *action = &sim->schedule->actions[index];
    struct sim_site *site = &sim->sites[action->site];
    struct chp_buf text = {0};
    sim_action_print(action, &text);
    sim_trace(sim, NULL, "%s", chp_buf_text(&text));
    chp_buf_deinit(&text);
    sim->totals.faults[action->kind]++;
    switch (action->kind) {
    case SIM_REQUEST:
        sim_client_offer(sim, index);
        break;
    case SIM_PARTITION:
    case SIM_LOSSY:
    case SIM_SLOW_LINK:
        change_links(sim, action, 1);
        break;
    case SIM_SLOW_SITE:
        site->slow++;
        break;
    case SIM_CRASH:
        if (action->crash.at_once) {
            sim_site_crash(site, action);
        } else if (!site->down && site->armed == NULL) {
            site->armed = action;
            sim_after(sim, 1500000, SIM_EVENT_CRASH, action->site, site->life);
        }
        return; /* its restart is an event of its own */
    case SIM_STORE_DOWN:
        sim_site_store(site, false, action->applied);
        break;
    case SIM_BACKUP:
        sim_site_backup(site);
        break;
    case SIM_DISK_LOST:
    case SIM_RESTORE:
        sim_site_crash(site, action);
        return;
    case SIM_CLOCK:
        site->clock_ms = action->clock_ms;
        break;
    }
    if (action->for_us != 0) {
        sim_after(sim, action->for_us, SIM_EVENT_ACTION_END, 0, index);
    }
}

static void act_end(struct sim *sim, size_t index)
{
    const struct sim_action *action = &sim->schedule->actions[index];
    struct sim_site *site = &sim->sites[action->site];
    sim_trace(sim, NULL, "#%u %s is over", action->number, sim_action_name(action->kind));
    if (action->kind == SIM_SLOW_SITE) {
        site->slow--;
    } else if (action->kind == SIM_STORE_DOWN) {
        sim_site_store(site, true, false);
    } else {
        change_links(sim, action, UINT32_MAX);
        sim_net_resume(sim);
    }
}

static void dispatch(struct sim *sim, const struct sim_event *event)
{
    struct sim_site *site = &sim->sites[event->site];
    switch (event->kind) {
    case SIM_EVENT_ACTION:
        act(sim, event->a);
        break;
    case SIM_EVENT_ACTION_END:
        act_end(sim, event->a);
        break;
    case SIM_EVENT_OFFER:
        sim_client_offer(sim, event->a);
        break;
    case SIM_EVENT_TICK:
        sim_site_tick(site);
        break;
    case SIM_EVENT_COMMIT:
        sim_site_commit(site, event->a);
        break;
    case SIM_EVENT_DELIVER:
        sim_net_arrive(sim, event->site, event->a);
        break;
    case SIM_EVENT_EFFECT:
        sim_driver_effect(site, event->a);
        break;
    case SIM_EVENT_RUN_END:
        sim_driver_end(site, event->a);
        break;
    case SIM_EVENT_RESTART:
        if (site->life == event->a) {
            sim_site_restart(site);
        }
        break;
    case SIM_EVENT_CRASH:
        if (site->life == event->a && site->armed != NULL) {
            sim_site_crash(site, site->armed);
        }
        break;
    case SIM_EVENT_RESOLVE:
        sim_operator_look(site);
        break;
    }
}

/* Clocks are right again and nothing is armed any more. */
static void calm_down(struct sim *sim)
{
    sim->calm = true;
    for (int i = 0; i < sim->schedule->site_count; i++) {
        sim->sites[i].armed = NULL;
        sim->sites[i].clock_ms = 0;
    }
    sim_trace(sim, NULL, "no faults any more");
}

/* Whether nothing but heartbeats goes on; else *what does. */
static bool at_rest(const struct sim *sim, struct chp_buf *what)
{
    const char *reason = sim->now_us - sim->busy_us <= SIM_QUIET_US
                             ? "there is always something new"
                         : !sim_net_idle(sim)   ? "messages wait"
                         : sim_client_busy(sim) ? "clients wait"
                                                : NULL;
    for (int i = 0; reason == NULL && i < sim->schedule->site_count; i++) {
        const struct sim_site *site = &sim->sites[i];
        reason = !site->started            ? "a site has not started"
                 : sim_driver_busy(site)   ? "commands run"
                 : site->in_flight != NULL ? "a batch is in flight"
                                           : NULL;
    }
    if (reason != NULL) {
        chp_buf_clear(what);
        chp_buf_printf(what, "the sites did not come to rest: %s", reason);
    }
    return reason == NULL;
}

/* Until what must hold holds, or it has been given time enough. */
static void play(struct sim *sim)
{
    uint64_t end_us = sim->schedule->end_us + 25000000; /* the longest fault */
    uint64_t check_us = 0;
    struct chp_buf why = {0};
    while (sim->failure.len == 0) {
        struct sim_event event = next_event(sim);
        sim->now_us = event.at_us;
        if (!sim->calm && sim->now_us > end_us) {
            calm_down(sim);
            check_us = sim->now_us + 1000000;
        }
        if (sim->calm && sim->now_us >= check_us && at_rest(sim, &why)) {
            chp_buf_clear(&why);
            if (sim_check(sim, &why)) {
                break;
            }
            check_us = sim->now_us + 5000000;
        }
        if (sim->now_us > end_us + SIM_SETTLE_SECONDS * 1000000ULL) {
            sim_fail(sim, "after %d s without faults: %s", SIM_SETTLE_SECONDS, chp_buf_text(&why));
        }
        dispatch(sim, &event);
        sim_site_turn(&sim->sites[event.site]);
    }
    chp_buf_deinit(&why);
}

static void sim_init(struct sim *sim, const struct sim_schedule *schedule, struct chp_buf *trace)
{
    *sim = (struct sim){.schedule = schedule, .now_us = 1000000, .trace = trace};
    sim->by_id = chp_map_new(1);
    sim_net_init(sim);
    for (int i = 0; i < schedule->site_count; i++) {
        sim_site_init(sim, i);
        sim_after(sim, (uint64_t)i * 170000, SIM_EVENT_TICK, i, 0);
    }
    for (size_t i = 0; i < schedule->count; i++) {
        /* A moment for the sites to hear of each other. */
        sim_after(sim, 2000000 + schedule->actions[i].at_us, SIM_EVENT_ACTION,
                  schedule->actions[i].site, i);
    }
}

static void sim_deinit(struct sim *sim)
{
    for (int i = 0; i < sim->schedule->site_count; i++) {
        sim_site_deinit(&sim->sites[i]);
    }
    sim_net_deinit(sim);
    chp_map_free(sim->by_id);
    chp_arena_deinit(&sim->arena);
    chp_buf_deinit(&sim->failure);
    free(sim->heap);
}

static void add_totals(struct sim_totals *to, const struct sim_totals *from)
{
    _Static_assert(sizeof *to % sizeof(uint64_t) == 0, "numbers only");
    uint64_t *sum = (uint64_t *)(void *)to;
    const uint64_t *more = (const uint64_t *)(const void *)from;
    for (size_t i = 0; i < sizeof *to / sizeof *sum; i++) {
        sum[i] += more[i];
    }
}

bool sim_run(const struct sim_schedule *schedule, struct sim_totals *totals, struct chp_buf *trace,
             struct chp_buf *failure)
{
    struct sim *sim = chp_alloc(sizeof *sim);
    sim_init(sim, schedule, trace);
    play(sim);
    bool held = sim->failure.len == 0;
    chp_buf_add_text(failure, chp_buf_text(&sim->failure));
    sim->totals.virtual_us = sim->now_us;
    add_totals(totals, &sim->totals);
    sim_deinit(sim);
    free(sim);
    return held;
}
