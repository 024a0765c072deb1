/* SPDX-License-Identifier: AGPL-3.0-only */
/* The broker on RabbitMQ: librabbitmq as codec on libevent bufferevents. See port/broker.h. */
#ifndef CHP_BROKER_AMQP_BROKER_H
#define CHP_BROKER_AMQP_BROKER_H

#include "port/broker.h"

#include <event2/event.h>

struct chp_amqp_peer {
    const char *site;
    bool local; /* link "local": same broker, no outbound queues; else "shovel" */
};

struct chp_amqp_config {
    const char *uri;       /* amqp[s]://user:password@address:port/vhost; host must be an address or
                              "localhost" */
    const char *ca_file;   /* amqps: verify against this; or NULL for the system's */
    const char *cert_file; /* amqps, client certificate, or NULL, as the next */
    const char *key_file;
    const char *server_name; /* amqps: name to verify and send; NULL: the uri's host */
    const char *site;
    const struct chp_amqp_peer *peers;
    size_t peer_count;
    struct event_base *base;
    uint16_t prefetch;
    uint16_t heartbeat_s;
    uint64_t retry_min_ms;
    uint64_t retry_max_ms;
    size_t output_max_bytes; /* unsent bytes at which publish says CHP_EBUSY */
    size_t unconfirmed_max;  /* publications */
    uint64_t seed;           /* of the jitter */
};

struct chp_broker *chp_amqp_broker_new(const struct chp_amqp_config *config,
                                       const struct chp_broker_callbacks *callbacks,
                                       struct chp_error *error);

#endif
