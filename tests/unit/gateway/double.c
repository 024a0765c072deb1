/* SPDX-License-Identifier: AGPL-3.0-only */
#include "double.h"

#include "base/clock.h"
#include "base/mem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static const char *members[] = {"Nantes", "Paris", "Rennes"};

/* --- the agent --------------------------------------------------------------------------- */

static struct double_user *add_user(struct chp_agent *agent, void *user)
{
    CHP_ASSERT(agent->user_count < DOUBLE_USERS_MAX);
    struct double_user *added = &agent->users[agent->user_count++];
    *added = (struct double_user){.user = user};
    return added;
}

static const char *double_site(const struct chp_agent *agent)
{
    (void)agent;
    return "Nantes";
}

static void reply_now(struct chp_agent *agent, chp_reply_fn *on_reply, void *user)
{
    struct chp_reply reply = {.code = agent->reply_code,
                              .error = "the double says no",
                              .id = agent->last.id,
                              .duplicate = agent->duplicate,
                              .resource = agent->last.resource,
                              .scope = "Nantes & Paris & Rennes",
                              .members = members,
                              .member_count = 3};
    on_reply(user, &reply);
}

static void double_submit(struct chp_agent *agent, const struct chp_request *request,
                          chp_reply_fn *on_reply, void *user)
{
    struct chp_arena *arena = &agent->arena;
    agent->submits++;
    agent->last = *request;
    agent->last.key = chp_arena_strdup(arena, request->key);
    agent->last.principal = chp_arena_strdup(arena, request->principal);
    agent->last.resource = chp_arena_strdup(arena, request->resource);
    agent->last.type = chp_arena_strdup(arena, request->type);
    agent->last.scope = chp_arena_strdup(arena, request->scope);
    agent->last.config = chp_arena_strdup(arena, request->config);
    agent->last.payload = chp_arena_bytes(arena, request->payload);
    agent->last.undo = chp_arena_bytes(arena, request->undo);
    agent->last.files = chp_arena_calloc(arena, request->file_count + 1, sizeof(struct chp_file));
    for (size_t i = 0; i < request->file_count; i++) {
        agent->last.files[i] = request->files[i];
        agent->last.files[i].name = chp_arena_strdup(arena, request->files[i].name);
        agent->last.files[i].content = chp_arena_bytes(arena, request->files[i].content);
    }
    if (agent->hold) {
        agent->on_reply = on_reply;
        agent->reply_user = user;
        (void)add_user(agent, user);
    } else {
        reply_now(agent, on_reply, user);
    }
}

static void double_watch(struct chp_agent *agent, const struct chp_uuid *operation,
                         chp_notice_fn *on_notice, void *user)
{
    struct double_user *added = add_user(agent, user);
    added->on_notice = on_notice;
    added->operation = *operation;
}

static void double_watch_events(struct chp_agent *agent, chp_event_fn *on_event, void *user)
{
    add_user(agent, user)->on_event = on_event;
}

static void remove_users(struct chp_agent *agent, const void *user, bool queries)
{
    size_t kept = 0;
    for (size_t i = 0; i < agent->user_count; i++) {
        if (agent->users[i].user != user || (agent->users[i].on_query != NULL) != queries) {
            agent->users[kept++] = agent->users[i];
        }
    }
    agent->user_count = kept;
}

static void double_unwatch(struct chp_agent *agent, void *user)
{
    remove_users(agent, user, false);
    if (agent->reply_user == user) {
        agent->on_reply = NULL;
    }
}

static void double_show(struct chp_agent *agent, const struct chp_show *show,
                        chp_show_fn *on_answer, void *user)
{
    agent->last.payload = chp_arena_bytes(&agent->arena, show->payload);
    agent->last.deadline_ms = show->deadline_ms;
    if (agent->reply_code != 0) {
        struct chp_error error;
        (void)chp_error_set(&error, agent->reply_code, "the double says no");
        on_answer(user, agent->reply_code, NULL, NULL, 0, &error);
        return;
    }
    add_user(agent, user)->on_answer = on_answer;
}

static void double_history(struct chp_agent *agent, const char *resource, size_t limit,
                           chp_json_fn *on_answer, void *user)
{
    struct chp_error error = {0};
    if (agent->reply_code != 0) {
        (void)chp_error_set(&error, agent->reply_code, "the double says no");
        on_answer(user, agent->reply_code, NULL, &error);
        return;
    }
    json_t *json = json_pack("{s:s, s:I}", "resource", resource, "limit", (json_int_t)limit);
    on_answer(user, 0, json, NULL);
    json_decref(json);
}

static void double_knowledge(struct chp_agent *agent, const struct chp_show *show,
                             chp_show_fn *on_answer, void *user)
{
    agent->last.type = NULL;
    double_show(agent, show, on_answer, user);
}

static void double_plan(struct chp_agent *agent, const struct chp_show *show, const char *type,
                        bool has_undo, chp_show_fn *on_answer, void *user)
{
    agent->last.type = chp_arena_printf(&agent->arena, "%s%s", type, has_undo ? " undo" : "");
    double_show(agent, show, on_answer, user);
}

static void double_resolve(struct chp_agent *agent, const struct chp_resolve *resolve,
                           const char *site, uint64_t timeout_ms, chp_resolve_fn *on_done,
                           void *user)
{
    agent->resolves++;
    agent->resolve = *resolve;
    agent->resolve.principal = chp_arena_strdup(&agent->arena, resolve->principal);
    agent->resolve_timeout_ms = timeout_ms;
    on_done(user, agent->reply_code,
            agent->reply_code == 0        ? NULL
            : strcmp(site, "Rennes") == 0 ? "Rennes says no"
                                          : "no");
}

static void double_query(struct chp_agent *agent, enum chp_query query, const char *const *params,
                         size_t param_count, chp_query_fn *on_answer, void *user)
{
    agent->queries++;
    if (agent->hold_queries) {
        struct double_user *added = add_user(agent, user);
        added->on_query = on_answer;
        added->query = query;
        (void)snprintf(added->param, sizeof added->param, "%s", param_count > 0 ? params[0] : "");
        return;
    }
    struct chp_error error = {0};
    if (agent->query_code != 0) {
        (void)chp_error_set(&error, agent->query_code, "the database does not answer");
    }
    on_answer(user, agent->query_code, agent->query_code == 0 ? agent->answers[query] : NULL,
              &error);
}

static void double_query_cancel(struct chp_agent *agent, void *user)
{
    remove_users(agent, user, true);
}

static void double_dead(struct chp_agent *agent, enum chp_dead_action action, const char *id,
                        chp_dead_fn *on_done, void *user)
{
    struct chp_dead_letter letter = {.id = "00112233aabbccdd",
                                     .reason = "malformed",
                                     .queue = "cheops.Nantes.requests",
                                     .routing_key = "request",
                                     .exchange = "cheops.site.Nantes",
                                     .message_id = "",
                                     .at_ms = 1700000000000,
                                     .body = chp_bytes("\xff\x00z", 3)};
    struct chp_error error = {0};
    agent->dead_calls++;
    if (agent->hold) {
        agent->on_dead = on_done;
        agent->dead_user = user;
        return;
    }
    bool known = action == CHP_DEAD_LIST || strcmp(id, letter.id) == 0;
    if (!known) {
        (void)chp_error_set(&error, CHP_ENOTFOUND, "no dead letter %s", id);
    }
    on_done(user, known ? 0 : CHP_ENOTFOUND, &letter, known ? 1 : 0, &error);
}

static int double_check(struct chp_agent *agent, const char *driver, struct chp_bytes payload,
                        const struct chp_file *files, size_t file_count, struct chp_error *error)
{
    (void)driver;
    (void)files;
    (void)file_count;
    static const char word[] = "forbidden";
    if (memmem(payload.data, payload.len, word, sizeof word - 1) != NULL) {
        return chp_error_set(error, CHP_EFORBIDDEN, "forbidden is not on the allow-list");
    }
    return agent->shell_refused
               ? chp_error_set(error, CHP_EFORBIDDEN, "rm is not on the allow-list")
               : 0;
}

static json_t *double_sites(struct chp_agent *agent)
{
    (void)agent;
    return json_pack("[{s:s, s:b, s:n, s:s, s:n, s:n, s:n, s:n, s:i, s:s, s:[]}, "
                     "{s:s, s:b, s:s, s:s, s:s, s:s, s:f, s:i, s:i, s:s, "
                     "s:[{s:s, s:i, s:i, s:i, s:i}]}]",
                     "site", "Nantes", "self", 1, "link", "state", "up", "since", "heard_at",
                     "round_trip_ms", "clock_offset_ms", "version", 1, "software", "0.1.0",
                     "streams", "site", "Rennes", "self", 0, "link", "shovel", "state", "down",
                     "since", "2026-11-24T03:32:03.123Z", "heard_at", "2026-11-24T03:32:03.123Z",
                     "round_trip_ms", 1.5, "clock_offset_ms", -2, "version", 1, "software", "0.1.0",
                     "streams", "key", "operation", "mark", 3, "sent", 4, "last", 7, "messages", 1);
}

static json_t *double_scope_explain(struct chp_agent *agent, const char *scope,
                                    struct chp_error *error)
{
    (void)agent;
    if (strcmp(scope, "Nantes") != 0) {
        (void)chp_error_set(error, CHP_EINVAL, "unknown site at character 1");
        return NULL;
    }
    return json_pack("{s:s, s:{s:s, s:s}, s:[s], s:[s]}", "scope", scope, "tree", "kind", "site",
                     "name", "Nantes", "sites", "Nantes", "why", "Nantes: named");
}

static json_t *double_doctor(struct chp_agent *agent, const struct chp_doctor_facts *facts)
{
    CHP_ASSERT(facts->streams == NULL || json_is_array(facts->streams));
    CHP_ASSERT(facts->dead == NULL || json_is_array(facts->dead));
    return json_pack("[{s:s, s:b, s:s, s:n}, {s:s, s:b, s:s, s:s}]", "check", "broker", "ok", 1,
                     "detail", "up", "advice", "check", "database", "ok", agent->down ? 0 : 1,
                     "detail", "as said", "advice", "start it");
}

static int double_ready(struct chp_agent *agent, struct chp_error *error)
{
    return agent->down ? chp_error_set(error, CHP_EUNAVAILABLE, "the database is away") : 0;
}

static const struct chp_metrics *double_metrics(struct chp_agent *agent)
{
    return &agent->metrics;
}

static struct chp_metrics *double_metrics_mutable(struct chp_agent *agent)
{
    return &agent->metrics;
}

/* --- its blobs --------------------------------------------------------------------------- */

struct chp_blob_writer {
    struct chp_agent *agent;
    struct chp_sha256_state *state;
    uint64_t size;
};

static int double_blob_begin(struct chp_agent *agent, struct chp_blob_writer **writer,
                             struct chp_error *error)
{
    if (agent->blob_fails) {
        return chp_error_set(error, CHP_EIO, "the disk is full");
    }
    *writer = chp_alloc(sizeof **writer);
    (*writer)->agent = agent;
    (*writer)->state = chp_sha256_new();
    agent->blob_open++;
    return 0;
}

static int double_blob_write(struct chp_blob_writer *writer, const void *data, size_t len,
                             struct chp_error *error)
{
    if (writer->agent->blob_fails) {
        return chp_error_set(error, CHP_EIO, "the disk is full");
    }
    chp_sha256_update(writer->state, data, len);
    writer->size += len;
    return 0;
}

static int double_blob_finish(struct chp_blob_writer *writer, struct chp_sha256 *sha256,
                              uint64_t *size, struct chp_error *error)
{
    (void)error;
    *sha256 = chp_sha256_finish(writer->state);
    *size = writer->size;
    writer->agent->blob_open--;
    writer->agent->blob_finished++;
    writer->agent->blob_bytes += writer->size;
    writer->agent->blob_sha256 = *sha256;
    free(writer);
    return 0;
}

static void double_blob_abort(struct chp_blob_writer *writer)
{
    if (writer != NULL) {
        chp_sha256_free(writer->state);
        writer->agent->blob_open--;
        free(writer);
    }
}

static bool double_blob_have(struct chp_agent *agent, const struct chp_sha256 *sha256,
                             uint64_t *size)
{
    (void)sha256;
    *size = 123456;
    return agent->blob_known;
}

const struct chp_agent_vtable *double_vtable(void)
{
    static const struct chp_agent_vtable vtable = {
        .site = double_site,
        .submit = double_submit,
        .watch = double_watch,
        .watch_events = double_watch_events,
        .unwatch = double_unwatch,
        .show = double_show,
        .history = double_history,
        .knowledge = double_knowledge,
        .plan = double_plan,
        .resolve = double_resolve,
        .query = double_query,
        .query_cancel = double_query_cancel,
        .dead = double_dead,
        .check = double_check,
        .sites = double_sites,
        .scope_explain = double_scope_explain,
        .doctor = double_doctor,
        .ready = double_ready,
        .metrics = double_metrics,
        .metrics_mutable = double_metrics_mutable,
        .blob_begin = double_blob_begin,
        .blob_write = double_blob_write,
        .blob_finish = double_blob_finish,
        .blob_abort = double_blob_abort,
        .blob_have = double_blob_have,
    };
    return &vtable;
}

void double_deinit(struct chp_agent *agent)
{
    chp_arena_deinit(&agent->arena);
}

static void tell(struct chp_agent *agent, const struct chp_notice *notice)
{
    for (size_t i = 0; i < agent->user_count; i++) {
        if (agent->users[i].on_notice != NULL) {
            agent->users[i].on_notice(agent->users[i].user, notice);
        }
    }
}

void double_notice(struct chp_agent *agent, const char *site, enum chp_state state,
                   const char *output)
{
    struct chp_notice notice = {.operation = agent->last.id,
                                .resource = agent->last.resource,
                                .member_count = 3,
                                .elapsed_ms = 7,
                                .ack = {.operation = agent->last.id,
                                        .resource = agent->last.resource,
                                        .site = site,
                                        .run = 1,
                                        .state = state,
                                        .exit_code = state == CHP_STATE_DONE ? 0 : 3,
                                        .reason = state == CHP_STATE_FAILED ? "exit code 3" : NULL,
                                        .output = chp_bytes_of(output),
                                        .started_ms = 1700000000000,
                                        .duration_ms = 5}};
    tell(agent, &notice);
}

void double_missed(struct chp_agent *agent)
{
    tell(agent, NULL);
}

void double_completed(struct chp_agent *agent, bool failed)
{
    struct chp_notice notice = {.operation = agent->last.id,
                                .resource = agent->last.resource,
                                .completed = true,
                                .failed = failed,
                                .answered = 3,
                                .member_count = 3};
    tell(agent, &notice);
}

void double_event(struct chp_agent *agent, uint64_t number)
{
    char json[64];
    (void)snprintf(json, sizeof json, "{\"number\": %llu, \"kind\": \"site.up\"}",
                   (unsigned long long)number);
    for (size_t i = 0; i < agent->user_count; i++) {
        if (agent->users[i].on_event != NULL) {
            agent->users[i].on_event(agent->users[i].user, number, "site.up", json);
        }
    }
}

void double_answer_query(struct chp_agent *agent, const char *json)
{
    for (size_t i = 0; i < agent->user_count; i++) {
        if (agent->users[i].on_query != NULL) {
            struct double_user asked = agent->users[i];
            agent->user_count--;
            memmove(&agent->users[i], &agent->users[i + 1], (agent->user_count - i) * sizeof asked);
            asked.on_query(asked.user, 0, json, NULL);
            return;
        }
    }
    CHP_ASSERT(!"no query is held back");
}

/* --- the client -------------------------------------------------------------------------- */

static void client_on_input(evutil_socket_t fd, short what, void *user)
{
    struct client *client = user;
    char data[16384];
    (void)what;
    ssize_t n = recv(fd, data, sizeof data, MSG_DONTWAIT);
    if (n > 0) {
        chp_buf_add(&client->in, data, (size_t)n);
    } else if (n == 0 || errno != EAGAIN) {
        client->closed = true;
        (void)event_del(client->event);
    }
}

static struct client *client_of(struct event_base *base, int fd, const struct sockaddr *address,
                                socklen_t size)
{
    struct client *client = chp_alloc(sizeof *client);
    CHP_ASSERT(fd >= 0);
    CHP_ASSERT(connect(fd, address, size) == 0);
    CHP_ASSERT(evutil_make_socket_nonblocking(fd) == 0);
    client->base = base;
    client->fd = fd;
    client->event = event_new(base, fd, EV_READ | EV_PERSIST, client_on_input, client);
    CHP_ASSERT(event_add(client->event, NULL) == 0);
    return client;
}

struct client *client_new(struct event_base *base, unsigned port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return client_of(base, socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&address,
                     sizeof address);
}

struct client *client_new_unix(struct event_base *base, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    return client_of(base, socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&address,
                     sizeof address);
}

void client_free(struct client *client)
{
    event_free(client->event);
    (void)close(client->fd);
    chp_buf_deinit(&client->in);
    free(client);
}

void client_pause(struct client *client, bool paused)
{
    (void)(paused ? event_del(client->event) : event_add(client->event, NULL));
}

void loop_run(struct event_base *base, unsigned ms)
{
    struct timeval patience = {(time_t)(ms / 1000), (suseconds_t)(ms % 1000 * 1000)};
    (void)event_base_loopexit(base, &patience);
    (void)event_base_dispatch(base);
}

void client_send(struct client *client, const void *data, size_t len)
{
    const char *at = data;
    while (len > 0 && !client->closed) {
        ssize_t n = send(client->fd, at, len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0) {
            at += n;
            len -= (size_t)n;
        } else if (n < 0 && errno != EAGAIN) {
            return;
        }
        (void)event_base_loop(client->base, EVLOOP_NONBLOCK);
    }
}

void client_say(struct client *client, const char *format, ...)
{
    char text[8192];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    CHP_ASSERT(len >= 0 && (size_t)len < sizeof text);
    client_send(client, text, (size_t)len);
}

bool client_sees(struct client *client, const char *text, unsigned timeout_ms)
{
    uint64_t end_ms = chp_clock_mono_ms() + timeout_ms;
    while (strstr(client_text(client), text) == NULL) {
        if (client->closed || chp_clock_mono_ms() >= end_ms) {
            return strstr(client_text(client), text) != NULL;
        }
        loop_run(client->base, 2);
    }
    return true;
}

bool client_closes(struct client *client, unsigned timeout_ms)
{
    uint64_t end_ms = chp_clock_mono_ms() + timeout_ms;
    while (!client->closed && chp_clock_mono_ms() < end_ms) {
        loop_run(client->base, 2);
    }
    return client->closed;
}

const char *client_text(const struct client *client)
{
    return chp_buf_text(&client->in);
}

void client_clear(struct client *client)
{
    chp_buf_clear(&client->in);
}
