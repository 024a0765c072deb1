/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Events to those who follow them (design section 3). They are rows first; when their batch has
 * committed they are told to the watchers of this agent and published to cheops.events.<S>, each at
 * least once: what the broker has confirmed is noted in the database, and published again from
 * there after a restart.
 *
 * An event goes from memory while nothing before it waits; whoever is behind (the broker was away,
 * or is slow) is served from the database, in order. So memory does not grow with what waits, and
 * nothing is read back that was just written.
 *
 * Most sites have no queue that is bound for events, and publishing them all the same was a quarter
 * of an agent's processor time for an operation, and a tenth of a broker's. So after a row of
 * events that nobody got the publisher is quiet: of what happens within QUIET_MS only the first
 * event of each kind is published, as a probe. When all come back, nobody was bound for any of
 * these kinds after they had happened, and what waits is done with; when one finds a queue,
 * everything from there on is published. Who binds a queue gets everything that happens afterwards,
 * at most QUIET_MS later than else.
 */
#include "daemon/daemon.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    PAGE = 256,
    UNCONFIRMED_MAX = 2048,
    UNHEARD_MAX = 64, /* so many in a row that nobody got, and it is quiet */
    QUIET_MS = 20,
    PROBES_MAX = 32, /* kinds of events */
};

/* The first event of its kind that waits. */
struct probe {
    uint64_t number;
    char *kind;
    char *json;
};

struct publisher {
    struct chp_agent *agent;
    bool started;
    bool loading;
    uint64_t last;                  /* committed */
    uint64_t told;                  /* watchers know */
    uint64_t sent;                  /* published */
    uint64_t confirmed;             /* everything up to here */
    uint64_t noted;                 /* confirmed, in the database */
    bool confirms[UNCONFIRMED_MAX]; /* of confirmed + 1 + i, as a ring by number */
    unsigned unheard;               /* since one found a queue */
    bool quiet;                     /* then what waits is after sent, and its kinds are in probes */
    struct probe probes[PROBES_MAX];
    size_t probe_count;
    size_t probes_out;   /* published and not settled; then confirmed is sent */
    uint64_t probed;     /* what they speak for: after sent, up to here */
    bool probed_all;     /* they are all that waited */
    bool heard;          /* one of them found a queue */
    uint64_t probe_us;   /* when they were published */
    struct event *timer; /* of the next ones */
};

static void on_timer(evutil_socket_t fd, short what, void *user);

struct publisher *publisher__new(struct chp_agent *agent)
{
    struct publisher *publisher = chp_alloc(sizeof *publisher);
    publisher->agent = agent;
    publisher->timer = evtimer_new(agent->base, on_timer, publisher);
    CHP_ASSERT(publisher->timer != NULL);
    return publisher;
}

static void drop_probes(struct publisher *publisher)
{
    for (size_t i = 0; i < publisher->probe_count; i++) {
        free(publisher->probes[i].kind);
        free(publisher->probes[i].json);
    }
    publisher->probe_count = 0;
}

/* What waits is published from the database, as if it had never been quiet. */
static void be_loud(struct publisher *publisher)
{
    drop_probes(publisher);
    publisher->quiet = false;
    publisher->unheard = 0;
    publisher->probes_out = 0;
    (void)event_del(publisher->timer);
}

void publisher__free(struct publisher *publisher)
{
    be_loud(publisher);
    event_free(publisher->timer);
    free(publisher);
}

void publisher__reset(struct publisher *publisher)
{
    publisher->started = false;
    publisher->loading = false;
    be_loud(publisher);
}

void publisher__started(struct publisher *publisher, uint64_t published, uint64_t last)
{
    publisher->started = true;
    publisher->sent = publisher->confirmed = publisher->noted = published;
    memset(publisher->confirms, 0, sizeof publisher->confirms);
    if (publisher->told < published) {
        publisher->told = published;
    }
    publisher->last = last;
}

static bool may_publish(const struct publisher *publisher)
{
    const struct chp_agent *agent = publisher->agent;
    return agent->broker != NULL && chp_broker_up(agent->broker) && !agent->broker_blocked &&
           publisher->sent - publisher->confirmed < UNCONFIRMED_MAX;
}

void publisher__pump(struct publisher *publisher)
{
    bool for_watchers = publisher->told < publisher->last;
    bool for_broker =
        may_publish(publisher) && !publisher->quiet && publisher->sent < publisher->last;
    if (!publisher->started || publisher->loading || (!for_watchers && !for_broker)) {
        return;
    }
    struct chp_agent *agent = publisher->agent;
    struct chp_load *load = chp_batch_load(&agent->open->batch, CHP_LOAD_EVENTS);
    load->after = for_broker && (!for_watchers || publisher->sent < publisher->told)
                      ? publisher->sent
                      : publisher->told;
    load->limit = PAGE;
    publisher->loading = true;
    turn__arm(agent);
}

static bool publish(struct publisher *publisher, uint64_t number, const char *kind,
                    const char *json)
{
    struct chp_agent *agent = publisher->agent;
    char exchange[CHP_SITE_MAX_BYTES + 20];
    char message_id[CHP_SITE_MAX_BYTES + 32];
    (void)snprintf(exchange, sizeof exchange, "cheops.events.%s", agent->config->agent.site);
    (void)snprintf(message_id, sizeof message_id, "%s-%llu", agent->config->agent.site,
                   (unsigned long long)number);
    struct chp_publication publication = {
        .exchange = exchange,
        .routing_key = kind,
        .body = chp_bytes_of(json),
        .token = token_of(TOKEN_EVENT, number),
        .message_id = message_id,
        .content_type = "application/json",
    };
    return chp_broker_publish(agent->broker, &publication) == 0;
}

/* Tells and publishes an event that is committed, to whom it is the next: there is none between
 * before and it. Numbers have a gap where the database went back in time. */
static void take(struct publisher *publisher, const struct chp_event_row *row, uint64_t before)
{
    if (before <= publisher->told && publisher->told < row->number) {
        publisher->told = row->number;
        watchers__event(publisher->agent->watchers, row->number, row->kind, row->json);
    }
    if (publisher->quiet || before > publisher->sent || publisher->sent >= row->number ||
        !may_publish(publisher)) {
        return;
    }
    if (row->number > publisher->sent + 1) {
        if (publisher->confirmed < publisher->sent) {
            return; /* read again when what is before the gap is confirmed */
        }
        publisher->sent = publisher->confirmed = row->number - 1;
    }
    if (publish(publisher, row->number, row->kind, row->json)) {
        publisher->sent = row->number;
    }
}

static void send_probes(struct publisher *publisher)
{
    uint64_t now_us = chp_clock_mono_us();
    uint64_t next_us = publisher->probe_us + QUIET_MS * 1000;
    if (publisher->probe_count == 0 || publisher->probes_out > 0 ||
        publisher->confirmed < publisher->sent) {
        return;
    }
    if (now_us < next_us) {
        struct timeval delay = {.tv_usec = (suseconds_t)(next_us - now_us)};
        (void)event_add(publisher->timer, &delay);
        return;
    }
    for (size_t i = 0; i < publisher->probe_count; i++) {
        const struct probe *probe = &publisher->probes[i];
        if (!may_publish(publisher) ||
            !publish(publisher, probe->number, probe->kind, probe->json)) {
            be_loud(publisher);
            return;
        }
        publisher->probes_out++;
    }
    publisher->probe_us = now_us;
    publisher->probed = publisher->last;
    publisher->probed_all = publisher->probe_count == publisher->last - publisher->sent;
    publisher->heard = false;
    drop_probes(publisher);
}

static void on_timer(evutil_socket_t fd, short what, void *user)
{
    struct publisher *publisher = user;
    (void)fd;
    (void)what;
    send_probes(publisher);
    publisher__pump(publisher); /* if it is loud now */
}

static bool has_probe(const struct publisher *publisher, const char *kind)
{
    for (size_t i = 0; i < publisher->probe_count; i++) {
        if (strcmp(publisher->probes[i].kind, kind) == 0) {
            return true;
        }
    }
    return false;
}

static void wait_quietly(struct publisher *publisher, const struct chp_event_row *row)
{
    if (publisher->probe_count == PROBES_MAX) {
        be_loud(publisher);
        return;
    }
    publisher->probes[publisher->probe_count++] = (struct probe){
        .number = row->number, .kind = chp_strdup(row->kind), .json = chp_strdup(row->json)};
    send_probes(publisher);
}

void publisher__loaded(struct publisher *publisher, const struct chp_load *load)
{
    if (!publisher->loading) {
        return;
    }
    publisher->loading = false;
    for (size_t i = 0; i < load->events.count; i++) {
        const struct chp_event_row *row = &load->events.rows[i];
        if (row->number > publisher->last) {
            publisher->last = row->number;
        }
        take(publisher, row, i == 0 ? load->after : load->events.rows[i - 1].number);
    }
}

static void add_field(struct chp_buf *json, const char *name, const char *value)
{
    chp_buf_printf(json, ",\"%s\":", name);
    if (value == NULL) {
        chp_buf_add_text(json, "null");
        return;
    }
    json_t *text = json_string(value);
    char *quoted = text == NULL ? NULL : json_dumps(text, JSON_ENCODE_ANY);
    chp_buf_add_text(json, quoted == NULL ? "null" : quoted);
    free(quoted);
    json_decref(text);
}

/* As the view event_answer has it: schema/002_answers.sql. */
static void event_json(const struct chp_write *write, struct chp_buf *json)
{
    char at[32];
    char operation[CHP_UUID_TEXT_BYTES];
    time_t seconds = (time_t)(write->event.at_ms / 1000);
    struct tm utc;
    CHP_ASSERT(gmtime_r(&seconds, &utc) != NULL);
    size_t len = strftime(at, sizeof at, "%Y-%m-%dT%H:%M:%S", &utc);
    CHP_ASSERT(len > 0);
    (void)snprintf(at + len, sizeof at - len, ".%03uZ", (unsigned)(write->event.at_ms % 1000));
    chp_buf_printf(json, "{\"number\":%llu", (unsigned long long)write->event.number);
    add_field(json, "at", at);
    add_field(json, "kind", write->event.kind);
    add_field(json, "site", write->event.site);
    add_field(json, "resource", write->event.resource);
    if (write->event.operation != NULL) {
        chp_uuid_format(write->event.operation, operation);
    }
    add_field(json, "operation", write->event.operation == NULL ? NULL : operation);
    chp_buf_add_text(json, ",\"data\":");
    chp_buf_add_text(json, write->event.data);
    chp_buf_add_byte(json, '}');
}

void publisher__event(struct publisher *publisher, const struct chp_write *write)
{
    CHP_ASSERT(write->kind == CHP_WRITE_EVENT);
    uint64_t number = write->event.number;
    publisher->last = number;
    if (!publisher->started) {
        return;
    }
    bool next = !publisher->loading && (number == publisher->told + 1 ||
                                        (!publisher->quiet && number == publisher->sent + 1));
    bool first = publisher->quiet && !has_probe(publisher, write->event.kind);
    if (publisher->quiet && next && !first &&
        !watchers__follow_events(publisher->agent->watchers)) {
        publisher->told = number;
    } else if (next || first) {
        struct chp_buf json = {0};
        event_json(write, &json);
        struct chp_event_row row = {.number = number,
                                    .at_ms = write->event.at_ms,
                                    .kind = write->event.kind,
                                    .json = chp_buf_text(&json)};
        if (next) {
            take(publisher, &row, number - 1);
        }
        if (first) {
            wait_quietly(publisher, &row);
        }
        chp_buf_deinit(&json);
    }
}

static void probe_settled(struct publisher *publisher, enum chp_outcome outcome)
{
    if (outcome == CHP_OUTCOME_NACKED || outcome == CHP_OUTCOME_LOST) {
        be_loud(publisher);
        return;
    }
    publisher->heard |= outcome == CHP_OUTCOME_CONFIRMED;
    if (--publisher->probes_out > 0) {
        return;
    }
    if (!publisher->heard || publisher->probed_all) {
        publisher->sent = publisher->confirmed = publisher->probed;
    }
    if (publisher->heard) {
        be_loud(publisher);
    } else {
        send_probes(publisher);
    }
}

static void settle(struct publisher *publisher, uint64_t number, enum chp_outcome outcome)
{
    if (publisher->probes_out > 0 && number > publisher->sent && number <= publisher->probed) {
        probe_settled(publisher, outcome);
        return;
    }
    if (number <= publisher->confirmed || number > publisher->sent) {
        return;
    }
    if (outcome == CHP_OUTCOME_NACKED || outcome == CHP_OUTCOME_LOST) {
        publisher->sent = publisher->confirmed; /* again from there */
        memset(publisher->confirms, 0, sizeof publisher->confirms);
        be_loud(publisher);
        return;
    }
    publisher->unheard = outcome == CHP_OUTCOME_RETURNED ? publisher->unheard + 1 : 0;
    publisher->confirms[number % UNCONFIRMED_MAX] = true;
    while (publisher->confirms[(publisher->confirmed + 1) % UNCONFIRMED_MAX] &&
           publisher->confirmed < publisher->sent) {
        publisher->confirms[++publisher->confirmed % UNCONFIRMED_MAX] = false;
    }
    if (publisher->quiet) {
        if (outcome == CHP_OUTCOME_CONFIRMED) {
            be_loud(publisher);
        } else {
            send_probes(publisher);
        }
    } else if (publisher->unheard >= UNHEARD_MAX && publisher->sent == publisher->last &&
               !publisher->loading) {
        publisher->quiet = true;
    }
}

bool publisher__settled(struct publisher *publisher, uint64_t token, enum chp_outcome outcome)
{
    if (token >> TOKEN_SHIFT != TOKEN_EVENT) {
        return false;
    }
    bool quiet = publisher->quiet;
    settle(publisher, token & ~(UINT64_MAX << TOKEN_SHIFT), outcome);
    if (quiet && !publisher->quiet) {
        publisher__pump(publisher);
    }
    return true;
}

void publisher__tick(struct publisher *publisher)
{
    struct chp_agent *agent = publisher->agent;
    if (!publisher->started) {
        return;
    }
    if (publisher->noted != publisher->confirmed) {
        publisher->noted = publisher->confirmed;
        chp_batch_write(&agent->open->batch, CHP_WRITE_EVENTS_PUBLISHED)->events_published =
            publisher->noted;
        turn__arm(agent);
    }
    publisher__pump(publisher);
}
