/* SPDX-License-Identifier: AGPL-3.0-only */
/* What only the real broker can: other declarations, other ways for a message, TLS, signals. */
#ifndef CHP_TESTS_CONTRACT_BROKER_WORLD_AMQP_H
#define CHP_TESTS_CONTRACT_BROKER_WORLD_AMQP_H

#include "broker/amqp_broker.h"
#include "contract/broker/world.h"

#include <sys/types.h>

/* The configuration that world_agent would use; to be changed and given to chp_amqp_broker_new. */
struct chp_amqp_config world_config(struct world *world);
pid_t world_pid(const struct world *world);
int world_tls_port(const struct world *world);
const char *world_directory(const struct world *world);
/* Imports what broker-config/generate writes for this broker: A with its agent, C that shares it, B
 * behind shovels. Writes the URI of A's agent. */
void world_import_generated(struct world *world, char *uri, size_t uri_bytes);
void world_declare_with_length(struct world *world, const char *queue, int max_length);
void world_bind_exchange(struct world *world, const char *source, const char *destination);

#endif
