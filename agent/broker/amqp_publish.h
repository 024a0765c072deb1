/* SPDX-License-Identifier: AGPL-3.0-only */
/* The publishing side: confirms, returns, and back pressure. */
#ifndef CHP_BROKER_AMQP_PUBLISH_H
#define CHP_BROKER_AMQP_PUBLISH_H

#include "broker/amqp_topology.h"
#include "port/broker.h"

/* A publication of the broker's user, or (requeue set) of the dead letters' requeueing. */
struct broker__publication {
    struct chp_publication what;
    const char *reply_to; /* or NULL */
    bool requeue;
};

struct broker__unconfirmed {
    uint64_t token;
    bool requeue;
    bool returned;
    bool settled;
};

struct broker__publisher {
    struct broker__connection connection;
    const struct broker__topology *topology;
    size_t output_max_bytes;
    /* Ring over the delivery tags low..next-1; tags begin with 1 on every channel. */
    struct broker__unconfirmed *unconfirmed;
    size_t unconfirmed_max;
    uint64_t low;
    uint64_t next;
    bool full; /* publish said CHP_EBUSY and nothing was told since */
    void *user;
    void (*on_up)(void *user);
    void (*on_down)(void *user, bool was_ready, const struct chp_error *error);
    void (*on_settled)(void *user, uint64_t token, bool requeue, enum chp_outcome outcome);
    void (*on_blocked)(void *user, bool blocked, const char *reason);
    void (*on_drained)(void *user);
};

/* The callbacks, topology, user and bounds are set by the caller; starts to connect. */
void broker__publisher_init(struct broker__publisher *publisher, struct event_base *base,
                            const struct broker__target *target, uint64_t seed);
void broker__publisher_deinit(struct broker__publisher *publisher);
/* As chp_broker_publish; CHP_EINVAL when a text is longer than AMQP takes (255 bytes). */
int broker__publisher_send(struct broker__publisher *publisher,
                           const struct broker__publication *publication);

#endif
