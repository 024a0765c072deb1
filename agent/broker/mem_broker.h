/* SPDX-License-Identifier: AGPL-3.0-only */
/* The in-memory twin of brokers and shovels, for tests: one network, a broker for each site on it.
 * It delays, duplicates, reorders and loses as told by its seed. No libevent; the test drives it.
 */
#ifndef CHP_BROKER_MEM_BROKER_H
#define CHP_BROKER_MEM_BROKER_H

#include "port/broker.h"

struct chp_mem_network;

struct chp_mem_network_config {
    uint64_t seed;
    unsigned duplicate_percent; /* of messages between sites */
    unsigned reorder_percent;
    unsigned drop_percent;
};

struct chp_mem_network *chp_mem_network_new(const struct chp_mem_network_config *config);
void chp_mem_network_free(struct chp_mem_network *network);
struct chp_broker *chp_mem_broker_new(struct chp_mem_network *network, const char *site,
                                      const struct chp_broker_callbacks *callbacks);
/* Moves messages, confirms and deliveries by one step; returns whether anything moved. */
bool chp_mem_network_run(struct chp_mem_network *network);
void chp_mem_network_cut(struct chp_mem_network *network, const char *from, const char *to,
                         bool cut);
/* A memory alarm of a site's broker begins or ends. */
void chp_mem_network_block(struct chp_mem_network *network, const char *site, bool blocked);
/* The broker of a site goes away (what it has in queues stays) or returns. */
void chp_mem_network_set_up(struct chp_mem_network *network, const char *site, bool up);

/* What a client of the site's broker does: declares a queue (its own, one of the agent's again, or,
 * named "cheops.events.<S>", a subscription to that exchange), deletes one, publishes (what: as the
 * port's; reply_to may be NULL), takes the oldest message of a queue. */
void chp_mem_network_declare(struct chp_mem_network *network, const char *site, const char *queue);
void chp_mem_network_delete(struct chp_mem_network *network, const char *site, const char *queue);
/* False: no queue for it. */
bool chp_mem_network_publish(struct chp_mem_network *network, const char *site,
                             const struct chp_publication *publication, const char *reply_to);
/* False: empty, or no such queue. body is replaced; correlation_id and message_id are set when not
 * NULL (256 bytes). */
bool chp_mem_network_take(struct chp_mem_network *network, const char *site, const char *queue,
                          struct chp_buf *body, char *correlation_id, char *message_id);
size_t chp_mem_network_depth(const struct chp_mem_network *network, const char *site,
                             const char *queue);

#endif
