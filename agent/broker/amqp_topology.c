/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * One table says what every queue is. Its arguments must equal those of broker-config/generate: a
 * broker refuses a declaration with other ones. They avoid what RabbitMQ 4 removed, and name the
 * queue type, since its default may change.
 */
#include "broker/amqp_topology.h"

#include <stdio.h>
#include <string.h>

enum { ARGUMENTS_MAX = 5 };

struct argument {
    const char *key;
    const char *text; /* NULL: number */
    int32_t number;
};

#define CLASSIC                                                                                    \
    {                                                                                              \
        .key = "x-queue-type", .text = "classic"                                                   \
    }
#define DROP_HEAD                                                                                  \
    {                                                                                              \
        .key = "x-overflow", .text = "drop-head"                                                   \
    }

static const struct argument plain[ARGUMENTS_MAX] = {CLASSIC};
/* An old heartbeat says nothing; of the newest, several from each site find room. */
static const struct argument beats[ARGUMENTS_MAX] = {CLASSIC,
                                                     {.key = "x-message-ttl", .number = 10000},
                                                     {.key = "x-max-length", .number = 1024},
                                                     DROP_HEAD};
/* Only the newest heartbeat towards a site is worth sending. */
static const struct argument beat[ARGUMENTS_MAX] = {CLASSIC,
                                                    {.key = "x-message-ttl", .number = 10000},
                                                    {.key = "x-max-length", .number = 1},
                                                    DROP_HEAD};
/* Garbage must not fill the disk: the oldest goes. */
static const struct argument dead[ARGUMENTS_MAX] = {
    CLASSIC,
    {.key = "x-max-length", .number = 100000},
    {.key = "x-max-length-bytes", .number = 256 << 20},
    DROP_HEAD};

/* The lanes towards a site behind a shovel. "request" has none: only clients of a site's own broker
 * may ask. */
static const struct {
    const char *lane;
    const struct argument *arguments;
    const char *keys[4];
} lanes[] = {
    {"out", plain, {"operation", "ack", "control"}},
    {"beat", beat, {"beat"}},
    {"bulk", plain, {"bulk"}},
};

static void declare_exchange(struct broker__connection *connection, const char *name,
                             const char *type)
{
    amqp_exchange_declare_t declare = {
        .exchange = broker__text(name), .type = broker__text(type), .durable = 1};

    broker__connection_put(connection, 1, AMQP_EXCHANGE_DECLARE_METHOD, &declare);
}

static void declare_queue(struct broker__connection *connection, const char *name,
                          const struct argument *arguments)
{
    amqp_table_entry_t entries[ARGUMENTS_MAX];
    int count = 0;

    for (; count < ARGUMENTS_MAX && arguments[count].key != NULL; count++) {
        const struct argument *argument = &arguments[count];
        entries[count].key = broker__text(argument->key);
        if (argument->text != NULL) {
            entries[count].value.kind = AMQP_FIELD_KIND_UTF8;
            entries[count].value.value.bytes = broker__text(argument->text);
        } else {
            entries[count].value.kind = AMQP_FIELD_KIND_I32;
            entries[count].value.value.i32 = argument->number;
        }
    }
    amqp_queue_declare_t declare = {.queue = broker__text(name),
                                    .durable = 1,
                                    .arguments = {.num_entries = count, .entries = entries}};
    broker__connection_put(connection, 1, AMQP_QUEUE_DECLARE_METHOD, &declare);
}

static void bind_queue(struct broker__connection *connection, const char *queue,
                       const char *exchange, const char *key)
{
    amqp_queue_bind_t binding = {.queue = broker__text(queue),
                                 .exchange = broker__text(exchange),
                                 .routing_key = broker__text(key)};

    broker__connection_put(connection, 1, AMQP_QUEUE_BIND_METHOD, &binding);
}

static void declare_own(struct broker__connection *connection, const char *site)
{
    char exchange[BROKER_NAME_BYTES];
    char queue[BROKER_NAME_BYTES];

    (void)snprintf(exchange, sizeof exchange, "cheops.dead.%s", site);
    declare_exchange(connection, exchange, "fanout");
    declare_queue(connection, exchange, dead);
    bind_queue(connection, exchange, exchange, "");
    (void)snprintf(exchange, sizeof exchange, "cheops.events.%s", site);
    declare_exchange(connection, exchange, "topic");
    (void)snprintf(exchange, sizeof exchange, "cheops.site.%s", site);
    declare_exchange(connection, exchange, "topic");
    for (size_t i = 0; i < CHP_KEY_COUNT; i++) {
        broker__inbox_name(queue, site, (enum chp_key)i);
        declare_queue(connection, queue, i == CHP_KEY_BEAT ? beats : plain);
        bind_queue(connection, queue, exchange, chp_key_name((enum chp_key)i));
    }
}

static void declare_peer(struct broker__connection *connection, const char *site)
{
    char exchange[BROKER_NAME_BYTES];
    char queue[BROKER_NAME_BYTES];

    (void)snprintf(exchange, sizeof exchange, "cheops.site.%s", site);
    declare_exchange(connection, exchange, "topic");
    for (size_t i = 0; i < sizeof lanes / sizeof lanes[0]; i++) {
        (void)snprintf(queue, sizeof queue, "cheops.%s.%s", lanes[i].lane, site);
        declare_queue(connection, queue, lanes[i].arguments);
        for (size_t j = 0; lanes[i].keys[j] != NULL; j++) {
            bind_queue(connection, queue, exchange, lanes[i].keys[j]);
        }
    }
}

void broker__topology_declare(const struct broker__topology *topology,
                              struct broker__connection *connection)
{
    declare_own(connection, topology->site);
    for (size_t i = 0; i < topology->peer_count; i++) {
        const struct chp_amqp_peer *peer = &topology->peers[i];
        if (peer->local) {
            /* Its own agent declares its queues; the exchange must exist before something is
             * published to it. */
            char exchange[BROKER_NAME_BYTES];
            (void)snprintf(exchange, sizeof exchange, "cheops.site.%s", peer->site);
            declare_exchange(connection, exchange, "topic");
        } else {
            declare_peer(connection, peer->site);
        }
    }
}
