/* SPDX-License-Identifier: AGPL-3.0-only */
/* Dead letters: list, show, requeue, drop, on a channel of the consuming connection that is opened
 * for each action. */
#ifndef CHP_BROKER_AMQP_DEAD_H
#define CHP_BROKER_AMQP_DEAD_H

#include "broker/amqp_connection.h"
#include "broker/amqp_publish.h"
#include "port/broker.h"

enum { BROKER_DEAD_CHANNEL = 2 };

enum broker__dead_phase {
    BROKER_DEAD_IDLE,
    BROKER_DEAD_OPENING,    /* channel.open sent */
    BROKER_DEAD_FETCHING,   /* basic.get sent */
    BROKER_DEAD_PUBLISHING, /* the letter goes back to where it was consumed */
    BROKER_DEAD_CLOSING,    /* channel.close sent: what was fetched and not removed returns to the
                               queue */
};

/* At most one action at a time. Connection, publisher and site are set by the owner. */
struct broker__dead {
    struct broker__connection *connection;
    struct broker__publisher *publisher;
    const char *site;
    enum broker__dead_phase phase;
    enum chp_dead_action action;
    char id[BROKER_DEAD_ID_BYTES]; /* "" for a list */
    chp_dead_fn *on_done;
    void *user;
    size_t fetched;
    struct chp_dead_letter *letters; /* all for a list, otherwise the last one fetched */
    size_t count;
    size_t bytes;
    /* More of the letter asked for. */
    uint64_t tag;
    const char *reply_to;
    const char *correlation_id;
    const char *content_type;
    size_t body_bytes;
    struct chp_arena arena;
    struct chp_error error; /* code 0: the action succeeded */
};

void broker__dead_deinit(struct broker__dead *dead);
/* As chp_broker_dead. */
void broker__dead_start(struct broker__dead *dead, enum chp_dead_action action, const char *id,
                        chp_dead_fn *on_done, void *user);
void broker__dead_on_method(struct broker__dead *dead, const amqp_method_t *method);
void broker__dead_on_message(struct broker__dead *dead, const struct broker__message *message);
/* The outcome of the publication that an action made. */
void broker__dead_on_settled(struct broker__dead *dead, enum chp_outcome outcome);
/* The connection is gone; the broker has taken everything back. */
void broker__dead_on_lost(struct broker__dead *dead, const struct chp_error *error);

#endif
