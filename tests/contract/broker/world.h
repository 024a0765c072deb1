/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * A broker for the contract suite: site A, whose agent is under test, with site B behind a link
 * that nothing drains. One implementation on the twin, one on RabbitMQ.
 */
#ifndef CHP_TESTS_CONTRACT_BROKER_WORLD_H
#define CHP_TESTS_CONTRACT_BROKER_WORLD_H

#include "port/broker.h"

struct world;

/* unconfirmed_max: how many publications the broker under test takes before it says CHP_EBUSY. */
struct world *world_new(void);
void world_free(struct world *world);
size_t world_unconfirmed_max(const struct world *world);
struct chp_broker *world_agent(struct world *world, const struct chp_broker_callbacks *callbacks);
/* Lets a little time pass. */
void world_turn(struct world *world);
/* The broker dies at once, and comes back; false when this world cannot do that. */
bool world_kill(struct world *world);
void world_start(struct world *world);
/* A memory alarm begins or ends; false when this world cannot do that. */
bool world_block(struct world *world, bool blocked);

/* What a client of A's broker does. */
void world_declare(struct world *world, const char *queue);
void world_delete(struct world *world, const char *queue);
void world_purge(struct world *world, const char *queue);
void world_publish(struct world *world, const char *exchange, const char *key,
                   struct chp_bytes body, const char *message_id, const char *reply_to);
/* Waits until the queue holds count messages (true), or for some seconds. */
bool world_holds(struct world *world, const char *queue, size_t count);

#endif
