/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * /v1/events: a page, or a stream that begins now, or after a number, and goes on.
 *
 * A stream has two modes. Replaying, it reads pages from the store and only notes the highest
 * number that it hears of; a page that shows all of that is the last. Live, it writes what it
 * hears. It falls back to replaying on a gap, or when its client reads so slowly that output piles
 * up, and then waits until that is empty.
 */
#include "gateway/internal.h"

#include "base/mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { REPLAY_PAGE = 500 };

/* Old events are forgotten. Whoever asks for what followed one of them would miss some without
 * knowing it, and is told instead. */
static bool refuse_forgotten(struct gateway_exchange *exchange, const json_t *page, uint64_t after)
{
    json_int_t oldest = json_integer_value(json_object_get(page, "oldest"));
    if (oldest <= 0 || after + 1 >= (uint64_t)oldest) {
        return false;
    }
    char text[CHP_ERROR_TEXT_BYTES];
    (void)snprintf(text, sizeof text,
                   "events up to %llu are forgotten for their age: go on after %llu, or without a "
                   "number from the oldest that is kept",
                   (unsigned long long)oldest - 1, (unsigned long long)oldest - 1);
    gateway__reply_error(exchange, 0, CHP_EGONE, text);
    return true;
}

struct events {
    struct gateway_exchange *exchange;
    uint64_t last;  /* written; at first, after which to begin */
    uint64_t heard; /* highest number told by the agent */
    bool live;
    bool querying;
    struct event *retry;
    struct chp_backoff backoff;
};

static void replay(struct events *events);

static void events_free(void *state)
{
    struct events *events = state;
    event_free(events->retry);
    free(events);
}

static struct events *events_of(void *user)
{
    struct gateway_exchange *exchange = gateway__exchange_of(user);
    return exchange != NULL ? exchange->state : NULL;
}

static bool lags(const struct events *events)
{
    return gateway__stream_backlog(events->exchange) > GATEWAY_BACKLOG_BYTES;
}

static void write_event(struct events *events, uint64_t number, const char *json)
{
    CHP_ASSERT(number > events->last);
    if (gateway__sse_write(events->exchange, NULL, number, json)) {
        events->last = number;
    }
}

static void events_on_event(void *user, uint64_t number, const char *kind, const char *json)
{
    struct events *events = events_of(user);
    (void)kind;
    if (events == NULL) {
        return;
    }
    events->heard = number > events->heard ? number : events->heard;
    if (!events->live || number <= events->last) {
        return;
    }
    if (number == events->last + 1 && !lags(events)) {
        write_event(events, number, json);
        return;
    }
    events->live = false;
    if (!lags(events)) {
        replay(events);
    }
}

static void events_on_drained(struct gateway_exchange *exchange)
{
    struct events *events = exchange->state;
    if (!events->live && !events->querying && !event_pending(events->retry, EV_TIMEOUT, NULL)) {
        replay(events);
    }
}

static void events_on_retry(evutil_socket_t fd, short what, void *user)
{
    struct events *events = events_of(user);
    (void)fd;
    (void)what;
    if (events != NULL) {
        replay(events);
    }
}

static void page_failed(struct events *events, int code, const struct chp_error *error)
{
    if (events->exchange->stage == GATEWAY_HANDLING) {
        gateway__reply_error(events->exchange, 0, code, error != NULL ? error->text : NULL);
        return;
    }
    gateway__retry_later(events->retry, &events->backoff);
}

/* Writes a page's events; returns how many it has. */
static size_t write_page(struct events *events, const json_t *page)
{
    const json_t *list = json_object_get(page, "events");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *event = json_array_get(list, i);
        json_int_t number = json_integer_value(json_object_get(event, "number"));
        if (number > 0 && (uint64_t)number > events->last) {
            char *text = json_dumps(event, JSON_COMPACT);
            CHP_ASSERT(text != NULL);
            write_event(events, (uint64_t)number, text);
            free(text);
        }
    }
    return json_array_size(list);
}

static void events_on_page(void *user, int code, const char *text, const struct chp_error *error)
{
    struct events *events = events_of(user);
    if (events == NULL) {
        return;
    }
    events->querying = false;
    json_t *page = code == 0 && text != NULL ? json_loads(text, 0, NULL) : NULL;
    if (page == NULL) {
        page_failed(events, code != 0 ? code : CHP_EINTERNAL, error);
        return;
    }
    chp_backoff_reset(&events->backoff);
    if (events->exchange->stage == GATEWAY_HANDLING &&
        refuse_forgotten(events->exchange, page, events->last)) {
        json_decref(page);
        return;
    }
    if (events->exchange->stage == GATEWAY_HANDLING) {
        gateway__sse_start(events->exchange);
    }
    size_t count = write_page(events, page);
    json_decref(page);
    if (count == 0 || (count < REPLAY_PAGE && events->last >= events->heard)) {
        events->live = true;
        /* What was heard and is in no page never will be. */
        events->last = events->heard > events->last ? events->heard : events->last;
    } else if (gateway__exchange_of(user) != NULL && !lags(events)) {
        replay(events);
    }
}

/* Begins at what is committed now. */
static void events_on_status(void *user, int code, const char *text, const struct chp_error *error)
{
    struct events *events = events_of(user);
    if (events == NULL) {
        return;
    }
    events->querying = false;
    json_t *status = code == 0 && text != NULL ? json_loads(text, 0, NULL) : NULL;
    if (status == NULL) {
        page_failed(events, code != 0 ? code : CHP_EINTERNAL, error);
        return;
    }
    events->last = (uint64_t)json_integer_value(json_object_get(status, "event_last"));
    json_decref(status);
    gateway__sse_start(events->exchange);
    events->live = events->last >= events->heard;
    if (!events->live) {
        replay(events);
    }
}

static void replay(struct events *events)
{
    struct gateway_exchange *exchange = events->exchange;
    struct chp_agent_port *port = &exchange->door->port;
    const char *params[2] = {
        chp_arena_printf(&exchange->arena, "%llu", (unsigned long long)events->last), "500"};
    events->querying = true;
    port->vtable->query(port->agent, CHP_QUERY_EVENTS, params, 2, events_on_page, exchange);
}

static void follow(struct gateway_exchange *exchange, bool from_now, uint64_t after)
{
    struct chp_agent_port *port = &exchange->door->port;
    struct events *events = chp_alloc(sizeof *events);
    events->exchange = exchange;
    events->last = after;
    gateway__retry_init(&events->backoff);
    events->retry = event_new(exchange->door->base, -1, 0, events_on_retry, exchange);
    CHP_ASSERT(events->retry != NULL);
    exchange->state = events;
    exchange->state_free = events_free;
    exchange->on_drained = events_on_drained;
    exchange->asked = true;
    port->vtable->watch_events(port->agent, events_on_event, exchange);
    if (from_now) {
        events->querying = true;
        port->vtable->query(port->agent, CHP_QUERY_STATUS, NULL, 0, events_on_status, exchange);
    } else {
        replay(events);
    }
}

/* Where to go on: Last-Event-ID, which a browser sends after a loss, before the parameter of the
 * first call. */
static int read_after(struct gateway_exchange *exchange, bool *given, uint64_t *after)
{
    const char *id =
        evhttp_find_header(evhttp_request_get_input_headers(exchange->request), "Last-Event-ID");
    if (gateway__param_number(exchange, "after", 0, GATEWAY_EVENT_MAX, after) != 0) {
        return CHP_EINVAL;
    }
    *given = id != NULL || gateway__param(exchange, "after") != NULL;
    if (id == NULL) {
        return 0;
    }
    errno = 0;
    unsigned long long number = strtoull(id, NULL, 10);
    if (id[0] == '\0' || id[strspn(id, "0123456789")] != '\0' || errno != 0 ||
        number > GATEWAY_EVENT_MAX) {
        gateway__refuse(exchange, 0, CHP_EINVAL, "Last-Event-ID must be an event's number");
        return CHP_EINVAL;
    }
    *after = number;
    return 0;
}

static void list_on_page(void *user, int code, const char *text, const struct chp_error *error)
{
    struct gateway_exchange *exchange = gateway__exchange_of(user);
    if (exchange == NULL) {
        return;
    }
    json_t *page = code == 0 && text != NULL ? json_loads(text, 0, NULL) : NULL;
    if (page == NULL) {
        gateway__reply_error(exchange, 0, code != 0 ? code : CHP_EINTERNAL,
                             error != NULL ? error->text : NULL);
    } else if (!refuse_forgotten(exchange, page, strtoull(exchange->wanted, NULL, 10))) {
        gateway__reply_text(exchange, 200, "application/json", text, strlen(text));
    }
    json_decref(page);
}

static void list(struct gateway_exchange *exchange, bool after_given, uint64_t after,
                 uint64_t limit)
{
    struct chp_agent_port *port = &exchange->door->port;
    const char *params[] = {
        chp_arena_printf(&exchange->arena, "%llu", (unsigned long long)after),
        chp_arena_printf(&exchange->arena, "%llu", (unsigned long long)limit),
    };
    if (after_given) {
        exchange->asked = true;
        exchange->wanted = params[0];
        port->vtable->query(port->agent, CHP_QUERY_EVENTS, params, 2, list_on_page, exchange);
    } else {
        gateway__query_reply(exchange, CHP_QUERY_EVENTS, params, 2);
    }
}

void gateway__event_list(struct gateway_exchange *exchange)
{
    const char *accept =
        evhttp_find_header(evhttp_request_get_input_headers(exchange->request), "Accept");
    bool stream = accept != NULL && strstr(accept, "text/event-stream") != NULL;
    uint64_t limit = GATEWAY_PAGE_DEFAULT;
    uint64_t after = 0;
    bool after_given = false;
    if (gateway__param_flag(exchange, "follow", &stream) != 0 ||
        gateway__param_number(exchange, "limit", 1, GATEWAY_PAGE_MAX, &limit) != 0 ||
        read_after(exchange, &after_given, &after) != 0) {
        return;
    }
    if (stream && exchange->head) {
        gateway__reply_text(exchange, 200, "text/event-stream", NULL, 0);
    } else if (stream) {
        follow(exchange, !after_given, after);
    } else {
        list(exchange, after_given, after, limit);
    }
}
