/* SPDX-License-Identifier: AGPL-3.0-only */
/* The consuming side: the six inboxes, acks, pause, and the channel on which dead letters are
 * fetched. */
#ifndef CHP_BROKER_AMQP_CONSUME_H
#define CHP_BROKER_AMQP_CONSUME_H

#include "broker/amqp_dead.h"
#include "broker/amqp_topology.h"
#include "port/broker.h"

/* A delivery that the broker waits to hear about. */
struct broker__unacked {
    uint64_t tag;
    enum chp_key inbox;
    bool acked; /* by the user; told to the broker at the end of the turn */
};

/* A consumer is not cancelled before the broker has confirmed it, nor asked for again before its
 * end is confirmed: a channel of RabbitMQ 3.10 crashes on a cancel that overtakes its own
 * consume-ok. */
enum broker__subscription {
    BROKER_SUBSCRIPTION_NONE,
    BROKER_SUBSCRIPTION_ASKED,
    BROKER_SUBSCRIPTION_ACTIVE,
    BROKER_SUBSCRIPTION_CANCELLED, /* until the broker confirms */
    BROKER_SUBSCRIPTION_GONE,      /* the broker ended it: its queue has to be declared first */
};

struct broker__consumer {
    struct broker__connection connection;
    const struct broker__topology *topology;
    struct broker__dead dead;
    uint16_t prefetch; /* per inbox */
    bool paused;
    enum broker__subscription subscriptions[CHP_KEY_COUNT];
    uint64_t generation;             /* of the channel: its tags mean nothing on another */
    struct broker__unacked *unacked; /* by tag */
    size_t unacked_count;
    size_t unacked_cap;
    struct event *flush; /* at the end of the turn */
    void *user;
    void (*on_up)(void *user);
    void (*on_down)(void *user, bool was_ready, const struct chp_error *error);
    void (*on_delivery)(void *user, const struct chp_delivery *delivery);
};

/* The callbacks, topology, user, prefetch and dead's are set by the caller; starts to connect. */
void broker__consumer_init(struct broker__consumer *consumer, struct event_base *base,
                           const struct broker__target *target, uint64_t seed);
void broker__consumer_deinit(struct broker__consumer *consumer);
/* As chp_broker_ack and chp_broker_pause. */
void broker__consumer_ack(struct broker__consumer *consumer, uint64_t tag);
void broker__consumer_pause(struct broker__consumer *consumer, bool paused);

#endif
