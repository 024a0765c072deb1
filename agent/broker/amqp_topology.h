/* SPDX-License-Identifier: AGPL-3.0-only */
/* The exchanges, queues and bindings of design section 3, as the agent of one site declares them on
 * its broker. */
#ifndef CHP_BROKER_AMQP_TOPOLOGY_H
#define CHP_BROKER_AMQP_TOPOLOGY_H

#include "broker/amqp_broker.h"
#include "broker/amqp_connection.h"
#include "broker/names.h"

struct broker__topology {
    const char *site;
    const struct chp_amqp_peer *peers;
    size_t peer_count;
};

/* Writes all declarations on channel 1, without waiting. Idempotent. */
void broker__topology_declare(const struct broker__topology *topology,
                              struct broker__connection *connection);

#endif
