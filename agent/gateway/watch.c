/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * What becomes of one operation, told to one client as it happens.
 *
 * The agent tells what is new from the moment of watching; what was before, if there can be any, is
 * read from the store.
 * Both may show the same, so what was told last is remembered per site, and told once. While a
 * query is on its way notices only say that another is needed: the store is never behind them. The
 * same serves a client that reads slowly: beyond a bound nothing more is written, and when its
 * output is empty the store is asked again. So a watch holds no lines back in memory.
 */
#include "gateway/internal.h"

#include "base/mem.h"

#include <string.h>

struct told {
    const char *site;
    uint32_t run;
    enum chp_state state;
    bool any;
};

struct watch {
    struct gateway_exchange *exchange;
    struct gateway_watch_options options;
    struct chp_uuid operation;
    char id[CHP_UUID_TEXT_BYTES];
    json_t *members; /* names; NULL until they are known */
    const char *resource;
    struct told told[CHP_SITES_MAX];
    size_t told_count;
    bool querying;
    bool behind;         /* there is more in the store than was told */
    struct event *timer; /* of the whole */
    struct event *retry; /* of a query that failed */
    struct chp_backoff backoff;
};

static void ask(struct watch *watch);

static void watch_free(void *state)
{
    struct watch *watch = state;
    json_decref(watch->members);
    if (watch->timer != NULL) {
        event_free(watch->timer);
    }
    event_free(watch->retry);
    free(watch);
}

/* The watch behind a user pointer while its exchange takes something. */
static struct watch *watch_of(void *user)
{
    struct gateway_exchange *exchange = gateway__exchange_of(user);
    return exchange != NULL ? exchange->state : NULL;
}

static struct told *told_of(struct watch *watch, const char *site)
{
    for (size_t i = 0; i < watch->told_count; i++) {
        if (strcmp(watch->told[i].site, site) == 0) {
            return &watch->told[i];
        }
    }
    if (watch->told_count == CHP_SITES_MAX) {
        return NULL;
    }
    struct told *told = &watch->told[watch->told_count++];
    told->site = chp_arena_strdup(&watch->exchange->arena, site);
    return told;
}

/* How far a state is; those that end a run are as far as each other. */
static int rank_of(enum chp_state state)
{
    return chp_state_final(state)        ? CHP_STATE_COUNT
           : state == CHP_STATE_IN_DOUBT ? CHP_STATE_DONE
                                         : (int)state;
}

static bool is_news(const struct told *told, uint32_t run, enum chp_state state, bool notice)
{
    if (!told->any || run > told->run) {
        return true;
    }
    int rank = rank_of(state);
    int told_rank = rank_of(told->state);
    return run == told->run && state != told->state &&
           (rank > told_rank || (rank == told_rank && notice));
}

static size_t answered_count(const struct watch *watch)
{
    size_t count = 0;
    for (size_t i = 0; i < watch->told_count; i++) {
        count += watch->told[i].any && chp_state_final(watch->told[i].state);
    }
    return count;
}

/* --- the languages ----------------------------------------------------------------------- */

static void write_line(struct watch *watch, const char *name, json_t *line)
{
    if (watch->options.language == GATEWAY_SSE) {
        char *text = json_dumps(line, JSON_COMPACT);
        CHP_ASSERT(text != NULL);
        (void)gateway__sse_write(watch->exchange, name, 0, text);
        free(text);
    } else {
        (void)gateway__stream_json(watch->exchange, line);
    }
    json_decref(line);
}

/* The line of one site as the prototype wrote it. */
static json_t *prototype_line(const struct watch *watch, const char *site, const char *status,
                              const char *output)
{
    json_t *line = json_object();
    (void)json_object_set_new(line, "Site", gateway__json_text(site));
    (void)json_object_set_new(line, "Status", json_string(status));
    (void)json_object_set_new(line, "RequestId", json_string(watch->id));
    (void)json_object_set_new(line, "ResourceId", gateway__json_text(watch->resource));
    (void)json_object_set(line, "Locations", watch->members);
    (void)json_object_set_new(line, "Cmd",
                              json_pack("{s:o, s:o}", "Input",
                                        gateway__json_text(watch->options.input), "Output",
                                        gateway__json_text(output)));
    (void)json_object_set_new(line, "Type", json_string("REPLY"));
    return line;
}

static void tell_prototype(struct watch *watch, const json_t *result, const char *site,
                           enum chp_state state)
{
    const char *output = json_string_value(json_object_get(result, "output"));
    const char *reason = json_string_value(json_object_get(result, "reason"));
    if (state != CHP_STATE_DONE && (output == NULL || output[0] == '\0')) {
        output = reason;
    }
    write_line(
        watch, NULL,
        prototype_line(watch, site, state == CHP_STATE_DONE ? "OK" : "KO", output ? output : ""));
}

/* result is a site result of schema/openapi.json. */
static void tell_result(struct watch *watch, const json_t *result, bool notice)
{
    const char *site = json_string_value(json_object_get(result, "site"));
    const char *name = json_string_value(json_object_get(result, "state"));
    uint32_t run = (uint32_t)json_integer_value(json_object_get(result, "run"));
    enum chp_state state;
    if (site == NULL || name == NULL || chp_state_parse(name, &state) != 0) {
        return;
    }
    bool ends = chp_state_final(state) || state == CHP_STATE_IN_DOUBT;
    struct told *told = told_of(watch, site);
    if (told == NULL || (!ends && !watch->options.progress) || !is_news(told, run, state, notice)) {
        return;
    }
    *told = (struct told){.site = told->site, .run = run, .state = state, .any = true};
    if (watch->options.language == GATEWAY_PROTOTYPE) {
        tell_prototype(watch, result, site, state);
        return;
    }
    json_t *line = json_pack("{s:s}", "operation", watch->id);
    (void)json_object_set_new(line, "resource", gateway__json_text(watch->resource));
    (void)json_object_set_new(line, "answered", json_integer((json_int_t)answered_count(watch)));
    (void)json_object_set_new(line, "members",
                              json_integer((json_int_t)json_array_size(watch->members)));
    (void)json_object_update_missing(line, (json_t *)(uintptr_t)result);
    write_line(watch, "result", line);
}

static void finish(struct watch *watch)
{
    gateway__stream_end(watch->exchange);
}

static void tell_completed(struct watch *watch, bool failed)
{
    json_t *failures = json_array();
    for (size_t i = 0; i < watch->told_count; i++) {
        if (watch->told[i].any && watch->told[i].state != CHP_STATE_DONE) {
            (void)json_array_append_new(failures, gateway__json_text(watch->told[i].site));
        }
    }
    failed = failed || json_array_size(failures) > 0;
    if (watch->options.language != GATEWAY_PROTOTYPE) {
        json_t *line = json_pack("{s:s}", "operation", watch->id);
        (void)json_object_set_new(line, "resource", gateway__json_text(watch->resource));
        (void)json_object_set_new(line, "completed", json_true());
        (void)json_object_set_new(line, "state", json_string(failed ? "failed" : "done"));
        (void)json_object_set_new(line, "answered",
                                  json_integer((json_int_t)answered_count(watch)));
        (void)json_object_set_new(line, "members",
                                  json_integer((json_int_t)json_array_size(watch->members)));
        (void)json_object_set(line, "failed", failures);
        write_line(watch, "completed", line);
    }
    json_decref(failures);
    finish(watch);
}

/* Members that have not answered. New reference. */
static json_t *waiting_for(struct watch *watch)
{
    json_t *waiting = json_array();
    size_t i;
    json_t *member;
    json_array_foreach(watch->members, i, member)
    {
        const struct told *told = told_of(watch, json_string_value(member));
        if (told == NULL || !told->any || !chp_state_final(told->state)) {
            (void)json_array_append(waiting, member);
        }
    }
    return waiting;
}

static void watch_on_timeout(evutil_socket_t fd, short what, void *user)
{
    struct watch *watch = watch_of(user);
    (void)fd;
    (void)what;
    if (watch == NULL || watch->exchange->stage != GATEWAY_STREAMING) {
        return;
    }
    json_t *waiting = waiting_for(watch);
    if (watch->options.language == GATEWAY_PROTOTYPE) {
        size_t i;
        json_t *site;
        json_array_foreach(waiting, i, site)
        {
            write_line(watch, NULL, prototype_line(watch, json_string_value(site), "TIMEOUT", ""));
        }
        json_decref(waiting);
    } else {
        write_line(
            watch, "timeout",
            json_pack("{s:s, s:b, s:o}", "operation", watch->id, "timeout", 1, "waiting", waiting));
    }
    finish(watch);
}

/* --- the sources ------------------------------------------------------------------------- */

static bool lags(const struct watch *watch)
{
    return watch->exchange->stage == GATEWAY_STREAMING &&
           gateway__stream_backlog(watch->exchange) > GATEWAY_BACKLOG_BYTES;
}

static void watch_on_notice(void *user, const struct chp_notice *notice)
{
    struct watch *watch = watch_of(user);
    if (watch == NULL) {
        return;
    }
    if (watch->querying || watch->behind || watch->members == NULL || lags(watch)) {
        watch->behind = true;
    } else if (notice == NULL) {
        ask(watch);
    } else if (notice->completed) {
        tell_completed(watch, notice->failed);
    } else {
        json_t *result = gateway__json_of_ack(&notice->ack, notice->elapsed_ms);
        tell_result(watch, result, true);
        json_decref(result);
    }
}

static void watch_on_drained(struct gateway_exchange *exchange)
{
    struct watch *watch = exchange->state;
    if (watch->behind && !watch->querying && !event_pending(watch->retry, EV_TIMEOUT, NULL)) {
        ask(watch);
    }
}

static void watch_on_retry(evutil_socket_t fd, short what, void *user)
{
    struct watch *watch = watch_of(user);
    (void)fd;
    (void)what;
    if (watch != NULL) {
        ask(watch);
    }
}

/* Tells what the operation's object shows; stops when the client lags. */
static void tell_operation(struct watch *watch, const json_t *operation)
{
    size_t i;
    json_t *result;
    json_array_foreach(json_object_get(operation, "sites"), i, result)
    {
        if (lags(watch)) {
            watch->behind = true;
            return;
        }
        tell_result(watch, result, false);
    }
    if (!watch->behind && json_is_true(json_object_get(operation, "completed"))) {
        tell_completed(watch, false);
    }
}

/* The first answer about an operation that was not admitted just now. */
static bool begin_known(struct watch *watch, const json_t *operation)
{
    struct gateway_exchange *exchange = watch->exchange;
    struct chp_agent_port *port = &exchange->door->port;
    const char *origin = json_string_value(json_object_get(operation, "origin"));
    const char *resource = json_string_value(json_object_get(operation, "resource"));
    if (origin != NULL && strcmp(origin, port->vtable->site(port->agent)) != 0) {
        struct chp_error error;
        (void)chp_error_set(
            &error, CHP_EREFUSED,
            "the operation entered at %s: watch it there, its origin alone hears of every site",
            origin);
        gateway__reply_error(exchange, 0, error.code, error.text);
        return false;
    }
    watch->resource = chp_arena_strdup(&exchange->arena, resource);
    watch->members = json_incref(json_object_get(operation, "members"));
    if (exchange->head) {
        gateway__reply_text(exchange, 200, "text/event-stream", NULL, 0);
        return false;
    }
    gateway__sse_start(exchange);
    return true;
}

static void query_failed(struct watch *watch, int code, const struct chp_error *error)
{
    if (watch->exchange->stage == GATEWAY_HANDLING) {
        gateway__reply_error(watch->exchange, 0, code, error != NULL ? error->text : NULL);
        return;
    }
    watch->behind = true;
    gateway__retry_later(watch->retry, &watch->backoff);
}

static void watch_on_answer(void *user, int code, const char *text, const struct chp_error *error)
{
    struct watch *watch = watch_of(user);
    if (watch == NULL) {
        return;
    }
    watch->querying = false;
    if (code == 0) {
        chp_backoff_reset(&watch->backoff);
    }
    if (code == 0 && text == NULL) {
        code = CHP_ENOTFOUND;
    }
    if (code != 0) {
        query_failed(watch, code, error);
        return;
    }
    bool again = watch->behind; /* something happened meanwhile */
    watch->behind = false;
    json_t *operation = json_loads(text, 0, NULL);
    if (watch->members != NULL || begin_known(watch, operation)) {
        tell_operation(watch, operation);
    }
    json_decref(operation);
    if (gateway__exchange_of(user) != NULL && again && !watch->behind) {
        ask(watch);
    }
}

static void ask(struct watch *watch)
{
    struct chp_agent_port *port = &watch->exchange->door->port;
    const char *params[] = {watch->id};
    watch->querying = true;
    watch->behind = false;
    port->vtable->query(port->agent, CHP_QUERY_OPERATION, params, 1, watch_on_answer,
                        watch->exchange);
}

/* --- the beginning ----------------------------------------------------------------------- */

static struct watch *watch_new(struct gateway_exchange *exchange, const struct chp_uuid *operation,
                               const struct gateway_watch_options *options)
{
    struct watch *watch = chp_alloc(sizeof *watch);
    watch->exchange = exchange;
    watch->options = *options;
    watch->operation = *operation;
    chp_uuid_format(operation, watch->id);
    gateway__retry_init(&watch->backoff);
    watch->retry = event_new(exchange->door->base, -1, 0, watch_on_retry, exchange);
    CHP_ASSERT(watch->retry != NULL);
    if (options->timeout_ms > 0) {
        struct timeval delay = {(time_t)(options->timeout_ms / 1000),
                                (suseconds_t)(options->timeout_ms % 1000 * 1000)};
        watch->timer = event_new(exchange->door->base, -1, 0, watch_on_timeout, exchange);
        CHP_ASSERT(watch->timer != NULL && event_add(watch->timer, &delay) == 0);
    }
    CHP_ASSERT(exchange->state == NULL);
    exchange->state = watch;
    exchange->state_free = watch_free;
    exchange->asked = true;
    exchange->on_drained = watch_on_drained;
    return watch;
}

static void begin(struct watch *watch)
{
    struct chp_agent_port *port = &watch->exchange->door->port;
    port->vtable->watch(port->agent, &watch->operation, watch_on_notice, watch->exchange);
}

void gateway__watch_reply(struct gateway_exchange *exchange, const struct chp_reply *reply,
                          const struct gateway_watch_options *options)
{
    struct watch *watch = watch_new(exchange, &reply->id, options);
    watch->resource = chp_arena_strdup(&exchange->arena, reply->resource);
    watch->members = gateway__json_strings(reply->members, reply->member_count);
    if (options->language == GATEWAY_LINES) {
        json_t *line = gateway__json_of_reply(reply);
        gateway__stream_start(exchange, "application/x-ndjson");
        (void)gateway__stream_json(exchange, line);
        json_decref(line);
    } else {
        gateway__stream_start(exchange, "application/json");
    }
    begin(watch);
    if (reply->duplicate || options->progress) {
        ask(watch);
    }
}

void gateway__watch_known(struct gateway_exchange *exchange, const struct chp_uuid *operation,
                          const struct gateway_watch_options *options)
{
    struct watch *watch = watch_new(exchange, operation, options);
    begin(watch);
    ask(watch);
}
