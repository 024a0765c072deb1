/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * One AMQP connection that comes back by itself: connect, handshake, channel 1, topology, work;
 * after a loss a pause with backoff and jitter, and again. What the connection is for is its role's
 * business: the publishing and the consuming side plug in through struct broker__role.
 */
#ifndef CHP_BROKER_AMQP_CONNECTION_H
#define CHP_BROKER_AMQP_CONNECTION_H

#include "base/backoff.h"
#include "broker/amqp_codec.h"
#include "broker/amqp_message.h"

#include <event2/bufferevent.h>
#include <event2/event.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

/* name, text */
#define BROKER_STATES(X)                                                                           \
    X(CONNECTING, "connecting") /* TCP, and TLS */                                                 \
    X(HANDSHAKE, "handshake")   /* protocol header sent, waits for start */                        \
    X(TUNING, "tuning")         /* start-ok sent, waits for tune */                                \
    X(OPENING, "opening")       /* open sent, waits for open-ok */                                 \
    X(CHANNEL, "channel")       /* channel.open sent, waits for its ok */                          \
    X(TOPOLOGY, "topology")     /* declarations and the role's last call sent, waits for its ok */ \
    X(READY, "ready")                                                                              \
    X(CLOSING, "closing") /* an end was agreed on or asked for, waits for the broker */            \
    X(WAITING, "waiting") /* no connection, until the retry */

enum broker__state {
#define X(name, text) BROKER_STATE_##name,
    BROKER_STATES(X)
#undef X
};

/* How to reach the broker. Borrowed by the connections, owned by the broker. */
struct broker__target {
    struct sockaddr_storage address;
    int address_len;
    const char *user;
    const char *password;
    const char *vhost;
    SSL_CTX *tls; /* NULL: plain */
    const char *server_name;
    const char *product; /* shown by the broker's management */
    uint16_t heartbeat_s;
    uint64_t retry_min_ms;
    uint64_t retry_max_ms;
    size_t output_max_bytes;
};

struct broker__connection;

/* Every function is called from the event loop, never from inside a call of this module. */
struct broker__role {
    const char *name; /* for logs */
    /* Writes declarations, and at the start of a channel then the last call, whose reply is
     * ready_reply. */
    void (*declare)(void *user);
    void (*prepare)(void *user);
    amqp_method_number_t ready_reply;
    void (*on_ready)(void *user);
    /* The attempt or the connection is over, once for each; was_ready says which. */
    void (*on_lost)(void *user, bool was_ready, const struct chp_error *error);
    /* Methods of channels that carry no content; those of the connection itself are not passed on.
     * channel.close has been answered; on channel 1 it ends the connection and is not passed on. */
    void (*on_method)(void *user, uint16_t channel, const amqp_method_t *method);
    void (*on_message)(void *user, const struct broker__message *message);
    void (*on_blocked)(void *user, bool blocked, const char *reason);
    void (*on_writable)(void *user); /* output fell below half of output_max_bytes */
    void (*on_tick)(void *user);     /* while ready, every half heartbeat */
};

struct broker__connection {
    enum broker__state state;
    const struct broker__target *target;
    const struct broker__role *role;
    void *user;
    struct event_base *base;
    struct event *timer;  /* of the state: deadline, heartbeat, retry */
    struct event *reaper; /* frees what was lost at the end of the turn */
    struct bufferevent *stream;
    struct broker__codec codec;
    struct broker__message messages[BROKER_CHANNEL_MAX + 1];
    bool blocked;
    bool held; /* nothing is read while ready */
    bool lost_told;
    struct chp_backoff retry; /* since the last connection that lasted */
    struct chp_backoff redeclare;
    uint64_t redeclare_ms; /* not before, monotonic as the others */
    uint64_t ready_ms;
    uint64_t heard_ms;
    uint64_t declared_ms;
    uint64_t interval_ms; /* of heartbeats, as agreed; 0: none */
};

/* Does not connect before the loop runs. role and target are borrowed. */
void broker__connection_init(struct broker__connection *connection, struct event_base *base,
                             const struct broker__target *target, const struct broker__role *role,
                             void *user, uint64_t seed);
/* Tells the broker, as far as that needs no waiting. Not from inside a callback. */
void broker__connection_deinit(struct broker__connection *connection);
bool broker__connection_ready(const struct broker__connection *connection);
/* Writes a method; must be ready, or inside declare or prepare. Texts are bounded by the caller. */
void broker__connection_put(struct broker__connection *connection, uint16_t channel,
                            amqp_method_number_t id, void *method);
struct evbuffer *broker__connection_output(const struct broker__connection *connection);
size_t broker__connection_unsent(const struct broker__connection *connection);
/* Declares the topology again, unless that was done a moment ago (false). */
bool broker__connection_redeclare(struct broker__connection *connection);
/* Reads nothing of a connection that is ready, or goes on: TCP holds the broker back. */
void broker__connection_hold(struct broker__connection *connection, bool held);
/* Ends the connection; it comes back. */
void broker__connection_fail(struct broker__connection *connection, const struct chp_error *error);
const char *broker__state_name(enum broker__state state);

#endif
