/* SPDX-License-Identifier: AGPL-3.0-only */
/* What the daemon does around an engine (daemon/turn.c), and what can happen to it. */
#include "sim/world.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

static const uint64_t wall_epoch_ms = 1700000000000;

struct chp_now sim_site_now(const struct sim_site *site)
{
    uint64_t now_us = site->sim->now_us;
    return (struct chp_now){.wall_ms = wall_epoch_ms + now_us / 1000 + (uint64_t)site->clock_ms,
                            .mono_us = now_us};
}

static struct chp_effects *effects_new(void)
{
    return chp_alloc(sizeof(struct chp_effects));
}

static void effects_free(struct chp_effects *effects)
{
    if (effects != NULL) {
        chp_effects_deinit(effects);
        free(effects);
    }
}

void sim_site_step(struct sim_site *site, struct chp_event *event)
{
    if (site->engine != NULL &&
        (site->started || event->kind == CHP_EVENT_START || event->kind == CHP_EVENT_LOADED)) {
        event->now = sim_site_now(site);
        chp_engine_step(site->engine, event, site->open);
    }
}

static void start_engine(struct sim_site *site)
{
    CHP_ASSERT(site->engine == NULL);
    site->engine = chp_engine_new(&site->config);
    site->started = false;
    uint64_t proposed = sim_site_now(site).wall_ms;
    if (site->serial < site->known.serial) {
        site->serial = site->known.serial;
    }
    if (site->regressed != NULL && proposed <= site->regressed_incarnation) {
        proposed = site->regressed_incarnation + 1;
    }
    struct chp_event event = {.kind = CHP_EVENT_START,
                              .start = {.incarnation_proposed = proposed,
                                        .high_water = &site->known,
                                        .regressed = site->regressed}};
    sim_site_step(site, &event);
}

static void drop_engine(struct sim_site *site)
{
    chp_engine_free(site->engine);
    site->engine = NULL;
    site->started = false;
    site->event_gap = true;
    effects_free(site->open);
    site->open = effects_new();
    sim_sender_reset(site);
}

static void on_event(struct sim_site *site, uint64_t number)
{
    if (number != site->event_last + 1 && !(site->event_gap && number > site->event_last)) {
        sim_fail(site->sim, "at %s event %llu follows %llu", site->name, (unsigned long long)number,
                 (unsigned long long)site->event_last);
    }
    site->event_gap = false;
    site->event_last = number;
}

static void on_dead(struct sim_site *site, const struct chp_after *after)
{
    site->sim->totals.dead++;
    sim_trace(site->sim, site, "dead-lettered: %s", after->settle.reason);
    for (int i = 0; i < site->sim->schedule->site_count; i++) {
        if (site->sim->sites[i].database_lost) {
            return; /* dots may have been given twice */
        }
    }
    sim_fail(site->sim, "%s dead-lettered what another site sent: %s", site->name,
             after->settle.reason);
}

static void on_control(struct sim_site *site, const struct chp_after *after)
{
    int to = sim_site_of(site->sim, after->send.site);
    CHP_ASSERT(to >= 0);
    struct sim_message *message = sim_message_new(site, to, after->send.key);
    sim_message_add(message, after->send.item);
    sim_net_send(site->sim, message);
}

static void on_stream_started(struct sim_site *site, const struct chp_after *after)
{
    if (after->stream.site != NULL) {
        sim_sender_started(site, after);
        return;
    }
    site->started = true;
}

static void act(struct sim_site *site, const struct chp_after *after)
{
    struct sim *sim = site->sim;
    switch (after->kind) {
    case CHP_AFTER_REPLY:
        sim_client_reply(site, after->reply.ticket, &after->reply.reply);
        break;
    case CHP_AFTER_RESOLVED:
        sim_trace(sim, site, "resolved: %s",
                  after->resolved.code == 0 ? "yes" : after->resolved.error);
        break;
    case CHP_AFTER_SETTLE:
        sim_net_settle(site, after->settle.delivery);
        break;
    case CHP_AFTER_DEAD:
        on_dead(site, after);
        break;
    case CHP_AFTER_SEND:
        sim_sender_item(site, after);
        break;
    case CHP_AFTER_CONTROL:
        on_control(site, after);
        break;
    case CHP_AFTER_RUN:
        sim_driver_start(site, after);
        break;
    case CHP_AFTER_FORGET_RUN:
        sim_driver_forget(site, &after->forget_run.operation, after->forget_run.run);
        break;
    case CHP_AFTER_EVENT:
        on_event(site, after->event.number);
        break;
    case CHP_AFTER_MARK:
        sim_sender_mark(site, after);
        break;
    case CHP_AFTER_RESEND:
        sim_sender_resend(site, after);
        break;
    case CHP_AFTER_STARTED:
        on_stream_started(site, after);
        break;
    case CHP_AFTER_PEER:
        sim_trace(sim, site, "%s is %s", after->peer.site, after->peer.up ? "up" : "down");
        break;
    case CHP_AFTER_REGRESSED:
        sim_trace(sim, site, "regressed: %s", after->regressed.reason);
        site->regressed = after->regressed.reason;
        site->regressed_incarnation = after->regressed.incarnation;
        break;
    case CHP_AFTER_FETCH: /* no operation has blobs, nobody asked by AMQP */
    case CHP_AFTER_TELL:
        sim_fail(sim, "%s wants what there is no reason for (%d)", site->name, (int)after->kind);
        break;
    case CHP_AFTER_NOTICE:
        break;
    }
}

static void raise_high_water(struct sim_site *site, const struct chp_batch *batch)
{
    struct chp_peer_view view;
    chp_engine_committed(site->engine, batch);
    if (batch->write_count == 0) {
        return;
    }
    site->known.found = true;
    site->known.event_last = chp_engine_event_last(site->engine);
    site->known.incarnation = chp_engine_incarnation(site->engine);
    site->known.serial = site->serial;
    site->known.database = "1/1"; /* as chp_mem_store_new */
    site->known.taken = site->taken;
    for (size_t i = 0; chp_engine_peer(site->engine, i, &view); i++) {
        site->taken[i] = (struct chp_taken){view.site, view.taken_incarnation, view.taken};
        site->known.taken_count = i + 1;
    }
}

/* The effects in their order; whether it got to their end. */
static bool act_all(struct sim_site *site, struct chp_effects *effects)
{
    bool was_started = site->started;
    for (size_t i = 0; i < effects->after_count; i++) {
        if (site->armed != NULL && site->armed->crash.place == i + 2) {
            site->crashes = true;
            return false;
        }
        act(site, &effects->after[i]);
    }
    for (size_t i = 0; i < effects->batch.load_count; i++) {
        const struct chp_load *load = &effects->batch.loads[i];
        if (load->kind == CHP_LOAD_OUTBOUND) {
            sim_sender_loaded(site, load);
        } else {
            struct chp_event event = {.kind = CHP_EVENT_LOADED, .loaded = load};
            sim_site_step(site, &event);
        }
    }
    if (site->regressed != NULL && was_started) {
        drop_engine(site);
        sim_client_lost(site, false);
        start_engine(site);
        return true;
    }
    if (!was_started && site->started) {
        site->regressed = NULL;
        sim_trace(site->sim, site, "started, incarnation %llu",
                  (unsigned long long)chp_engine_incarnation(site->engine));
        sim_net_offer_hand(site);
        sim_client_offer_all(site);
    }
    return true;
}

/* What the database holds now. */
static void note_writes(struct sim_site *site, const struct chp_batch *batch)
{
    struct sim *sim = site->sim;
    for (size_t i = 0; i < batch->write_count; i++) {
        const struct chp_write *write = &batch->writes[i];
        if (write->kind == CHP_WRITE_OPERATION) {
            const struct chp_operation *written = write->operation.operation;
            struct sim_operation *operation = sim_operation_of(sim, &written->id);
            if (operation == NULL) {
                operation = sim_operation_add(sim, &written->id, -1);
            }
            operation->resource = sim_resource_of(sim, written->resource);
            operation->origin = sim_site_of(sim, written->dot.origin);
            operation->held[site->index] = true;
            if (operation->item.len == 0) {
                operation->item = chp_arena_bytes(&sim->arena, write->operation.item);
            }
        }
        if (write->kind == CHP_WRITE_REDOT &&
            sim_operation_of(sim, &write->redot.operation) != NULL) {
            sim_operation_of(sim, &write->redot.operation)->item =
                chp_arena_bytes(&sim->arena, write->redot.item);
        }
        if (write->kind == CHP_WRITE_OPERATION || write->kind == CHP_WRITE_EXECUTION) {
            sim->busy_us = sim->now_us;
        }
        if (write->kind == CHP_WRITE_EXECUTION && sim->trace != NULL) {
            const struct chp_ack *ack = &write->execution.ack;
            sim_trace(sim, site, "%s at %s: %s, run %u%s%s", sim_label(sim, &ack->operation),
                      ack->site, chp_state_name(ack->state), ack->run,
                      ack->reason == NULL ? "" : ": ", ack->reason == NULL ? "" : ack->reason);
        }
    }
}

static void on_done(struct chp_batch *batch, int code, const struct chp_error *error)
{
    struct sim_site *site = batch->user;
    struct chp_effects *effects = site->in_flight;
    CHP_ASSERT(effects != NULL && batch == &effects->batch);
    site->in_flight = NULL;
    if (code == 0) {
        site->sim->totals.commits++;
        note_writes(site, batch);
        if (site->armed != NULL && site->armed->crash.place == 1) {
            site->crashes = true;
        } else {
            raise_high_water(site, batch);
            (void)act_all(site, effects);
        }
    } else if (code != CHP_EUNAVAILABLE) {
        sim_fail(site->sim, "the store of %s refused a batch: %s", site->name, error->text);
    }
    effects_free(effects);
}

static void submit(struct sim_site *site)
{
    struct chp_effects *effects = site->open;
    struct sim_rng *rng = &site->rng;
    site->open = effects_new();
    site->in_flight = effects;
    if (effects->batch.write_count > 0) {
        uint64_t found = chp_engine_serial(site->engine);
        site->serial = (site->serial > found ? site->serial : found) + 1;
        chp_batch_write(&effects->batch, CHP_WRITE_SERIAL)->serial = site->serial;
    }
    effects->batch.on_done = on_done;
    effects->batch.user = site;
    chp_store_submit(site->store, &effects->batch);
    uint64_t delay_us = sim_rng_between(rng, 200, sim_rng_chance(rng, 10) ? 30000 : 3000);
    sim_after(site->sim, site->slow > 0 && !site->sim->calm ? delay_us * 50 : delay_us,
              SIM_EVENT_COMMIT, site->index, site->life);
}

void sim_site_turn(struct sim_site *site)
{
    while (site->engine != NULL && site->in_flight == NULL && !site->store_down) {
        if (!chp_batch_empty(&site->open->batch)) {
            submit(site);
            break;
        }
        if (site->open->after_count == 0) {
            break;
        }
        struct chp_effects *effects = site->open;
        site->open = effects_new();
        (void)act_all(site, effects);
        effects_free(effects);
        if (site->crashes) {
            sim_site_crash(site, site->armed);
            return;
        }
        sim_sender_pump(site);
    }
}

void sim_site_commit(struct sim_site *site, uint64_t life)
{
    if (site->life != life || site->in_flight == NULL) {
        return;
    }
    if (site->armed != NULL && site->armed->crash.place == 0) {
        sim_site_crash(site, site->armed);
        return;
    }
    while (chp_mem_store_run(site->store)) {
    }
    if (site->crashes) {
        sim_site_crash(site, site->armed);
        return;
    }
    sim_sender_pump(site);
}

static void beat(struct sim_site *site)
{
    struct chp_now now = sim_site_now(site);
    for (int to = 0; to < site->sim->schedule->site_count; to++) {
        if (to != site->index) {
            struct sim_message *message = sim_message_new(site, to, CHP_KEY_BEAT);
            chp_engine_beat(site->engine, sim_site_name(to), &now, &message->beat);
            sim_net_send(site->sim, message);
        }
    }
}

void sim_site_tick(struct sim_site *site)
{
    struct sim *sim = site->sim;
    struct chp_doubt_view doubts[1];
    sim_after(sim, 1000000, SIM_EVENT_TICK, site->index, 0);
    if (!site->started) {
        return;
    }
    struct chp_event event = {.kind = CHP_EVENT_TICK};
    sim_site_step(site, &event);
    if (site->started) {
        beat(site);
        sim_sender_tick(site);
        if (!site->looking && chp_engine_in_doubt(site->engine, doubts, 1) > 0) {
            site->looking = true;
            sim_after(sim, sim_rng_between(&site->rng, 100000, 4000000), SIM_EVENT_RESOLVE,
                      site->index, 0);
        }
    }
}

/* Nothing is in flight any more; a batch that was stands, or not. */
static void end_store(struct sim_site *site, bool applied)
{
    if (site->in_flight != NULL && applied) {
        note_writes(site, &site->in_flight->batch);
    }
    chp_mem_store_set_up(site->store, false, applied);
    while (chp_mem_store_run(site->store)) {
    }
    CHP_ASSERT(site->in_flight == NULL);
}

static void begin_store(struct sim_site *site)
{
    chp_mem_store_set_up(site->store, true, false);
    while (chp_mem_store_run(site->store)) {
    }
}

void sim_site_crash(struct sim_site *site, const struct sim_action *action)
{
    struct sim *sim = site->sim;
    bool replaces = action->kind != SIM_CRASH;
    bool machine = replaces || action->crash.machine;
    if (site->down) {
        return;
    }
    site->armed = NULL;
    site->crashes = false;
    site->life++;
    sim_trace(sim, site, "stops");
    if (!site->store_down) {
        end_store(site, replaces || (action->crash.at_once && action->crash.applied));
        drop_engine(site);
        begin_store(site);
    } else {
        drop_engine(site);
    }
    if (site->store_down) {
        begin_store(site);
        site->store_down = false;
    }
    site->down = true;
    site->why = action;
    sim_net_hand_back(site, !replaces && action->crash.loses_hand);
    sim_client_lost(site, true);
    if (machine) {
        sim_driver_lose(site);
    }
    sim_after(sim, action->for_us, SIM_EVENT_RESTART, site->index, site->life);
}

void sim_site_restart(struct sim_site *site)
{
    const struct sim_action *why = site->why;
    site->down = false;
    sim_trace(site->sim, site, "starts");
    if (why->kind == SIM_DISK_LOST || (why->kind == SIM_RESTORE && site->backup != NULL)) {
        sim_site_replace(site, why->kind == SIM_RESTORE, why->keeps_file);
    }
    start_engine(site);
    sim_net_resume(site->sim);
}

void sim_site_store(struct sim_site *site, bool up, bool applied)
{
    if (site->down || site->store_down == !up) {
        return;
    }
    sim_trace(site->sim, site, up ? "the database is back" : "the database is away");
    if (up) {
        site->store_down = false;
        begin_store(site);
        start_engine(site);
        return;
    }
    site->store_down = true;
    site->life++;
    end_store(site, applied);
    drop_engine(site);
    sim_client_lost(site, false);
}

void sim_site_backup(struct sim_site *site)
{
    chp_store_free(site->backup);
    site->backup = chp_mem_store_snapshot(site->store);
    for (size_t i = 0; i < site->sim->operation_count; i++) {
        struct sim_operation *operation = &site->sim->operations[i];
        operation->backed[site->index] = operation->held[site->index];
    }
}

static void on_store_up(void *user)
{
    (void)user;
}

static void on_store_down(void *user, const struct chp_error *error)
{
    (void)user;
    (void)error;
}

static struct chp_store *store_new(void)
{
    struct chp_store_callbacks none = {.on_up = on_store_up, .on_down = on_store_down};
    return chp_mem_store_new(&none);
}

/* Operations that no database has any more may be gone for good. */
static void note_lost(struct sim_site *site, bool backup)
{
    struct sim *sim = site->sim;
    for (size_t i = 0; i < sim->operation_count; i++) {
        struct sim_operation *operation = &sim->operations[i];
        bool anywhere = false;
        operation->held[site->index] = backup && operation->backed[site->index];
        for (int j = 0; j < sim->schedule->site_count; j++) {
            anywhere |= operation->held[j];
        }
        operation->may_be_lost |= !anywhere;
    }
}

void sim_site_replace(struct sim_site *site, bool backup, bool keeps_file)
{
    CHP_ASSERT(site->engine == NULL && site->in_flight == NULL);
    sim_trace(site->sim, site, "its database is %s", backup ? "its backup" : "empty");
    chp_store_free(site->store);
    site->store = backup ? site->backup : store_new();
    if (backup) {
        site->backup = chp_mem_store_snapshot(site->store); /* it may come back once more */
    }
    site->database_lost = true;
    for (size_t i = 0; i < site->run_count; i++) {
        site->runs[i].old = true;
    }
    site->event_gap = true;
    note_lost(site, backup);
    if (!keeps_file) {
        site->known = (struct chp_high_water){0};
        site->serial = 0;
        site->event_last = 0;
    }
    while (chp_mem_store_run(site->store)) {
    }
}

static void ask_on_done(struct chp_batch *batch, int code, const struct chp_error *error)
{
    (void)batch;
    (void)error;
    CHP_ASSERT(code == 0);
}

void sim_site_ask(struct sim_site *site, struct chp_batch *batch)
{
    CHP_ASSERT(site->in_flight == NULL);
    batch->on_done = ask_on_done;
    chp_store_submit(site->store, batch);
    while (chp_mem_store_run(site->store)) {
    }
}

void sim_site_init(struct sim *sim, int index)
{
    const struct sim_schedule *schedule = sim->schedule;
    struct sim_site *site = &sim->sites[index];
    site->sim = sim;
    site->index = index;
    site->name = sim_site_name(index);
    site->rng = sim_rng_of(schedule->seed, 100 + (uint64_t)index);
    for (int i = 0; i < schedule->site_count; i++) {
        if (i != index) {
            site->peers[site->config.peer_count++].site = sim_site_name(i);
        }
        for (int key = 0; key < 2; key++) {
            chp_list_init(&site->out[i][key].ready);
        }
    }
    site->config.site = site->name;
    site->config.peers = site->peers;
    site->config.down_after_ms = 5000;
    site->config.max_skew_ms = 60000;
    site->config.events_kept_ms = 3ULL * 24 * 3600 * 1000;
    site->config.resources_max = schedule->resources_cached;
    site->config.pending_max = schedule->pending_max;
    site->config.operations_kept = schedule->operations_kept;
    site->config.map_seed = schedule->seed;
    for (int i = 0; i < schedule->resource_count; i++) {
        site->apps[i].kind = schedule->kinds[i];
    }
    chp_list_init(&site->hand);
    site->open = effects_new();
    site->store = store_new();
    while (chp_mem_store_run(site->store)) {
    }
    start_engine(site);
    sim_site_turn(site);
}

void sim_site_deinit(struct sim_site *site)
{
    chp_engine_free(site->engine);
    chp_store_free(site->store);
    chp_store_free(site->backup);
    effects_free(site->open);
    effects_free(site->in_flight);
    sim_net_hand_back(site, true);
    sim_sender_reset(site);
    free(site->runs);
}
