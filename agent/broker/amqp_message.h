/* SPDX-License-Identifier: AGPL-3.0-only */
/* A message with content (basic.deliver, basic.get-ok, basic.return), put together from its frames.
 * One per channel. */
#ifndef CHP_BROKER_AMQP_MESSAGE_H
#define CHP_BROKER_AMQP_MESSAGE_H

#include "base/arena.h"
#include "broker/amqp_codec.h"
#include "broker/names.h"

/* Headers that the agent sets. */
#define BROKER_HEADER_REASON "x-cheops-reason" /* of a dead letter */
#define BROKER_HEADER_QUEUE  "x-cheops-queue"  /* where a dead letter was consumed */
#define BROKER_HEADER_AT     "x-cheops-at"     /* when it died, Unix milliseconds */
#define BROKER_HEADER_NUMBER "x-cheops-number" /* which publication a basic.return is about */

/* Texts are valid UTF-8 ("" when absent), valid until the next message on the channel; so is body.
 */
struct broker__message {
    amqp_method_number_t method; /* 0: no message has begun */
    uint16_t channel;
    const char *consumer_tag;
    uint64_t delivery_tag;
    bool redelivered;
    const char *exchange;
    const char *routing_key;
    const char *reply_to;
    const char *correlation_id;
    const char *message_id;
    const char *content_type;
    uint64_t timestamp_s;
    const char *dead_reason;
    const char *dead_queue;
    uint64_t dead_at_ms;
    uint64_t number;
    bool dead_lettered_by_broker; /* has x-death */
    size_t body_bytes;            /* of the whole message */
    struct chp_buf body; /* all of it, or the first BROKER_CUT_BYTES of one that is too big */
    size_t received_bytes;
    bool has_header;
    struct chp_arena arena;
};

/* Safe on a zeroed one. */
void broker__message_deinit(struct broker__message *message);
/* Feeds a frame of the channel; *complete says that the message is whole. Methods that carry no
 * content are not to be given. CHP_EMALFORMED when the frames come in an order that AMQP forbids.
 */
int broker__message_feed(struct broker__message *message, const amqp_frame_t *frame, bool *complete,
                         struct chp_error *error) CHP_MUST_CHECK;
/* The message has been used: the next one may begin. */
void broker__message_done(struct broker__message *message);

#endif
