/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Events to those who follow them (design section 3). They are rows first; this reads them back in
 * order, tells the watchers of this agent, and publishes them to cheops.events.<S>, each at least
 * once: what the broker has confirmed is noted in the database, and published again from there
 * after a restart.
 */
#include "daemon/daemon.h"

#include <stdlib.h>
#include <string.h>

enum { PAGE = 256, UNCONFIRMED_MAX = 1024 };

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
};

struct publisher *publisher__new(struct chp_agent *agent)
{
    struct publisher *publisher = chp_alloc(sizeof *publisher);
    publisher->agent = agent;
    return publisher;
}

void publisher__free(struct publisher *publisher)
{
    free(publisher);
}

void publisher__reset(struct publisher *publisher)
{
    publisher->started = false;
    publisher->loading = false;
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

void publisher__event(struct publisher *publisher, uint64_t number)
{
    publisher->last = number;
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
    bool for_broker = may_publish(publisher) && publisher->sent < publisher->last;
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

static void publish(struct publisher *publisher, const struct chp_event_row *row)
{
    struct chp_agent *agent = publisher->agent;
    char exchange[CHP_SITE_MAX_BYTES + 20];
    char message_id[CHP_SITE_MAX_BYTES + 32];
    (void)snprintf(exchange, sizeof exchange, "cheops.events.%s", agent->config->agent.site);
    (void)snprintf(message_id, sizeof message_id, "%s-%llu", agent->config->agent.site,
                   (unsigned long long)row->number);
    struct chp_publication publication = {
        .exchange = exchange,
        .routing_key = row->kind,
        .body = chp_bytes_of(row->json),
        .token = token_of(TOKEN_EVENT, row->number),
        .message_id = message_id,
        .content_type = "application/json",
    };
    if (chp_broker_publish(agent->broker, &publication) == 0) {
        publisher->sent = row->number;
    }
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
        if (row->number == publisher->told + 1 || (i == 0 && row->number > publisher->told)) {
            publisher->told = row->number;
            watchers__event(publisher->agent->watchers, row->number, row->kind, row->json);
        }
        if (row->number == publisher->sent + 1 && may_publish(publisher)) {
            publish(publisher, row);
        }
    }
}

bool publisher__settled(struct publisher *publisher, uint64_t token, enum chp_outcome outcome)
{
    if (token >> TOKEN_SHIFT != TOKEN_EVENT) {
        return false;
    }
    uint64_t number = token & ~(UINT64_MAX << TOKEN_SHIFT);
    if (number <= publisher->confirmed || number > publisher->sent) {
        return true;
    }
    if (outcome == CHP_OUTCOME_NACKED || outcome == CHP_OUTCOME_LOST) {
        publisher->sent = publisher->confirmed; /* again from there */
        memset(publisher->confirms, 0, sizeof publisher->confirms);
        return true;
    }
    publisher->confirms[number % UNCONFIRMED_MAX] = true;
    while (publisher->confirms[(publisher->confirmed + 1) % UNCONFIRMED_MAX] &&
           publisher->confirmed < publisher->sent) {
        publisher->confirms[++publisher->confirmed % UNCONFIRMED_MAX] = false;
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
