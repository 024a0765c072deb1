/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Every publication is settled once: confirmed, returned, nacked, or lost with the connection.
 *
 * A basic.return names no delivery tag and comes before the ack of its message, with acks of others
 * between them; so a publication, each mandatory, carries its tag in a header, which the return
 * brings back.
 */
#include "broker/amqp_publish.h"

#include "base/clock.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct broker__unconfirmed *slot(struct broker__publisher *publisher, uint64_t tag)
{
    CHP_ASSERT(tag >= publisher->low && tag < publisher->next);
    return &publisher->unconfirmed[tag % publisher->unconfirmed_max];
}

static size_t unconfirmed_count(const struct broker__publisher *publisher)
{
    return (size_t)(publisher->next - publisher->low);
}

static void settle(struct broker__publisher *publisher, struct broker__unconfirmed one,
                   enum chp_outcome outcome)
{
    publisher->on_settled(publisher->user, one.token, one.requeue,
                          one.returned && outcome == CHP_OUTCOME_CONFIRMED ? CHP_OUTCOME_RETURNED
                                                                           : outcome);
}

static void tell_drained(struct broker__publisher *publisher)
{
    if (publisher->full && broker__connection_ready(&publisher->connection) &&
        !publisher->connection.blocked &&
        unconfirmed_count(publisher) <= publisher->unconfirmed_max / 2 &&
        broker__connection_unsent(&publisher->connection) <= publisher->output_max_bytes / 2) {
        publisher->full = false;
        publisher->on_drained(publisher->user);
    }
}

/* Takes the oldest out before it is settled, so that the callback may publish again. */
static void settle_oldest(struct broker__publisher *publisher, enum chp_outcome outcome)
{
    struct broker__unconfirmed one = *slot(publisher, publisher->low);

    publisher->low++;
    if (!one.settled) {
        settle(publisher, one, outcome);
    }
}

static void settle_up_to(struct broker__publisher *publisher, uint64_t tag, bool multiple,
                         enum chp_outcome outcome)
{
    if (tag == 0 || tag >= publisher->next) {
        tag = publisher->next - 1; /* 0 with multiple: all */
    }
    if (multiple || tag == publisher->low) {
        while (publisher->low <= tag) {
            settle_oldest(publisher, outcome);
        }
    } else if (tag > publisher->low) {
        struct broker__unconfirmed *one = slot(publisher, tag);
        if (!one->settled) {
            one->settled = true;
            settle(publisher, *one, outcome);
        }
    }
    while (publisher->low < publisher->next && slot(publisher, publisher->low)->settled) {
        publisher->low++;
    }
    tell_drained(publisher);
}

static void publisher_declare(void *user)
{
    struct broker__publisher *publisher = user;

    broker__topology_declare(publisher->topology, &publisher->connection);
}

static void publisher_prepare(void *user)
{
    struct broker__publisher *publisher = user;
    amqp_confirm_select_t select = {0};

    broker__connection_put(&publisher->connection, 1, AMQP_CONFIRM_SELECT_METHOD, &select);
}

static void publisher_on_ready(void *user)
{
    struct broker__publisher *publisher = user;

    CHP_ASSERT(unconfirmed_count(publisher) == 0);
    publisher->low = publisher->next = 1;
    publisher->full = false;
    publisher->on_up(publisher->user);
}

static void publisher_on_lost(void *user, bool was_ready, const struct chp_error *error)
{
    struct broker__publisher *publisher = user;

    while (publisher->low < publisher->next) {
        settle_oldest(publisher, CHP_OUTCOME_LOST);
    }
    publisher->on_down(publisher->user, was_ready, error);
}

static void publisher_on_method(void *user, uint16_t channel, const amqp_method_t *method)
{
    struct broker__publisher *publisher = user;

    if (channel == 1 && method->id == AMQP_BASIC_ACK_METHOD) {
        const amqp_basic_ack_t *ack = method->decoded;
        settle_up_to(publisher, ack->delivery_tag, ack->multiple != 0, CHP_OUTCOME_CONFIRMED);
    } else if (channel == 1 && method->id == AMQP_BASIC_NACK_METHOD) {
        const amqp_basic_nack_t *nack = method->decoded;
        settle_up_to(publisher, nack->delivery_tag, nack->multiple != 0, CHP_OUTCOME_NACKED);
    }
}

static void publisher_on_message(void *user, const struct broker__message *message)
{
    struct broker__publisher *publisher = user;

    if (message->method != AMQP_BASIC_RETURN_METHOD) {
        return;
    }
    if (message->number >= publisher->low && message->number < publisher->next) {
        slot(publisher, message->number)->returned = true;
    }
    if (strncmp(message->exchange, "cheops.", 7) == 0) {
        /* Somebody deleted a queue or binding of ours. */
        (void)broker__connection_redeclare(&publisher->connection);
    }
}

static void publisher_on_blocked(void *user, bool blocked, const char *reason)
{
    struct broker__publisher *publisher = user;

    publisher->on_blocked(publisher->user, blocked, reason);
    if (!blocked) {
        tell_drained(publisher);
    }
}

static void publisher_on_writable(void *user)
{
    tell_drained(user);
}

static void publisher_on_tick(void *user)
{
    (void)user;
}

static const struct broker__role publisher_role = {.name = "publish",
                                                   .declare = publisher_declare,
                                                   .prepare = publisher_prepare,
                                                   .ready_reply = AMQP_CONFIRM_SELECT_OK_METHOD,
                                                   .on_ready = publisher_on_ready,
                                                   .on_lost = publisher_on_lost,
                                                   .on_method = publisher_on_method,
                                                   .on_message = publisher_on_message,
                                                   .on_blocked = publisher_on_blocked,
                                                   .on_writable = publisher_on_writable,
                                                   .on_tick = publisher_on_tick};

void broker__publisher_init(struct broker__publisher *publisher, struct event_base *base,
                            const struct broker__target *target, uint64_t seed)
{
    CHP_ASSERT(publisher->unconfirmed_max > 0);
    publisher->unconfirmed =
        chp_calloc(publisher->unconfirmed_max, sizeof publisher->unconfirmed[0]);
    publisher->low = publisher->next = 1;
    broker__connection_init(&publisher->connection, base, target, &publisher_role, publisher, seed);
}

void broker__publisher_deinit(struct broker__publisher *publisher)
{
    broker__connection_deinit(&publisher->connection);
    free(publisher->unconfirmed);
}

static void add_text(amqp_table_entry_t *headers, int *count, const char *key, const char *text)
{
    if (text != NULL) {
        headers[(*count)++] = (amqp_table_entry_t){
            .key = broker__text(key),
            .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = broker__text(text)}};
    }
}

static void add_number(amqp_table_entry_t *headers, int *count, const char *key, uint64_t number)
{
    headers[(*count)++] =
        (amqp_table_entry_t){.key = broker__text(key),
                             .value = {.kind = AMQP_FIELD_KIND_I64, .value.i64 = (int64_t)number}};
}

static void set_text(amqp_basic_properties_t *properties, amqp_flags_t flag, amqp_bytes_t *field,
                     const char *text)
{
    if (text != NULL && text[0] != '\0') {
        *field = broker__text(text);
        properties->_flags |= flag;
    }
}

static int encode(struct broker__publisher *publisher,
                  const struct broker__publication *publication)
{
    const struct chp_publication *what = &publication->what;
    amqp_table_entry_t headers[4];
    int header_count = 0;
    char expiration[24];
    amqp_basic_publish_t publish = {.exchange = broker__text(what->exchange),
                                    .routing_key = broker__text(what->routing_key),
                                    .mandatory = true};
    amqp_basic_properties_t properties = {
        ._flags = AMQP_BASIC_DELIVERY_MODE_FLAG,
        .delivery_mode = what->transient ? AMQP_DELIVERY_NONPERSISTENT : AMQP_DELIVERY_PERSISTENT};

    set_text(&properties, AMQP_BASIC_CONTENT_TYPE_FLAG, &properties.content_type,
             what->content_type == NULL ? "application/msgpack" : what->content_type);
    set_text(&properties, AMQP_BASIC_CORRELATION_ID_FLAG, &properties.correlation_id,
             what->correlation_id);
    set_text(&properties, AMQP_BASIC_MESSAGE_ID_FLAG, &properties.message_id, what->message_id);
    set_text(&properties, AMQP_BASIC_REPLY_TO_FLAG, &properties.reply_to, publication->reply_to);
    if (what->expiration_ms > 0) {
        (void)snprintf(expiration, sizeof expiration, "%" PRIu64, what->expiration_ms);
        set_text(&properties, AMQP_BASIC_EXPIRATION_FLAG, &properties.expiration, expiration);
    }
    if (what->dead_reason != NULL) {
        add_text(headers, &header_count, BROKER_HEADER_REASON, what->dead_reason);
        add_text(headers, &header_count, BROKER_HEADER_QUEUE, what->dead_queue);
        add_number(headers, &header_count, BROKER_HEADER_AT, chp_clock_wall_ms());
    }
    add_number(headers, &header_count, BROKER_HEADER_NUMBER, publisher->next);
    properties.headers = (amqp_table_t){.num_entries = header_count, .entries = headers};
    properties._flags |= AMQP_BASIC_HEADERS_FLAG;
    return broker__codec_put_publish(&publisher->connection.codec,
                                     broker__connection_output(&publisher->connection), 1, &publish,
                                     &properties, what->body);
}

int broker__publisher_send(struct broker__publisher *publisher,
                           const struct broker__publication *publication)
{
    if (!broker__connection_ready(&publisher->connection) || publisher->connection.blocked) {
        return CHP_EUNAVAILABLE;
    }
    if (unconfirmed_count(publisher) >= publisher->unconfirmed_max ||
        broker__connection_unsent(&publisher->connection) >= publisher->output_max_bytes) {
        publisher->full = true;
        return CHP_EBUSY;
    }
    int code = encode(publisher, publication);
    if (code != 0) {
        return code;
    }
    uint64_t tag = publisher->next++;
    *slot(publisher, tag) = (struct broker__unconfirmed){.token = publication->what.token,
                                                         .requeue = publication->requeue};
    return 0;
}
