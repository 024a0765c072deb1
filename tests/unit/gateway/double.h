/* SPDX-License-Identifier: AGPL-3.0-only */
/* A double of the agent: what the door asks is recorded, what it is answered is set by the test.
 * And a client on a real socket that runs on the door's own loop. */
#ifndef CHP_TEST_GATEWAY_DOUBLE_H
#define CHP_TEST_GATEWAY_DOUBLE_H

#include "base/buf.h"
#include "gateway/http_door.h"

enum { DOUBLE_USERS_MAX = 64 };

/* One subscription or call that is on its way. */
struct double_user {
    void *user;
    chp_notice_fn *on_notice;
    chp_event_fn *on_event;
    chp_show_fn *on_answer;
    chp_query_fn *on_query;
    enum chp_query query;
    char param[128]; /* the query's first */
    struct chp_uuid operation;
};

struct chp_agent {
    struct chp_metrics metrics;
    struct double_user users[DOUBLE_USERS_MAX];
    size_t user_count;
    /* Requests. */
    size_t submits;
    struct chp_request last; /* texts are copies */
    struct chp_arena arena;
    chp_reply_fn *on_reply; /* waits when hold is set */
    void *reply_user;
    bool hold;
    int reply_code;
    bool duplicate;
    bool shell_refused; /* check says no */
    /* Queries: NULL means no such row; a code other than 0 an error; held back when hold_queries.
     */
    const char *answers[CHP_QUERY_COUNT];
    int query_code;
    bool hold_queries;
    size_t queries;
    bool down;
    /* Blobs. */
    size_t blob_open;
    size_t blob_finished;
    uint64_t blob_bytes;
    struct chp_sha256 blob_sha256;
    bool blob_fails;
    bool blob_known;
    size_t resolves;
    struct chp_resolve resolve; /* the last; principal is a copy */
    uint64_t resolve_timeout_ms;
    size_t dead_calls;
    chp_dead_fn *on_dead;
    void *dead_user;
};

const struct chp_agent_vtable *double_vtable(void);
void double_deinit(struct chp_agent *agent);
/* Tells every watcher of an operation that a site ended. */
void double_notice(struct chp_agent *agent, const char *site, enum chp_state state,
                   const char *output);
void double_completed(struct chp_agent *agent, bool failed);
/* Tells every watcher that it may have missed some. */
void double_missed(struct chp_agent *agent);
void double_event(struct chp_agent *agent, uint64_t number);
/* Answers the oldest query that is held back. */
void double_answer_query(struct chp_agent *agent, const char *json);

struct client {
    struct event_base *base;
    int fd;
    struct chp_buf in;
    struct event *event;
    bool closed;
    bool paused; /* does not read */
};

struct client *client_new(struct event_base *base, unsigned port);
struct client *client_new_unix(struct event_base *base, const char *path);
void client_free(struct client *client);
void client_pause(struct client *client, bool paused);
/* Sends all, running the loop as needed. */
void client_send(struct client *client, const void *data, size_t len);
void client_say(struct client *client, const char *format, ...) CHP_PRINTF(2, 3);
/* Runs the loop until the text has come, the connection has closed or about timeout_ms are over;
 * whether it has come. */
bool client_sees(struct client *client, const char *text, unsigned timeout_ms);
bool client_closes(struct client *client, unsigned timeout_ms);
/* Runs the loop for a while. */
void loop_run(struct event_base *base, unsigned ms);
const char *client_text(const struct client *client);
/* Forgets what has come. */
void client_clear(struct client *client);

#endif
