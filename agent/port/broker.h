/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * The broker as the daemon sees it: RabbitMQ (broker/amqp_broker.h) or its in-memory twin
 * (broker/mem_broker.h), which keep the same contract (tests/contract/broker).
 *
 * One connection publishes, another consumes (a broker alarm blocks publishers only). Nothing
 * blocks; after a loss each connection comes back by itself with backoff and jitter, declares the
 * topology again and goes on.
 */
#ifndef CHP_PORT_BROKER_H
#define CHP_PORT_BROKER_H

#include "wire/item.h"

/* Queues that an agent consumes: cheops.<S>.requests, .operations, .acks, .control, .beats, .bulk.
 * Indexed by the routing key that feeds them. */

struct chp_delivery {
    enum chp_key inbox;
    uint64_t tag; /* for ack; carries the connection's generation: a tag of an old one is ignored */
    struct chp_bytes body; /* at most CHP_MESSAGE_MAX_BYTES; of a bigger message the first 64 KiB */
    size_t body_bytes;     /* of the whole message */
    bool redelivered;
    /* It came to its queue (any but requests) by a way that does not check its sender's topic
     * permission for that key: an exchange binding, a dead-letter or alternate exchange, a CC
     * header. Not from an agent: dead-letter it. */
    bool unchecked;
    const char *reply_to; /* "" when absent, as the others */
    const char *correlation_id;
    const char *message_id;
    const char *content_type;
};

enum chp_outcome {
    CHP_OUTCOME_CONFIRMED, /* the broker has it in a queue, durably */
    CHP_OUTCOME_RETURNED,  /* no queue was bound for it */
    CHP_OUTCOME_NACKED,
    CHP_OUTCOME_LOST, /* the connection went before the confirm: it may or may not have arrived */
};

struct chp_publication {
    const char *exchange; /* "" is the default exchange */
    const char *routing_key;
    struct chp_bytes body;
    uint64_t token;             /* the caller's, for on_settled */
    uint64_t expiration_ms;     /* 0: none */
    const char *correlation_id; /* or NULL, as the others */
    const char *message_id;
    const char *content_type;
    /* x-cheops-* headers of a dead letter: why, where it came from; or NULL */
    const char *dead_reason;
    const char *dead_queue;
    bool transient;
};

struct chp_broker_callbacks {
    void *user;
    /* Both connections are open and the topology is declared; or one was lost (error says why).
     * Publications in flight are settled as LOST before on_down. While it stays down, on_down comes
     * again when the reason changes. */
    void (*on_up)(void *user);
    void (*on_down)(void *user, const struct chp_error *error);
    void (*on_blocked)(void *user, bool blocked, const char *reason);
    /* Valid during the call only. */
    void (*on_delivery)(void *user, const struct chp_delivery *delivery);
    void (*on_settled)(void *user, uint64_t token, enum chp_outcome outcome);
    /* Room again after publish said CHP_EBUSY. */
    void (*on_drained)(void *user);
};

/* One dead letter, as listed. */
struct chp_dead_letter {
    const char *id; /* stable while it lies in the queue: hex of SHA-256 of message id and body, 16
                       digits */
    const char *reason;
    const char *queue; /* where it was consumed, or "unroutable" */
    const char *routing_key;
    const char *exchange;
    const char *message_id;
    uint64_t at_ms; /* 0 unknown */
    struct chp_bytes body;
};

enum chp_dead_action {
    CHP_DEAD_LIST,    /* calls back for each letter */
    CHP_DEAD_SHOW,    /* the one with the id */
    CHP_DEAD_REQUEUE, /* publishes it to where it was consumed, confirmed, then removes it */
    CHP_DEAD_DROP,    /* removes it */
};

/* letters (valid during the call) are those that the action concerned; CHP_ENOTFOUND when the id is
 * not there. */
typedef void chp_dead_fn(void *user, int code, const struct chp_dead_letter *letters, size_t count,
                         const struct chp_error *error);

struct chp_broker;

struct chp_broker_vtable {
    /* Copies. 0: it will be settled; CHP_EBUSY: output is full, wait for on_drained;
     * CHP_EUNAVAILABLE: no connection, or blocked. */
    int (*publish)(struct chp_broker *broker, const struct chp_publication *publication);
    /* Acks the delivery; the adapter joins neighbours to one multiple ack. Order is free. */
    void (*ack)(struct chp_broker *broker, uint64_t tag);
    /* Stops taking messages from every queue but beats (consumers are cancelled; unacked messages
     * go back), or starts again. */
    void (*pause)(struct chp_broker *broker, bool paused);
    /* Reads no further deliveries of any queue, or goes on: the agent has enough in its hands. What
     * was delivered stays with it and can be acked meanwhile; the broker keeps the rest. */
    void (*hold)(struct chp_broker *broker, bool held);
    /* At most one at a time (CHP_EBUSY through the callback). id is NULL for CHP_DEAD_LIST. */
    void (*dead)(struct chp_broker *broker, enum chp_dead_action action, const char *id,
                 chp_dead_fn *on_done, void *user);
    bool (*up)(const struct chp_broker *broker);
    void (*free)(struct chp_broker *broker);
};

struct chp_broker {
    const struct chp_broker_vtable *vtable; /* first member of every implementation */
};

static inline int chp_broker_publish(struct chp_broker *broker,
                                     const struct chp_publication *publication)
{
    return broker->vtable->publish(broker, publication);
}

static inline void chp_broker_ack(struct chp_broker *broker, uint64_t tag)
{
    broker->vtable->ack(broker, tag);
}

static inline void chp_broker_pause(struct chp_broker *broker, bool paused)
{
    broker->vtable->pause(broker, paused);
}

static inline void chp_broker_hold(struct chp_broker *broker, bool held)
{
    broker->vtable->hold(broker, held);
}

static inline void chp_broker_dead(struct chp_broker *broker, enum chp_dead_action action,
                                   const char *id, chp_dead_fn *on_done, void *user)
{
    broker->vtable->dead(broker, action, id, on_done, user);
}

static inline bool chp_broker_up(const struct chp_broker *broker)
{
    return broker->vtable->up(broker);
}

static inline void chp_broker_free(struct chp_broker *broker)
{
    if (broker != NULL) {
        broker->vtable->free(broker);
    }
}

#endif
