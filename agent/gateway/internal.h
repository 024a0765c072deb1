/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * What the files of the gateway share: the door, its connections, and exchanges (one request and
 * its answer).
 *
 * An exchange goes head -> body -> handling -> (streaming ->) answered -> over. Callbacks of the
 * agent carry the exchange; they may come in any stage, so every handler looks at it first. Nothing
 * dies inside a callback: what is over is freed at the end of the loop's turn.
 */
#ifndef CHP_GATEWAY_INTERNAL_H
#define CHP_GATEWAY_INTERNAL_H

#include "base/backoff.h"
#include "base/list.h"
#include "gateway/http_door.h"
#include "gateway/json.h"
#include "gateway/multipart.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/http.h>
#include <event2/http_struct.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>

enum {
    GATEWAY_HEADERS_MAX_BYTES = 32 * 1024,
    GATEWAY_CHUNK_MAX_BYTES = 1024 * 1024, /* of transfer-encoding: evhttp holds a chunk whole */
    GATEWAY_INPUT_MAX_BYTES = 2 * GATEWAY_CHUNK_MAX_BYTES, /* unread bytes of one connection */
    GATEWAY_BACKLOG_BYTES =
        512 * 1024, /* unsent bytes at which a stream pauses; it goes on from the store */
    GATEWAY_OUTPUT_MAX_BYTES = 4 * 1024 * 1024, /* unsent bytes at which a stream is closed */
    GATEWAY_SURPLUS_MAX = 64,                   /* connections over the bound that are told so */
    GATEWAY_HEARTBEAT_MS = 15 * 1000,           /* comments that keep event streams open */
    GATEWAY_EXEC_TIMEOUT_MS = 20 * 1000,        /* of the prototype's forms */
    GATEWAY_WAIT_DEFAULT_MS = 60 * 1000,
    GATEWAY_RETRY_FIRST_MS = 1000, /* of what a stream asks of the store */
    GATEWAY_RETRY_MAX_MS = 10 * 1000,
    GATEWAY_RESOLVE_TIMEOUT_MS = 30 * 1000,
    GATEWAY_LINGER_MS = 2 * 1000,
    GATEWAY_LINGER_MAX_BYTES = 4 * 1024 * 1024,
    GATEWAY_PAGE_DEFAULT = 100,
    GATEWAY_PAGE_MAX = 1000,
    GATEWAY_HISTORY_DEFAULT = 200,
    GATEWAY_HISTORY_MAX = 5000,
};

/* The store takes numbers of at most 18 digits. */
#define GATEWAY_EVENT_MAX 999999999999999999ULL

struct gateway_route;
struct gateway_exchange;

struct gateway_token {
    char *principal;
    struct chp_sha256 hash; /* of the token: compared in constant time, whatever its length */
};

/* What a reload replaces. */
struct gateway_policy {
    struct gateway_token *tokens;
    size_t token_count;
    char **hosts;
    size_t host_count;
    unsigned *uids;
    size_t uid_count;
};

struct chp_http_door {
    struct event_base *base;
    struct evhttp *http;
    struct chp_agent_port port;
    struct gateway_policy policy;
    char *socket_path;
    bool stopping;
    struct evconnlistener *tcp;
    struct evconnlistener *local;
    unsigned tcp_port;
    size_t connections_max;
    uint64_t body_max_bytes;
    uint64_t json_max_bytes;
    uint64_t idle_timeout_ms;
    uint64_t exec_timeout_ms;
    uint64_t heartbeat_ms;
    uint64_t started_us; /* monotonic */
    size_t connection_count;
    struct chp_list connections; /* adopted */
    struct chp_list fresh;       /* accepted in this turn */
    struct chp_list touched;     /* connections that need the end of the turn */
    struct chp_list over;        /* to be freed at the end of the turn */
    struct chp_list lingering;
    struct event *settle; /* end of the turn */
    struct event *sweep;  /* every second or less */
};

struct gateway_connection {
    struct chp_list node;
    struct chp_list touched;
    struct chp_http_door *door;
    struct bufferevent *bev;
    struct evhttp_connection *evcon;
    struct gateway_exchange *exchange; /* NULL between two */
    bool adopted;
    bool local;   /* unix socket */
    bool allowed; /* its peer may use it */
    bool surplus; /* over connections_max */
    bool doomed;  /* closed at the end of the turn */
    bool served;  /* has had an answer */
    unsigned uid;
};

enum gateway_stage {
    GATEWAY_HEAD,
    GATEWAY_BODY,
    GATEWAY_HANDLING,
    GATEWAY_STREAMING,
    GATEWAY_ANSWERED,
    GATEWAY_OVER,
};

struct gateway_exchange {
    uint32_t magic;
    enum gateway_stage stage;
    struct chp_list node; /* in door->over */
    struct chp_http_door *door;
    struct gateway_connection *connection; /* NULL when it is gone */
    struct evhttp_request *request;        /* NULL when over */
    const struct gateway_route *route;
    struct chp_arena arena;
    const char *principal;
    const char *id; /* {id} of the path, decoded; or NULL */
    struct evkeyvalq query;
    bool head; /* answered without a body */
    /* Set once something is wrong with the request: it is answered as soon as evhttp lets us. */
    int refused_status;
    struct chp_error refusal;
    const char *allow;    /* methods of the path, for 405 and OPTIONS */
    bool body_left;       /* the client may still be sending: answer, then linger and close */
    uint64_t progress_ms; /* monotonic: when something last moved */
    size_t input_seen;
    size_t output_seen;
    uint64_t body_bytes;
    struct chp_buf body;            /* JSON */
    struct chp_blob_writer *writer; /* raw body */
    struct gateway_form *form;
    bool asked;          /* the agent knows this exchange as a user */
    const char *wanted;  /* id of what a query is about, for the sentence that it is not here */
    uint64_t written_ms; /* streaming: last write */
    bool heartbeat;      /* streaming: comments when idle */
    void (*on_drained)(struct gateway_exchange *exchange); /* streaming: output is empty */
    void *state;                                           /* of the route */
    void (*state_free)(void *state);
};

/* http_door.c */
/* Looks at the connection at the end of the turn. */
void gateway__touch(struct gateway_connection *connection);

/* exchange.c */
/* Takes hold of the request that evhttp is about to read on the connection. */
void gateway__exchange_open(struct gateway_connection *connection);
/* The connection is gone: everything of the exchange is cancelled at once. */
void gateway__exchange_lost(struct gateway_exchange *exchange);
void gateway__exchange_free(struct gateway_exchange *exchange);
/* The exchange behind a user pointer, or NULL when it takes no answer any more. */
struct gateway_exchange *gateway__exchange_of(void *user);
void gateway__stage_set(struct gateway_exchange *exchange, enum gateway_stage stage);
/* Remembers what is wrong; the first one counts. status 0: that of the code. */
void gateway__refuse(struct gateway_exchange *exchange, int status, int code, const char *format,
                     ...) CHP_PRINTF(4, 5);

/* http_auth.c */
void gateway__policy_init(struct gateway_policy *policy, const struct chp_http_config *config);
void gateway__policy_deinit(struct gateway_policy *policy);
/* Foreign Host or Origin; refuses and returns a negative code. */
int gateway__check_origin(struct gateway_exchange *exchange) CHP_MUST_CHECK;
int gateway__authenticate(struct gateway_exchange *exchange) CHP_MUST_CHECK;
bool gateway__peer_allowed(const struct gateway_policy *policy, unsigned uid);

/* reply.c */
/* Takes json. */
void gateway__reply_json(struct gateway_exchange *exchange, int status, json_t *json);
void gateway__reply_text(struct gateway_exchange *exchange, int status, const char *content_type,
                         const void *data, size_t len);
void gateway__reply_error(struct gateway_exchange *exchange, int status, int code,
                          const char *text);
void gateway__reply_refusal(struct gateway_exchange *exchange);
void gateway__reply_allow(struct gateway_exchange *exchange); /* to OPTIONS */
/* Streams: false when the client is gone or lags too far behind (it is then closed). */
void gateway__stream_start(struct gateway_exchange *exchange, const char *content_type);
bool gateway__stream_write(struct gateway_exchange *exchange, const void *data, size_t len);
bool gateway__stream_json(struct gateway_exchange *exchange,
                          const json_t *json); /* and a newline */
void gateway__stream_end(struct gateway_exchange *exchange);
size_t gateway__stream_backlog(const struct gateway_exchange *exchange);

/* sse.c: json is one line; name or number may be absent (NULL, 0). */
void gateway__sse_start(struct gateway_exchange *exchange);
bool gateway__sse_write(struct gateway_exchange *exchange, const char *name, uint64_t number,
                        const char *json);

/* linger.c: after an answer that came before the whole request: a close with unread input would
 * reset the connection and could take the answer with it. */
void gateway__linger(struct chp_http_door *door, int fd);
void gateway__linger_free_all(struct chp_http_door *door);

/* Query parameters. NULL when absent. */
const char *gateway__param(const struct gateway_exchange *exchange, const char *name);
/* Absent: *value stays. Refuses what is not a number in min..max or not true/false. */
int gateway__param_number(struct gateway_exchange *exchange, const char *name, uint64_t min,
                          uint64_t max, uint64_t *value) CHP_MUST_CHECK;
int gateway__param_flag(struct gateway_exchange *exchange, const char *name,
                        bool *value) CHP_MUST_CHECK;
/* Idempotency-Key of the client, or a new one. */
int gateway__request_key(struct gateway_exchange *exchange,
                         struct chp_request *request) CHP_MUST_CHECK;
/* The JSON body; refuses what is not a JSON object. New reference, or NULL. */
json_t *gateway__body_json(struct gateway_exchange *exchange);

/* query.c: answers with what a query of the store gives. */
void gateway__query_reply(struct gateway_exchange *exchange, enum chp_query query,
                          const char *const *params, size_t count);
/* For what a stream asks of the store again and again while that is away. */
void gateway__retry_init(struct chp_backoff *backoff);
void gateway__retry_later(struct event *event, struct chp_backoff *backoff);

/* show.c. Answers by site: {state, exit_code, output, ...}, a silent site with state "timeout". */
typedef void gateway_show_fn(struct gateway_exchange *exchange, json_t *answers);
/* Asks every site of resource exchange->id; asked brings driver, payload and deadline. on_done
 * answers. */
void gateway__show(struct gateway_exchange *exchange, struct chp_show *asked,
                   gateway_show_fn *on_done);

/* The answers: whether two are the same, and the names of sites by equal answers, those of most
 * sites first: [["Nantes", "Rennes"], ["Paris"]], without silent sites. New reference. */
bool gateway__answers_equal(const json_t *a, const json_t *b);
json_t *gateway__answer_groups(const json_t *answers, struct chp_arena *arena);
/* The sites of answers by name, in arena, as many as there are; the strings are those of answers.
 */
const char **gateway__sites_sorted(const json_t *answers, struct chp_arena *arena);
/* Collects one answer more: true when that was all of them, and those of silent sites are in. */
bool gateway__answers_add(json_t *answers, const struct chp_answer *answer,
                          const char *const *sites, size_t site_count);

/* watch.c: tells what becomes of one operation, in one of three languages. */
enum gateway_language { GATEWAY_LINES, GATEWAY_SSE, GATEWAY_PROTOTYPE };
struct gateway_watch_options {
    enum gateway_language language;
    bool progress;       /* states that are not final, too */
    uint64_t timeout_ms; /* 0: none */
    const char *input;   /* PROTOTYPE: the command */
};
/* After an accepted reply, which it writes first (LINES). */
void gateway__watch_reply(struct gateway_exchange *exchange, const struct chp_reply *reply,
                          const struct gateway_watch_options *options);
/* An operation that is there already, or is not: 404. */
void gateway__watch_known(struct gateway_exchange *exchange, const struct chp_uuid *operation,
                          const struct gateway_watch_options *options);

/* form.c: the prototype's forms. */
struct gateway_form;
int gateway__form_begin(struct gateway_exchange *exchange, const char *content_type,
                        struct chp_error *error) CHP_MUST_CHECK;
int gateway__form_feed(struct gateway_form *form, const void *data, size_t len,
                       struct chp_error *error) CHP_MUST_CHECK;
int gateway__form_finish(struct gateway_form *form, struct chp_error *error) CHP_MUST_CHECK;
void gateway__form_free(struct gateway_form *form);
const char *gateway__form_field(const struct gateway_form *form, const char *name);
struct chp_file *gateway__form_files(struct gateway_form *form, size_t *count);

/* routes.c */
enum gateway_body { GATEWAY_NO_BODY, GATEWAY_JSON_BODY, GATEWAY_FORM_BODY, GATEWAY_RAW_BODY };
/* Answers, asks the agent for what its callback will answer with, or refuses. */
typedef void gateway_handler(struct gateway_exchange *exchange);
struct gateway_route {
    enum evhttp_cmd_type method;
    const char *pattern; /* "/v1/resources/{id}/show" */
    enum gateway_body body;
    bool open;          /* without authentication */
    const char *params; /* query parameters, separated by blanks, or NULL */
    gateway_handler *handle;
};
/* Finds the route of the exchange's request, authenticates, decodes {id}, checks the query's names.
 * Refuses and returns a negative code. */
int gateway__route(struct gateway_exchange *exchange) CHP_MUST_CHECK;

/* route_<name>.c */
gateway_handler gateway__operation_create;
gateway_handler gateway__operation_list;
gateway_handler gateway__operation_get;
gateway_handler gateway__operation_watch;
gateway_handler gateway__operation_resolve;
gateway_handler gateway__resource_list;
gateway_handler gateway__resource_get;
gateway_handler gateway__resource_history;
gateway_handler gateway__resource_plan;
gateway_handler gateway__resource_diff;
gateway_handler gateway__resource_show;
gateway_handler gateway__site_list;
gateway_handler gateway__event_list;
gateway_handler gateway__scope_explain;
gateway_handler gateway__dead_list;
gateway_handler gateway__dead_get;
gateway_handler gateway__dead_requeue;
gateway_handler gateway__dead_drop;
gateway_handler gateway__doctor;
gateway_handler gateway__blob_create;
gateway_handler gateway__status;
gateway_handler gateway__health;
gateway_handler gateway__ready;
gateway_handler gateway__metrics;
gateway_handler gateway__openapi;
gateway_handler gateway__prototype_exec;
gateway_handler gateway__prototype_show;

/* openapi_embedded.c, made from schema/openapi.json at build. */
extern const unsigned char gateway__openapi_json[];
extern const size_t gateway__openapi_json_bytes;

#endif
