/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Acks come in any order and leave once per turn of the loop: the contiguous beginning as one
 * multiple ack, what lies behind a delivery that is still held one by one, so that a slow one does
 * not use up the prefetch of the others. The unacked deliveries are an array in tag order (at most
 * prefetch for each inbox): tags only grow, so it is appended at the end, searched by halves, and
 * closed up at each flush. Rejected: a ring over tags, whose span one held delivery would stretch
 * without bound.
 */
#include "broker/amqp_consume.h"

#include "base/log.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

enum {
    /* A tag of the port is generation and delivery tag. */
    TAG_BITS = 40,
    UNACKED_CAP_MIN = 64,
};

static uint64_t tag_of(const struct broker__consumer *consumer, uint64_t delivery_tag)
{
    return consumer->generation << TAG_BITS | delivery_tag;
}

static void schedule_flush(struct broker__consumer *consumer)
{
    event_active(consumer->flush, EV_TIMEOUT, 0);
}

static void send_ack(struct broker__consumer *consumer, uint64_t tag, bool multiple)
{
    amqp_basic_ack_t ack = {.delivery_tag = tag, .multiple = multiple};

    broker__connection_put(&consumer->connection, 1, AMQP_BASIC_ACK_METHOD, &ack);
}

static void send_back(struct broker__consumer *consumer, uint64_t tag)
{
    amqp_basic_nack_t nack = {.delivery_tag = tag, .requeue = 1};

    broker__connection_put(&consumer->connection, 1, AMQP_BASIC_NACK_METHOD, &nack);
}

static void flush(struct broker__consumer *consumer)
{
    struct broker__unacked *unacked = consumer->unacked;
    size_t prefix = 0;

    while (prefix < consumer->unacked_count && unacked[prefix].acked) {
        prefix++;
    }
    if (prefix > 0) {
        send_ack(consumer, unacked[prefix - 1].tag, prefix > 1);
    }
    size_t kept = 0;
    for (size_t i = prefix; i < consumer->unacked_count; i++) {
        if (unacked[i].acked) {
            send_ack(consumer, unacked[i].tag, false);
        } else {
            unacked[kept++] = unacked[i];
        }
    }
    consumer->unacked_count = kept;
}

static void consumer_on_flush(evutil_socket_t fd, short events, void *user)
{
    struct broker__consumer *consumer = user;

    (void)fd;
    (void)events;
    if (broker__connection_ready(&consumer->connection)) {
        flush(consumer);
    }
}

static struct broker__unacked *find(struct broker__consumer *consumer, uint64_t delivery_tag)
{
    size_t low = 0;
    size_t high = consumer->unacked_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (consumer->unacked[middle].tag < delivery_tag) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < consumer->unacked_count && consumer->unacked[low].tag == delivery_tag
               ? &consumer->unacked[low]
               : NULL;
}

void broker__consumer_ack(struct broker__consumer *consumer, uint64_t tag)
{
    if (tag >> TAG_BITS != consumer->generation ||
        !broker__connection_ready(&consumer->connection)) {
        return; /* of a channel that is gone: the broker delivers it again */
    }
    struct broker__unacked *one = find(consumer, tag & ((UINT64_C(1) << TAG_BITS) - 1));
    if (one != NULL && !one->acked) {
        one->acked = true;
        schedule_flush(consumer);
    }
}

static bool wanted(const struct broker__consumer *consumer, enum chp_key inbox)
{
    return inbox == CHP_KEY_BEAT || !consumer->paused;
}

static void subscribe(struct broker__consumer *consumer, enum chp_key inbox)
{
    char queue[BROKER_NAME_BYTES];

    broker__inbox_name(queue, consumer->topology->site, inbox);
    amqp_basic_consume_t consume = {.queue = broker__text(queue),
                                    .consumer_tag = broker__text(chp_key_name(inbox))};
    broker__connection_put(&consumer->connection, 1, AMQP_BASIC_CONSUME_METHOD, &consume);
    consumer->subscriptions[inbox] = BROKER_SUBSCRIPTION_ASKED;
}

static void unsubscribe(struct broker__consumer *consumer, enum chp_key inbox)
{
    amqp_basic_cancel_t cancel = {.consumer_tag = broker__text(chp_key_name(inbox))};

    broker__connection_put(&consumer->connection, 1, AMQP_BASIC_CANCEL_METHOD, &cancel);
    consumer->subscriptions[inbox] = BROKER_SUBSCRIPTION_CANCELLED;
}

/* The next step of every inbox towards what is wanted. */
static void update(struct broker__consumer *consumer)
{
    for (size_t i = 0; i < CHP_KEY_COUNT; i++) {
        enum chp_key inbox = (enum chp_key)i;
        if (wanted(consumer, inbox) && consumer->subscriptions[i] == BROKER_SUBSCRIPTION_NONE) {
            subscribe(consumer, inbox);
        } else if (!wanted(consumer, inbox) &&
                   consumer->subscriptions[i] == BROKER_SUBSCRIPTION_ACTIVE) {
            unsubscribe(consumer, inbox);
        }
    }
}

static bool find_inbox(amqp_bytes_t consumer_tag, enum chp_key *inbox)
{
    for (size_t i = 0; i < CHP_KEY_COUNT; i++) {
        const char *key = chp_key_name((enum chp_key)i);
        if (consumer_tag.len == strlen(key) && memcmp(consumer_tag.bytes, key, strlen(key)) == 0) {
            *inbox = (enum chp_key)i;
            return true;
        }
    }
    return false;
}

/* The broker confirmed a step. */
static void advance(struct broker__consumer *consumer, amqp_bytes_t consumer_tag,
                    enum broker__subscription from, enum broker__subscription to)
{
    enum chp_key inbox;

    if (find_inbox(consumer_tag, &inbox) && consumer->subscriptions[inbox] == from) {
        consumer->subscriptions[inbox] = to;
        update(consumer);
    }
}

/* Gives back what is held of the inboxes that are not wanted. Each by its own tag: a nack of all
 * would also cover deliveries of other inboxes that are still on their way here. */
static void give_back(struct broker__consumer *consumer)
{
    size_t kept = 0;

    flush(consumer);
    for (size_t i = 0; i < consumer->unacked_count; i++) {
        if (wanted(consumer, consumer->unacked[i].inbox)) {
            consumer->unacked[kept++] = consumer->unacked[i];
        } else {
            send_back(consumer, consumer->unacked[i].tag);
        }
    }
    consumer->unacked_count = kept;
}

void broker__consumer_pause(struct broker__consumer *consumer, bool paused)
{
    if (consumer->paused == paused) {
        return;
    }
    consumer->paused = paused;
    if (!broker__connection_ready(&consumer->connection)) {
        return;
    }
    update(consumer);
    if (paused) {
        give_back(consumer);
    }
}

static void consumer_declare(void *user)
{
    struct broker__consumer *consumer = user;

    broker__topology_declare(consumer->topology, &consumer->connection);
}

static void consumer_prepare(void *user)
{
    struct broker__consumer *consumer = user;
    amqp_basic_qos_t qos = {.prefetch_count = consumer->prefetch}; /* of each consumer to come */

    broker__connection_put(&consumer->connection, 1, AMQP_BASIC_QOS_METHOD, &qos);
}

static void forget_channel(struct broker__consumer *consumer)
{
    consumer->generation++;
    consumer->unacked_count = 0;
    memset(consumer->subscriptions, 0, sizeof consumer->subscriptions);
}

static void consumer_on_ready(void *user)
{
    struct broker__consumer *consumer = user;

    forget_channel(consumer);
    update(consumer);
    consumer->on_up(consumer->user);
}

static void consumer_on_lost(void *user, bool was_ready, const struct chp_error *error)
{
    struct broker__consumer *consumer = user;

    forget_channel(consumer);
    broker__dead_on_lost(&consumer->dead, error);
    consumer->on_down(consumer->user, was_ready, error);
}

static void redeclare(struct broker__consumer *consumer)
{
    if (!broker__connection_redeclare(&consumer->connection)) {
        return;
    }
    for (size_t i = 0; i < CHP_KEY_COUNT; i++) {
        if (consumer->subscriptions[i] == BROKER_SUBSCRIPTION_GONE) {
            consumer->subscriptions[i] = BROKER_SUBSCRIPTION_NONE;
        }
    }
    update(consumer);
}

/* The broker ended a consumer, because its queue was deleted. */
static void cancelled(struct broker__consumer *consumer, const amqp_basic_cancel_t *cancel)
{
    enum chp_key inbox;

    if (!find_inbox(cancel->consumer_tag, &inbox)) {
        return;
    }
    chp_log_warn("queue deleted, declaring it again", CHP_S("queue", chp_key_name(inbox)));
    if (consumer->subscriptions[inbox] != BROKER_SUBSCRIPTION_CANCELLED) {
        consumer->subscriptions[inbox] = BROKER_SUBSCRIPTION_GONE;
    }
    redeclare(consumer);
}

static void consumer_on_tick(void *user)
{
    struct broker__consumer *consumer = user;

    for (size_t i = 0; i < CHP_KEY_COUNT; i++) {
        if (consumer->subscriptions[i] == BROKER_SUBSCRIPTION_GONE) {
            redeclare(consumer);
            return;
        }
    }
}

static void consumer_on_method(void *user, uint16_t channel, const amqp_method_t *method)
{
    struct broker__consumer *consumer = user;

    if (channel == BROKER_DEAD_CHANNEL) {
        broker__dead_on_method(&consumer->dead, method);
    } else if (method->id == AMQP_BASIC_CANCEL_METHOD) {
        cancelled(consumer, method->decoded);
    } else if (method->id == AMQP_BASIC_CONSUME_OK_METHOD) {
        advance(consumer, ((const amqp_basic_consume_ok_t *)method->decoded)->consumer_tag,
                BROKER_SUBSCRIPTION_ASKED, BROKER_SUBSCRIPTION_ACTIVE);
    } else if (method->id == AMQP_BASIC_CANCEL_OK_METHOD) {
        advance(consumer, ((const amqp_basic_cancel_ok_t *)method->decoded)->consumer_tag,
                BROKER_SUBSCRIPTION_CANCELLED, BROKER_SUBSCRIPTION_NONE);
    }
}

/* Topic permissions are checked where a message is published. One that came to this exchange by a
 * binding, an alternate exchange, a dead-letter exchange or a CC header was not checked for this
 * key; each of them leaves a mark. */
static bool is_checked(const struct broker__consumer *consumer, enum chp_key inbox,
                       const struct broker__message *message)
{
    return strncmp(message->exchange, "cheops.site.", 12) == 0 &&
           strcmp(message->exchange + 12, consumer->topology->site) == 0 &&
           strcmp(message->routing_key, chp_key_name(inbox)) == 0 &&
           !message->dead_lettered_by_broker;
}

static void append(struct broker__consumer *consumer, uint64_t tag, enum chp_key inbox)
{
    if (consumer->unacked_count == consumer->unacked_cap) {
        consumer->unacked_cap =
            consumer->unacked_cap == 0 ? UNACKED_CAP_MIN : consumer->unacked_cap * 2;
        consumer->unacked =
            chp_realloc(consumer->unacked, consumer->unacked_cap * sizeof consumer->unacked[0]);
    }
    CHP_ASSERT(consumer->unacked != NULL);
    consumer->unacked[consumer->unacked_count++] =
        (struct broker__unacked){.tag = tag, .inbox = inbox};
}

static void refuse(struct broker__consumer *consumer, const char *what)
{
    struct chp_error error;

    (void)chp_error_set(&error, CHP_EMALFORMED, "the broker sent %s", what);
    broker__connection_fail(&consumer->connection, &error);
}

static void delivered(struct broker__consumer *consumer, const struct broker__message *message)
{
    enum chp_key inbox;
    const struct broker__unacked *last =
        consumer->unacked_count == 0 ? NULL : &consumer->unacked[consumer->unacked_count - 1];

    if (chp_key_parse(message->consumer_tag, &inbox) != 0) {
        refuse(consumer, "a delivery for a consumer that does not exist");
        return;
    }
    if (message->delivery_tag >> TAG_BITS != 0 ||
        (last != NULL && last->tag >= message->delivery_tag) ||
        consumer->unacked_count >= (size_t)consumer->prefetch * CHP_KEY_COUNT) {
        refuse(consumer, "deliveries out of order or more than asked for");
        return;
    }
    if (!wanted(consumer, inbox)) {
        send_back(consumer,
                  message->delivery_tag); /* it was on its way when its consumer was cancelled */
        return;
    }
    append(consumer, message->delivery_tag, inbox);
    struct chp_delivery delivery = {.inbox = inbox,
                                    .tag = tag_of(consumer, message->delivery_tag),
                                    .body = chp_buf_bytes(&message->body),
                                    .body_bytes = message->body_bytes,
                                    .redelivered = message->redelivered,
                                    .unchecked = inbox != CHP_KEY_REQUEST &&
                                                 !is_checked(consumer, inbox, message),
                                    .reply_to = message->reply_to,
                                    .correlation_id = message->correlation_id,
                                    .message_id = message->message_id,
                                    .content_type = message->content_type};
    consumer->on_delivery(consumer->user, &delivery);
}

static void consumer_on_message(void *user, const struct broker__message *message)
{
    struct broker__consumer *consumer = user;

    if (message->method == AMQP_BASIC_DELIVER_METHOD && message->channel == 1) {
        delivered(consumer, message);
    } else if (message->channel == BROKER_DEAD_CHANNEL) {
        broker__dead_on_message(&consumer->dead, message);
    }
}

static void consumer_on_blocked(void *user, bool blocked, const char *reason)
{
    (void)user; /* nothing is published here */
    (void)blocked;
    (void)reason;
}

static void consumer_on_writable(void *user)
{
    (void)user;
}

static const struct broker__role consumer_role = {.name = "consume",
                                                  .declare = consumer_declare,
                                                  .prepare = consumer_prepare,
                                                  .ready_reply = AMQP_BASIC_QOS_OK_METHOD,
                                                  .on_ready = consumer_on_ready,
                                                  .on_lost = consumer_on_lost,
                                                  .on_method = consumer_on_method,
                                                  .on_message = consumer_on_message,
                                                  .on_blocked = consumer_on_blocked,
                                                  .on_writable = consumer_on_writable,
                                                  .on_tick = consumer_on_tick};

void broker__consumer_init(struct broker__consumer *consumer, struct event_base *base,
                           const struct broker__target *target, uint64_t seed)
{
    CHP_ASSERT(consumer->prefetch > 0);
    consumer->flush = event_new(base, -1, 0, consumer_on_flush, consumer);
    CHP_ASSERT(consumer->flush != NULL);
    broker__connection_init(&consumer->connection, base, target, &consumer_role, consumer, seed);
}

void broker__consumer_deinit(struct broker__consumer *consumer)
{
    if (broker__connection_ready(&consumer->connection)) {
        flush(consumer);
    }
    broker__dead_deinit(&consumer->dead);
    broker__connection_deinit(&consumer->connection);
    event_free(consumer->flush);
    free(consumer->unacked);
}
