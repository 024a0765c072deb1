/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * The turn of the loop. Adapters' callbacks build an event and step the engine, which only adds to
 * the open effects; at the end of the turn they are submitted if nothing is in flight. When a batch
 * has committed, what follows from it happens. A batch that failed takes the engine with it
 * (agent/doc/architecture.md).
 */
#include "daemon/daemon.h"

#include "base/boundary.h"
#include "daemon/high_water.h"
#include "store/pg_store.h"

#include <stdlib.h>
#include <string.h>

static void submit(struct chp_agent *agent);
static void drop_engine(struct chp_agent *agent);
static void start_engine(struct chp_agent *agent);

struct chp_now turn__now(void)
{
    return (struct chp_now){.wall_ms = chp_clock_wall_ms(), .mono_us = chp_clock_mono_us()};
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

void turn__arm(struct chp_agent *agent)
{
    event_active(agent->turn, EV_TIMEOUT, 0);
}

void turn__step(struct chp_agent *agent, struct chp_event *event)
{
    if (agent->engine == NULL) {
        return;
    }
    event->now = turn__now();
    chp_engine_step(agent->engine, event, agent->open);
    turn__arm(agent);
}

static void act_stream(struct chp_agent *agent, const struct chp_after *after)
{
    if (after->kind == CHP_AFTER_MARK) {
        sender__mark(agent->sender, after->stream.site, after->stream.key, after->stream.mark);
    } else if (after->kind == CHP_AFTER_RESEND) {
        sender__resend(agent->sender, after->stream.site, after->stream.key, after->stream.mark);
    } else if (after->stream.site != NULL) {
        sender__started(agent->sender, after->stream.site, after->stream.key, after->stream.mark,
                        after->stream.last);
    } else {
        publisher__started(agent->publisher, after->stream.mark, after->stream.last);
        replies__started(agent->replies, after->stream.reply_last);
        agent->engine_started = true;
        watchers__notice(agent->watchers, NULL);
    }
}

static void act_site(struct chp_agent *agent, const struct chp_after *after)
{
    if (after->kind == CHP_AFTER_REGRESSED) {
        chp_log_error("the database went back in time", CHP_S("reason", after->regressed.reason));
        agent->regressed = after->regressed.reason; /* a constant of the engine */
        agent->regressed_incarnation = after->regressed.incarnation;
    } else if (after->peer.up) {
        chp_log_info("site is up", CHP_S("peer", after->peer.site));
    } else {
        chp_log_warn("site is down", CHP_S("peer", after->peer.site));
    }
}

static void act(struct chp_agent *agent, const struct chp_effects *effects,
                const struct chp_after *after)
{
    switch (after->kind) {
    case CHP_AFTER_REPLY:
        chp_boundary("agent.reply");
        submit__reply(agent, after->reply.ticket, &after->reply.reply);
        break;
    case CHP_AFTER_RESOLVED:
        resolves__done(agent->resolves, after->resolved.ticket, after->resolved.code,
                       after->resolved.error);
        break;
    case CHP_AFTER_SETTLE:
        chp_boundary("agent.settle");
        inbound__settle(agent->inbound, after->settle.delivery);
        break;
    case CHP_AFTER_DEAD:
        chp_boundary("agent.dead");
        inbound__dead_item(agent->inbound, after->settle.delivery, after->settle.reason,
                           after->settle.bytes);
        break;
    case CHP_AFTER_SEND:
        chp_boundary("agent.send");
        sender__item(agent->sender, after->send.site, after->send.key, after->send.number,
                     after->send.item);
        break;
    case CHP_AFTER_CONTROL:
        chp_boundary("agent.control");
        (void)sender__control_bytes(agent, after->send.site, after->send.key, after->send.item,
                                    30000);
        break;
    case CHP_AFTER_FETCH:
        chp_boundary("agent.fetch");
        executor__fetch(agent->executor, after->run.item);
        break;
    case CHP_AFTER_RUN:
        chp_boundary("agent.run");
        executor__run(agent->executor, after->run.item, after->run.run, after->run.undo,
                      after->run.resume);
        break;
    case CHP_AFTER_FORGET_RUN:
        chp_boundary("agent.forget");
        executor__forget(agent->executor, &after->forget_run.operation, after->forget_run.run,
                         after->forget_run.driver);
        break;
    case CHP_AFTER_NOTICE:
        chp_boundary("agent.notice");
        agent->metrics.operations_completed_total += after->notice.notice.completed;
        watchers__notice(agent->watchers, &after->notice.notice);
        break;
    case CHP_AFTER_TELL:
        chp_boundary("agent.tell");
        replies__add(agent->replies, after->tell);
        break;
    case CHP_AFTER_EVENT:
        chp_boundary("agent.event");
        publisher__event(agent->publisher, &effects->batch.writes[after->event.write]);
        break;
    case CHP_AFTER_MARK:
    case CHP_AFTER_RESEND:
    case CHP_AFTER_STARTED:
        chp_boundary("agent.stream");
        act_stream(agent, after);
        break;
    case CHP_AFTER_PEER:
    case CHP_AFTER_REGRESSED:
        act_site(agent, after);
        break;
    }
}

static void take_load(struct chp_agent *agent, const struct chp_load *load)
{
    if (load->kind == CHP_LOAD_OUTBOUND) {
        sender__loaded(agent->sender, load);
    } else if (load->kind == CHP_LOAD_EVENTS) {
        publisher__loaded(agent->publisher, load);
    } else if (load->kind == CHP_LOAD_REPLIES) {
        replies__loaded(agent->replies, load);
    } else if (load->kind == CHP_LOAD_UNDECODED) {
        inbound__stored(agent->inbound, load);
    } else if (!sweep__loaded(agent->sweep, load) && !histories__loaded(agent->histories, load)) {
        struct chp_event event = {.kind = CHP_EVENT_LOADED, .loaded = load};
        turn__step(agent, &event);
    }
}

/* Everything that follows from effects, in order: what is told to others, then what was read. */
static void act_all(struct chp_agent *agent, struct chp_effects *effects)
{
    bool was_started = agent->engine_started;
    chp_boundary("agent.committed");
    for (size_t i = 0; i < effects->batch.write_count; i++) {
        const struct chp_write *write = &effects->batch.writes[i];
        agent->metrics.executions_unverified_total +=
            write->kind == CHP_WRITE_EXECUTION && write->execution.ack.unverified &&
            strcmp(write->execution.ack.site, agent->config->agent.site) == 0;
    }
    for (size_t i = 0; i < effects->after_count; i++) {
        act(agent, effects, &effects->after[i]);
    }
    chp_boundary("agent.acted");
    for (size_t i = 0; i < effects->batch.load_count; i++) {
        take_load(agent, &effects->batch.loads[i]);
    }
    if (agent->regressed != NULL && was_started) {
        drop_engine(agent);
        start_engine(agent);
        return;
    }
    if (!was_started && agent->engine_started) {
        agent->regressed = NULL;
        chp_log_info("engine started", CHP_I("incarnation", chp_engine_incarnation(agent->engine)));
        inbound__offer_all(agent->inbound);
        submit__offer_all(agent);
        (void)event_del(agent->away);
        if (agent->broker != NULL) {
            chp_broker_pause(agent->broker, false);
        }
    }
    sender__pump(agent->sender);
    publisher__pump(agent->publisher);
    replies__pump(agent->replies);
    chp_boundary("agent.pumped");
}

/* Behind the commit and before anything of it is acted upon: design section 4, incarnations. */
static void raise_high_water(struct chp_agent *agent, const struct chp_batch *batch)
{
    chp_engine_committed(agent->engine, batch);
    if (batch->write_count == 0) {
        return;
    }
    struct chp_high_water now = {.incarnation = chp_engine_incarnation(agent->engine),
                                 .serial = agent->serial,
                                 .event_last = chp_engine_event_last(agent->engine),
                                 .database = chp_engine_database(agent->engine)};
    high_water__advance(agent->high_water, &now);
    struct chp_peer_view view;
    for (size_t i = 0; chp_engine_peer(agent->engine, i, &view); i++) {
        high_water__taken(agent->high_water, i, view.taken_incarnation, view.taken);
    }
}

/* The store has not come back: what was taken from the broker goes back to its queues, and nothing
 * is taken until an engine has started. Not at once, since most outages are short and giving back
 * and delivering again costs the broker more than waiting; not never, since a broker closes the
 * channel of who does not ack for 30 minutes. */
static void store_on_away(evutil_socket_t fd, short what, void *user)
{
    struct chp_agent *agent = user;
    (void)fd;
    (void)what;
    if (agent->engine_started || agent->broker == NULL) {
        return;
    }
    chp_log_warn("the database stays away: messages go back to their queues",
                 CHP_I("after_ms", agent->config->database.requeue_after_ms));
    chp_broker_pause(agent->broker, true);
    inbound__drop_all(agent->inbound);
    submit__give_back(agent);
}

static void away_from_now(struct chp_agent *agent)
{
    uint64_t ms = agent->config->database.requeue_after_ms;
    struct timeval after = {.tv_sec = (time_t)(ms / 1000),
                            .tv_usec = (suseconds_t)(ms % 1000 * 1000)};
    if (!event_pending(agent->away, EV_TIMEOUT, NULL)) {
        (void)event_add(agent->away, &after);
    }
}

/* The engine, and what it had prepared, is no longer true: the database is. */
static void drop_engine(struct chp_agent *agent)
{
    chp_engine_free(agent->engine);
    agent->engine = NULL;
    agent->engine_started = false;
    effects_free(agent->open);
    agent->open = effects_new();
    sender__reset(agent->sender);
    publisher__reset(agent->publisher);
    replies__reset(agent->replies);
    away_from_now(agent);
    sweep__reset(agent->sweep);
    submit__store_lost(agent);
    resolves__store_lost(agent->resolves);
    histories__reset(agent->histories);
}

static void on_done(struct chp_batch *batch, int code, const struct chp_error *error)
{
    struct chp_agent *agent = batch->user;
    struct chp_effects *effects = agent->in_flight;
    CHP_ASSERT(effects != NULL);
    CHP_ASSERT(batch == &effects->batch);
    agent->in_flight = NULL;
    if (code == 0) {
        agent->metrics.store_batches_total++;
        raise_high_water(agent, batch);
        act_all(agent, effects);
        turn__arm(agent);
    } else {
        agent->metrics.store_failures_total++;
        chp_log_error("batch failed, starting again from the database",
                      CHP_S("error", error == NULL ? chp_error_name(code) : error->text),
                      CHP_I("writes", batch->write_count));
        drop_engine(agent);
        if (agent->store != NULL && chp_store_up(agent->store)) {
            start_engine(agent); /* the database refused data and is still there */
        }
    }
    effects_free(effects);
}

static void submit(struct chp_agent *agent)
{
    if (agent->in_flight != NULL) {
        return;
    }
    struct chp_effects *effects = agent->open;
    if (chp_batch_empty(&effects->batch)) {
        if (effects->after_count > 0) {
            agent->open = effects_new();
            act_all(agent, effects);
            effects_free(effects);
        }
        return;
    }
    if (agent->store == NULL || !chp_store_up(agent->store)) {
        return; /* on_down has dropped the engine, or will */
    }
    agent->open = effects_new();
    agent->in_flight = effects;
    if (effects->batch.write_count > 0) {
        uint64_t found = chp_engine_serial(agent->engine);
        agent->serial = (agent->serial > found ? agent->serial : found) + 1;
        chp_batch_write(&effects->batch, CHP_WRITE_SERIAL)->serial = agent->serial;
    }
    effects->batch.on_done = on_done;
    effects->batch.user = agent;
    chp_boundary("agent.submit");
    chp_store_submit(agent->store, &effects->batch);
    chp_boundary("agent.submitted");
}

static void turn_on_end(evutil_socket_t fd, short what, void *user)
{
    (void)fd;
    (void)what;
    submit(user);
}

static void start_engine(struct chp_agent *agent)
{
    CHP_ASSERT(agent->engine == NULL);
    agent->engine = chp_engine_new(&agent->engine_config);
    const struct chp_high_water *known = high_water__known(agent->high_water);
    uint64_t proposed = chp_clock_wall_ms();
    if (agent->serial < known->serial) {
        agent->serial = known->serial;
    }
    if (agent->regressed != NULL && proposed <= agent->regressed_incarnation) {
        proposed = agent->regressed_incarnation + 1;
    }
    struct chp_event event = {.kind = CHP_EVENT_START,
                              .start = {.incarnation_proposed = proposed,
                                        .high_water = known,
                                        .regressed = agent->regressed}};
    turn__step(agent, &event);
}

void turn__store_on_up(void *user)
{
    struct chp_agent *agent = user;
    agent->metrics.store_up = 1;
    agent->store_lost_ms = 0;
    agent->store_problem[0] = 0;
    chp_log_info("database is up", CHP_I("schema", chp_pg_schema_version()));
    if (agent->engine == NULL && agent->in_flight == NULL) {
        start_engine(agent);
    }
}

void turn__store_on_down(void *user, const struct chp_error *error)
{
    struct chp_agent *agent = user;
    agent->metrics.store_up = 0;
    agent->store_lost_ms = chp_clock_wall_ms();
    (void)snprintf(agent->store_problem, sizeof agent->store_problem, "%s", error->text);
    chp_log_warn("database is down", CHP_S("error", error->text));
    if (agent->in_flight == NULL && agent->engine != NULL) {
        drop_engine(agent);
    }
}

void turn__init(struct chp_agent *agent)
{
    agent->open = effects_new();
    agent->turn = event_new(agent->base, -1, 0, turn_on_end, agent);
    agent->away = event_new(agent->base, -1, 0, store_on_away, agent);
    CHP_ASSERT(agent->turn != NULL && agent->away != NULL);
}

void turn__deinit(struct chp_agent *agent)
{
    chp_engine_free(agent->engine);
    agent->engine = NULL;
    effects_free(agent->open);
    effects_free(agent->in_flight);
    event_free(agent->turn);
    event_free(agent->away);
}
