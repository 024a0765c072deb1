/* SPDX-License-Identifier: AGPL-3.0-only */
#include "broker/mem_broker.h"
#include "contract/broker/world.h"

#include "base/mem.h"

#include <stdlib.h>

struct world {
    struct chp_mem_network *network;
};

struct world *world_new(void)
{
    struct world *world = chp_alloc(sizeof *world);

    world->network = chp_mem_network_new(&(struct chp_mem_network_config){.seed = 1});
    chp_mem_network_declare(world->network, "B", "unused");
    chp_mem_network_cut(world->network, "A", "B", true);
    return world;
}

void world_free(struct world *world)
{
    chp_mem_network_free(world->network);
    free(world);
}

size_t world_unconfirmed_max(const struct world *world)
{
    (void)world;
    return 10000;
}

struct chp_broker *world_agent(struct world *world, const struct chp_broker_callbacks *callbacks)
{
    return chp_mem_broker_new(world->network, "A", callbacks);
}

void world_turn(struct world *world)
{
    (void)chp_mem_network_run(world->network);
}

bool world_kill(struct world *world)
{
    chp_mem_network_set_up(world->network, "A", false);
    return true;
}

void world_start(struct world *world)
{
    chp_mem_network_set_up(world->network, "A", true);
}

bool world_block(struct world *world, bool blocked)
{
    chp_mem_network_block(world->network, "A", blocked);
    return true;
}

void world_declare(struct world *world, const char *queue)
{
    chp_mem_network_declare(world->network, "A", queue);
}

void world_delete(struct world *world, const char *queue)
{
    chp_mem_network_delete(world->network, "A", queue);
}

void world_purge(struct world *world, const char *queue)
{
    struct chp_buf body = {0};

    while (chp_mem_network_take(world->network, "A", queue, &body, NULL, NULL)) {
    }
    chp_buf_deinit(&body);
}

void world_publish(struct world *world, const char *exchange, const char *key,
                   struct chp_bytes body, const char *message_id, const char *reply_to)
{
    struct chp_publication publication = {
        .exchange = exchange, .routing_key = key, .body = body, .message_id = message_id};

    (void)chp_mem_network_publish(world->network, "A", &publication, reply_to);
}

bool world_holds(struct world *world, const char *queue, size_t count)
{
    for (int i = 0; i < 10; i++) {
        if (chp_mem_network_depth(world->network, "A", queue) == count) {
            return true;
        }
        world_turn(world);
    }
    return false;
}
