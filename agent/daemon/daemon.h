/* SPDX-License-Identifier: AGPL-3.0-only */
/* What the daemon's files share: the agent, and the parts that it is wired from. */
#ifndef CHP_DAEMON_DAEMON_H
#define CHP_DAEMON_DAEMON_H

#include "base/backoff.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "blob/blob.h"
#include "config/config.h"
#include "engine/engine.h"
#include "gateway/http_door.h"
#include "port/agent.h"
#include "port/driver.h"
#include "wire/wire.h"

#include <event2/event.h>

enum {
    TICK_MS = 1000,
    DRIVERS = 2,
};

struct high_water;
struct sender;
struct inbound_messages;
struct executor;
struct watchers;
struct publisher;
struct replies;
struct shows;
struct sweep;
struct census;
struct resolves;
struct histories;

/* A request on its way to its reply. */
struct submission {
    struct chp_list link;
    struct chp_arena arena; /* of the copy of the request */
    uint64_t ticket;
    struct chp_request request;
    bool offered; /* to the engine of now */
    chp_reply_fn *on_reply;
    void *user;
    size_t bytes; /* of the request, as counted in submission_bytes */
    bool is_amqp; /* survives an outage of the store; others are told */
};

struct chp_agent {
    struct event_base *base;
    const struct chp_config *config; /* of the start */
    const struct chp_config *policy; /* the latest: what a reload changes is read here */
    struct chp_metrics metrics;
    uint64_t started_us;

    struct chp_engine_config engine_config;
    struct chp_engine *engine; /* NULL while the store is away */
    bool engine_started;
    struct high_water *high_water;
    uint64_t serial;                /* of the last batch that was submitted with writes */
    const char *regressed;          /* why the next engine begins a new life, or NULL */
    uint64_t regressed_incarnation; /* it is higher than this */
    struct chp_store *store;        /* NULL until the schema fits */
    struct chp_broker *broker;
    bool broker_blocked;
    char broker_problem[CHP_ERROR_TEXT_BYTES];
    char store_problem[CHP_ERROR_TEXT_BYTES];
    struct chp_blobs *blobs;
    struct chp_driver *drivers[DRIVERS];
    struct chp_http_door *door;
    struct chp_agent_port port;

    struct chp_effects *open;      /* what the engine adds to */
    struct chp_effects *in_flight; /* submitted, or NULL */
    struct event *turn;            /* runs at the end of a loop turn in which something was added */
    struct event *tick;
    struct event *beat;
    struct event *away;     /* the store has been away for so long that messages go back */
    uint64_t store_lost_ms; /* wall clock; 0 while it is there */
    uint64_t blocked_ms;    /* the broker's alarm since, wall clock; 0: none */
    uint64_t broker_lost_ms;

    struct chp_list submissions;
    bool stopping; /* nothing new is taken through the HTTP door */
    size_t submission_count;
    size_t submission_bytes;
    uint64_t last_ticket;

    struct sender *sender;
    struct inbound_messages *inbound;
    struct executor *executor;
    struct watchers *watchers;
    struct publisher *publisher;
    struct replies *replies;
    struct shows *shows;
    struct sweep *sweep;
    struct census *census;
    struct resolves *resolves;
    struct histories *histories;
};

/* turn.c: the turn of the loop (agent/doc/architecture.md) */
struct chp_now turn__now(void);
/* Steps the engine; what follows happens when the batch of this turn has committed. No engine: does
 * nothing. */
void turn__step(struct chp_agent *agent, struct chp_event *event);
/* Something was added to agent->open: submit it at the end of this turn. */
void turn__arm(struct chp_agent *agent);
void turn__init(struct chp_agent *agent);
void turn__store_on_up(void *user);
void turn__store_on_down(void *user, const struct chp_error *error);
void turn__deinit(struct chp_agent *agent);

/* submit.c: requests from the doors */
/* Copies request. on_reply comes once, later. */
void submit__request(struct chp_agent *agent, const struct chp_request *request, bool is_amqp,
                     chp_reply_fn *on_reply, void *user);
void submit__reply(struct chp_agent *agent, uint64_t ticket, const struct chp_reply *reply);
/* A new engine has started: offers what was not answered. */
void submit__offer_all(struct chp_agent *agent);
/* The store went away: whoever waits over HTTP is told. */
void submit__store_lost(struct chp_agent *agent);
/* Forgets the requests of the AMQP door: their messages have gone back to the broker. */
void submit__give_back(struct chp_agent *agent);
/* user is no longer there: its replies go nowhere. */
void submit__forget(struct chp_agent *agent, const void *user);
void submit__deinit(struct chp_agent *agent);

/* sender.c: the streams towards other sites */
struct sender *sender__new(struct chp_agent *agent);
void sender__free(struct sender *sender);
/* The engine was thrown away: forget everything until STARTED. */
void sender__reset(struct sender *sender);
void sender__started(struct sender *sender, const char *site, enum chp_key key, uint64_t mark,
                     uint64_t last);
void sender__item(struct sender *sender, const char *site, enum chp_key key, uint64_t number,
                  struct chp_bytes item);
void sender__mark(struct sender *sender, const char *site, enum chp_key key, uint64_t mark);
void sender__resend(struct sender *sender, const char *site, enum chp_key key, uint64_t after);
void sender__loaded(struct sender *sender, const struct chp_load *load);
/* Publishes what may go now. */
void sender__pump(struct sender *sender);
void sender__settled(struct sender *sender, uint64_t token, enum chp_outcome outcome);
/* About every second: asks receivers that have not moved whether they lack something. */
void sender__tick(struct sender *sender);
/* One unnumbered item, now or never. */
int sender__control(struct chp_agent *agent, const char *site, enum chp_key key,
                    const struct chp_item *item, uint64_t expiration_ms);
int sender__control_bytes(struct chp_agent *agent, const char *site, enum chp_key key,
                          struct chp_bytes item, uint64_t expiration_ms);
void sender__beats(struct chp_agent *agent);
/* [{"key", "mark", "last", "sent", "messages"}] of the streams to site: new reference. */
json_t *sender__streams(struct sender *sender, const char *site);
/* For how long nothing has moved of what waits for site. */
uint64_t sender__still_ms(struct sender *sender, const char *site);

/* inbound.c: messages from the queues, until they are acked */
struct inbound_messages *inbound__new(struct chp_agent *agent);
void inbound__free(struct inbound_messages *inbound);
void inbound__on_delivery(void *user, const struct chp_delivery *delivery);
void inbound__settle(struct inbound_messages *inbound, uint64_t delivery);
/* Dead-letters one item of a message, which is acked when that is confirmed. */
void inbound__dead_item(struct inbound_messages *inbound, uint64_t delivery, const char *reason,
                        struct chp_bytes item);
/* Publishes an answer to who sent an item; its message is acked when the broker has that. */
void inbound__answer(struct inbound_messages *inbound, uint64_t delivery, const char *reply_to,
                     const char *correlation_id, struct chp_bytes body);
/* Forgets everything, unsettled: the broker has it, or gets it back. No engine has started. */
void inbound__drop_all(struct inbound_messages *inbound);
/* A new engine has started: gives it what was not settled, and what was kept undecoded. */
void inbound__offer_all(struct inbound_messages *inbound);
/* A page of what was kept. */
void inbound__stored(struct inbound_messages *inbound, const struct chp_load *load);
/* Dead letters and answers. Returns whether token was one. */
bool inbound__settled(struct inbound_messages *inbound, uint64_t token, enum chp_outcome outcome);
/* The broker is back or has room: publishes dead letters and answers that wait. */
void inbound__pump(struct inbound_messages *inbound);

/* door_amqp.c: the public door on the broker */
/* What the request queue brought. Takes nothing; hold is given back to inbound__settle when it is
 * safe. */
void door_amqp__on_request(struct chp_agent *agent, const struct chp_delivery *delivery,
                           struct chp_arena *arena, struct chp_bytes body, uint64_t hold);

/* execute.c: runs */
struct executor *executor__new(struct chp_agent *agent);
void executor__free(struct executor *executor);
void executor__run(struct executor *executor, struct chp_bytes item, uint32_t run, bool undo,
                   bool resume);
void executor__fetch(struct executor *executor, struct chp_bytes item);
void executor__forget(struct executor *executor, const struct chp_uuid *operation, uint32_t run,
                      const char *driver);
/* A run that was started here and is not forgotten. */
bool executor__knows(const struct executor *executor, const struct chp_uuid *operation,
                     uint32_t run);
struct chp_driver *executor__driver(struct chp_agent *agent, const char *name);

/* census.c: how many replicas are in trouble, for metrics. Free it while the store is there. */
struct census *census__new(struct chp_agent *agent);
void census__free(struct census *census);
/* Every tick. */
void census__tick(struct census *census);

/* sweep.c: what drivers keep of runs that have ended */
struct sweep *sweep__new(struct chp_agent *agent);
void sweep__free(struct sweep *sweep);
/* The engine was thrown away, and what was asked with it. */
void sweep__reset(struct sweep *sweep);
/* About every second. */
void sweep__tick(struct sweep *sweep);
/* Returns whether the load was one of its own. */
bool sweep__loaded(struct sweep *sweep, const struct chp_load *load);

/* watch.c: who wants to know */
struct watchers *watchers__new(void);
void watchers__free(struct watchers *watchers);
/* Not bounded here: one for each connection of the HTTP door, and the AMQP door counts its own. */
void watchers__add(struct watchers *watchers, const struct chp_uuid *operation,
                   chp_notice_fn *on_notice, void *user);
void watchers__add_events(struct watchers *watchers, chp_event_fn *on_event, void *user);
void watchers__remove(struct watchers *watchers, const void *user);
/* notice is NULL, for every operation, when an engine has started anew: what the one before had
 * committed may never have been told. */
void watchers__notice(struct watchers *watchers, const struct chp_notice *notice);
/* Whether anybody does. */
bool watchers__follow_events(const struct watchers *watchers);
void watchers__event(struct watchers *watchers, uint64_t number, const char *kind,
                     const char *json);

/* publisher.c: rows of events to their exchange and to watchers */
struct publisher *publisher__new(struct chp_agent *agent);
void publisher__free(struct publisher *publisher);
void publisher__reset(struct publisher *publisher);
void publisher__started(struct publisher *publisher, uint64_t published, uint64_t last);
/* A CHP_WRITE_EVENT that has committed. */
void publisher__event(struct publisher *publisher, const struct chp_write *write);
void publisher__loaded(struct publisher *publisher, const struct chp_load *load);
void publisher__pump(struct publisher *publisher);
bool publisher__settled(struct publisher *publisher, uint64_t token, enum chp_outcome outcome);
void publisher__tick(struct publisher *publisher);

/* replies.c: rows of replies to the queues of clients of the AMQP door */
struct replies *replies__new(struct chp_agent *agent);
void replies__free(struct replies *replies);
/* The engine was thrown away: forget everything until started. */
void replies__reset(struct replies *replies);
/* last: the highest number that there is. */
void replies__started(struct replies *replies, uint64_t last);
/* One was committed. */
void replies__add(struct replies *replies, const struct chp_reply_row *row);
void replies__loaded(struct replies *replies, const struct chp_load *load);
/* Publishes what may go now. */
void replies__pump(struct replies *replies);
void replies__settled(struct replies *replies, uint64_t token, enum chp_outcome outcome);
void replies__tick(struct replies *replies);

/* show.c: reading commands on every site of a resource */
struct shows *shows__new(struct chp_agent *agent);
void shows__free(struct shows *shows);
void shows__start(struct shows *shows, const struct chp_show *show, chp_show_fn *on_answer,
                  void *user);
void shows__forget(struct shows *shows, const void *user);
/* From the control queue. */
void shows__on_show(struct shows *shows, const char *from, const struct chp_show *show);
void shows__on_answer(struct shows *shows, const char *from, const struct chp_answer *answer);

/* history.c: what this site knows of a resource, and what a new operation would do */
struct histories *histories__new(struct chp_agent *agent);
/* Before shows__free: who waits is not told. */
void histories__free(struct histories *histories);
void histories__start(struct histories *histories, const char *resource, size_t limit,
                      chp_json_fn *on_answer, void *user);
/* Of show only id, resource, principal and deadline are looked at, as in the next. */
void histories__knowledge(struct histories *histories, const struct chp_show *show,
                          chp_show_fn *on_answer, void *user);
void histories__plan(struct histories *histories, const struct chp_show *show, const char *type,
                     bool has_undo, chp_show_fn *on_answer, void *user);
void histories__forget(struct histories *histories, const void *user);
/* The engine was thrown away, and what was asked with it. */
void histories__reset(struct histories *histories);
/* A show for the agent itself, of this or another site. on_done may come from inside the call. */
void histories__serve(struct histories *histories, const struct chp_show *show,
                      chp_completion_fn *on_done, void *user);
/* Returns whether the load was one of its own. */
bool histories__loaded(struct histories *histories, const struct chp_load *rows);

/* doctor.c: port/agent.h */
json_t *doctor__check(struct chp_agent *agent, const struct chp_doctor_facts *facts);

/* resolve.c: executions in doubt, here and at other sites */
struct resolves *resolves__new(struct chp_agent *agent);
void resolves__free(struct resolves *resolves);
void resolves__start(struct resolves *resolves, const struct chp_resolve *resolve, const char *site,
                     uint64_t timeout_ms, chp_resolve_fn *on_done, void *user);
void resolves__forget(struct resolves *resolves, const void *user);
/* The engine's answer, committed. */
void resolves__done(struct resolves *resolves, uint64_t ticket, int code, const char *error);
void resolves__store_lost(struct resolves *resolves);
/* From the control queue. */
void resolves__on_resolve(struct resolves *resolves, const char *from,
                          const struct chp_resolve *resolve);
void resolves__on_resolved(struct resolves *resolves, const char *from,
                           const struct chp_resolved *resolved);

/* agent_port.c, report.c */
extern const struct chp_agent_vtable agent_port__vtable;
/* What is to be said of the wire versions of a site, "" when all is well. */
void report__version_problem(const struct chp_peer_view *view, char *text, size_t size);
json_t *report__sites(struct chp_agent *agent);
json_t *report__scope(struct chp_agent *agent, const char *text, struct chp_error *error);
int report__ready(struct chp_agent *agent, struct chp_error *error);

/* Tokens of publications and loads: what is to be told of the outcome. The high byte says whose; a
 * load of the engine's has none. */
enum {
    TOKEN_STREAM = 1,
    TOKEN_DEAD = 2,
    TOKEN_EVENT = 3,
    TOKEN_REPLY = 4,
    TOKEN_SWEEP = 5,
    TOKEN_HISTORY = 6,
    TOKEN_SHIFT = 56,
};
static inline uint64_t token_of(unsigned owner, uint64_t value)
{
    return (uint64_t)owner << TOKEN_SHIFT | value;
}

#endif
