/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * The brokers and the shovels between them. A message moves one hop for each step; a shovel may
 * lose, double or delay messages, as the configuration says and the seed decides. Each site has a
 * broker of its own, and every other one is behind a shovel.
 */
#include "broker/mem_network.h"

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct cut {
    struct chp_list node;
    char *from;
    char *to;
};

/* As in amqp_topology.c. */
enum { INBOX_BEATS_MAX = 1024, LANE_BEATS_MAX = 1 };

static const struct {
    const char *lane;
    enum chp_key keys[3];
    size_t key_count;
} lanes[] = {
    {"out", {CHP_KEY_OPERATION, CHP_KEY_ACK, CHP_KEY_CONTROL}, 3},
    {"beat", {CHP_KEY_BEAT}, 1},
    {"bulk", {CHP_KEY_BULK}, 1},
};
enum { LANES = sizeof lanes / sizeof lanes[0] };

/* splitmix64 */
static bool happens(struct chp_mem_network *network, unsigned percent)
{
    uint64_t x = (network->random += 0x9e3779b97f4a7c15U);

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
    return (x ^ (x >> 31)) % 100 < percent;
}

static char *text_or_empty(const char *text)
{
    return chp_strdup(text == NULL ? "" : text);
}

static struct broker__mem_message *message_new(const struct chp_publication *publication,
                                               const char *reply_to, uint64_t step)
{
    struct broker__mem_message *message = chp_alloc(sizeof *message);

    message->exchange = text_or_empty(publication->exchange);
    message->routing_key = text_or_empty(publication->routing_key);
    message->reply_to = text_or_empty(reply_to);
    message->correlation_id = text_or_empty(publication->correlation_id);
    message->message_id = text_or_empty(publication->message_id);
    message->content_type = text_or_empty(
        publication->content_type == NULL ? "application/msgpack" : publication->content_type);
    message->dead_reason = text_or_empty(publication->dead_reason);
    message->dead_queue = text_or_empty(publication->dead_queue);
    message->at_step = step;
    message->transient = publication->transient;
    chp_buf_add(&message->body, publication->body.data, publication->body.len);
    return message;
}

void broker__mem_message_free(struct broker__mem_message *message)
{
    free(message->exchange);
    free(message->routing_key);
    free(message->reply_to);
    free(message->correlation_id);
    free(message->message_id);
    free(message->content_type);
    free(message->dead_reason);
    free(message->dead_queue);
    chp_buf_deinit(&message->body);
    free(message);
}

struct broker__mem_message *broker__mem_dequeue(struct broker__mem_queue *queue)
{
    struct chp_list *node = chp_list_first(&queue->messages);

    if (node == NULL) {
        return NULL;
    }
    chp_list_remove(node);
    queue->count--;
    return CHP_CONTAINER(node, struct broker__mem_message, node);
}

void broker__mem_enqueue(struct broker__mem_queue *queue, struct broker__mem_message *message,
                         bool back)
{
    if (back) {
        chp_list_prepend(&queue->messages, &message->node);
    } else {
        chp_list_append(&queue->messages, &message->node);
    }
    queue->count++;
    while (queue->max_length != 0 && queue->count > queue->max_length) {
        broker__mem_message_free(broker__mem_dequeue(queue));
    }
}

struct broker__mem_queue *broker__mem_queue(const struct broker__mem_site *site, const char *name)
{
    CHP_LIST_FOREACH_SAFE(&site->queues, node, next)
    {
        struct broker__mem_queue *queue = CHP_CONTAINER(node, struct broker__mem_queue, node);
        if (strcmp(queue->name, name) == 0) {
            return queue;
        }
    }
    return NULL;
}

static void declare(struct broker__mem_site *site, const char *name, size_t max_length)
{
    if (broker__mem_queue(site, name) != NULL) {
        return;
    }
    struct broker__mem_queue *queue = chp_alloc(sizeof *queue);
    queue->name = chp_strdup(name);
    queue->max_length = max_length;
    chp_list_init(&queue->messages);
    chp_list_append(&site->queues, &queue->node);
}

static void queue_free(struct broker__mem_queue *queue)
{
    CHP_LIST_FOREACH_SAFE(&queue->messages, node, next)
    {
        broker__mem_message_free(CHP_CONTAINER(node, struct broker__mem_message, node));
    }
    chp_list_remove(&queue->node);
    free(queue->name);
    free(queue);
}

static void lane_name(char name[BROKER_NAME_BYTES], size_t lane, const char *site)
{
    (void)snprintf(name, BROKER_NAME_BYTES, "cheops.%s.%s", lanes[lane].lane, site);
}

/* Every site's broker knows every other one. */
static void declare_lanes(struct broker__mem_site *site, const char *peer)
{
    char name[BROKER_NAME_BYTES];

    for (size_t i = 0; i < LANES; i++) {
        lane_name(name, i, peer);
        declare(site, name, lanes[i].keys[0] == CHP_KEY_BEAT ? LANE_BEATS_MAX : 0);
    }
}

static struct broker__mem_site *find_site(const struct chp_mem_network *network, const char *name)
{
    CHP_LIST_FOREACH_SAFE(&network->sites, node, next)
    {
        struct broker__mem_site *site = CHP_CONTAINER(node, struct broker__mem_site, node);
        if (strcmp(site->name, name) == 0) {
            return site;
        }
    }
    return NULL;
}

struct broker__mem_site *broker__mem_site(struct chp_mem_network *network, const char *name)
{
    char queue[BROKER_NAME_BYTES];
    struct broker__mem_site *site = find_site(network, name);

    if (site != NULL) {
        return site;
    }
    site = chp_alloc(sizeof *site);
    site->name = chp_strdup(name);
    site->up = true;
    chp_list_init(&site->queues);
    for (size_t i = 0; i < CHP_KEY_COUNT; i++) {
        broker__inbox_name(queue, name, (enum chp_key)i);
        declare(site, queue, i == CHP_KEY_BEAT ? INBOX_BEATS_MAX : 0);
    }
    (void)snprintf(queue, sizeof queue, "cheops.dead.%s", name);
    declare(site, queue, 0);
    CHP_LIST_FOREACH_SAFE(&network->sites, node, next)
    {
        struct broker__mem_site *other = CHP_CONTAINER(node, struct broker__mem_site, node);
        declare_lanes(other, name);
        declare_lanes(site, other->name);
    }
    chp_list_append(&network->sites, &site->node);
    return site;
}

/* The queue that an exchange and a key lead to, or NULL. */
static struct broker__mem_queue *queue_for(const struct broker__mem_site *site,
                                           const char *exchange, const char *routing_key)
{
    char name[BROKER_NAME_BYTES];
    enum chp_key key;

    if (exchange[0] == '\0') {
        return broker__mem_queue(site, routing_key);
    }
    if (strncmp(exchange, "cheops.site.", 12) != 0) {
        return broker__mem_queue(site, exchange); /* dead letters and events: as the exchange */
    }
    if (chp_key_parse(routing_key, &key) != 0) {
        return NULL;
    }
    if (strcmp(exchange + 12, site->name) == 0) {
        broker__inbox_name(name, site->name, key);
        return broker__mem_queue(site, name);
    }
    for (size_t i = 0; i < LANES; i++) {
        for (size_t j = 0; j < lanes[i].key_count; j++) {
            if (lanes[i].keys[j] == key) {
                lane_name(name, i, exchange + 12);
                return broker__mem_queue(site, name);
            }
        }
    }
    return NULL;
}

bool broker__mem_route(struct broker__mem_site *site, const struct chp_publication *publication,
                       const char *reply_to, uint64_t step)
{
    struct broker__mem_queue *queue =
        queue_for(site, publication->exchange, publication->routing_key);

    if (queue != NULL) {
        broker__mem_enqueue(queue, message_new(publication, reply_to, step), false);
    }
    return queue != NULL;
}

static bool is_cut(const struct chp_mem_network *network, const char *from, const char *to)
{
    CHP_LIST_FOREACH_SAFE(&network->cuts, node, next)
    {
        const struct cut *cut = CHP_CONTAINER(node, struct cut, node);
        if (strcmp(cut->from, from) == 0 && strcmp(cut->to, to) == 0) {
            return true;
        }
    }
    return false;
}

static void arrive(struct broker__mem_site *to, const struct broker__mem_message *message,
                   uint64_t step)
{
    struct chp_publication publication = {.exchange = message->exchange,
                                          .routing_key = message->routing_key,
                                          .body = chp_buf_bytes(&message->body),
                                          .correlation_id = message->correlation_id,
                                          .message_id = message->message_id,
                                          .content_type = message->content_type,
                                          .transient = message->transient};

    /* A shovel does not look whether the other side has a queue. */
    (void)broker__mem_route(to, &publication, message->reply_to, step);
}

static bool run_lane(struct chp_mem_network *network, struct broker__mem_queue *queue,
                     struct broker__mem_site *to)
{
    size_t count = queue->count;

    for (size_t i = 0; i < count; i++) {
        struct broker__mem_message *message = broker__mem_dequeue(queue);
        if (i + 1 < count && happens(network, network->config.reorder_percent)) {
            broker__mem_enqueue(queue, message, false); /* overtaken by the next ones */
            continue;
        }
        if (!happens(network, network->config.drop_percent)) {
            arrive(to, message, network->step);
            if (happens(network, network->config.duplicate_percent)) {
                arrive(to, message, network->step);
            }
        }
        broker__mem_message_free(message);
    }
    return count > 0;
}

static bool run_links(struct chp_mem_network *network, struct broker__mem_site *from)
{
    char name[BROKER_NAME_BYTES];
    bool moved = false;

    CHP_LIST_FOREACH_SAFE(&network->sites, node, next)
    {
        struct broker__mem_site *to = CHP_CONTAINER(node, struct broker__mem_site, node);
        if (to == from || !to->up || is_cut(network, from->name, to->name)) {
            continue;
        }
        for (size_t i = 0; i < LANES; i++) {
            lane_name(name, i, to->name);
            struct broker__mem_queue *queue = broker__mem_queue(from, name);
            moved = (queue != NULL && run_lane(network, queue, to)) || moved;
        }
    }
    return moved;
}

bool chp_mem_network_run(struct chp_mem_network *network)
{
    bool moved = false;

    network->step++;
    CHP_LIST_FOREACH_SAFE(&network->sites, node, next)
    {
        struct broker__mem_site *site = CHP_CONTAINER(node, struct broker__mem_site, node);
        if (site->agent != NULL) {
            moved = broker__mem_agent_run(site->agent) || moved;
        }
    }
    CHP_LIST_FOREACH_SAFE(&network->sites, node, next)
    {
        struct broker__mem_site *site = CHP_CONTAINER(node, struct broker__mem_site, node);
        moved = (site->up && run_links(network, site)) || moved;
    }
    return moved;
}

struct chp_mem_network *chp_mem_network_new(const struct chp_mem_network_config *config)
{
    struct chp_mem_network *network = chp_alloc(sizeof *network);

    CHP_ASSERT(config->drop_percent <= 100);
    network->config = *config;
    network->random = config->seed;
    chp_list_init(&network->sites);
    chp_list_init(&network->cuts);
    return network;
}

void chp_mem_network_free(struct chp_mem_network *network)
{
    if (network == NULL) {
        return;
    }
    CHP_LIST_FOREACH_SAFE(&network->sites, node, next)
    {
        struct broker__mem_site *site = CHP_CONTAINER(node, struct broker__mem_site, node);
        CHP_ASSERT(site->agent == NULL);
        CHP_LIST_FOREACH_SAFE(&site->queues, queue, following)
        {
            queue_free(CHP_CONTAINER(queue, struct broker__mem_queue, node));
        }
        free(site->name);
        free(site);
    }
    CHP_LIST_FOREACH_SAFE(&network->cuts, node, next)
    {
        struct cut *cut = CHP_CONTAINER(node, struct cut, node);
        free(cut->from);
        free(cut->to);
        free(cut);
    }
    free(network);
}

void chp_mem_network_cut(struct chp_mem_network *network, const char *from, const char *to,
                         bool cut)
{
    CHP_LIST_FOREACH_SAFE(&network->cuts, node, next)
    {
        struct cut *old = CHP_CONTAINER(node, struct cut, node);
        if (strcmp(old->from, from) == 0 && strcmp(old->to, to) == 0) {
            chp_list_remove(node);
            free(old->from);
            free(old->to);
            free(old);
        }
    }
    if (cut) {
        struct cut *added = chp_alloc(sizeof *added);
        added->from = chp_strdup(from);
        added->to = chp_strdup(to);
        chp_list_append(&network->cuts, &added->node);
    }
}

void chp_mem_network_block(struct chp_mem_network *network, const char *site, bool blocked)
{
    broker__mem_site(network, site)->blocked = blocked;
}

static void drop_transient(struct broker__mem_queue *queue)
{
    CHP_LIST_FOREACH_SAFE(&queue->messages, node, next)
    {
        struct broker__mem_message *message = CHP_CONTAINER(node, struct broker__mem_message, node);
        if (message->transient) {
            chp_list_remove(node);
            queue->count--;
            broker__mem_message_free(message);
        }
    }
}

void chp_mem_network_set_up(struct chp_mem_network *network, const char *site, bool up)
{
    struct broker__mem_site *broker = broker__mem_site(network, site);

    broker->up = up;
    if (up) {
        return;
    }
    broker->went_down = true;
    CHP_LIST_FOREACH_SAFE(&broker->queues, node, next)
    {
        drop_transient(CHP_CONTAINER(node, struct broker__mem_queue, node));
    }
}

void chp_mem_network_declare(struct chp_mem_network *network, const char *site, const char *queue)
{
    declare(broker__mem_site(network, site), queue, 0);
}

void chp_mem_network_delete(struct chp_mem_network *network, const char *site, const char *queue)
{
    struct broker__mem_queue *gone = broker__mem_queue(broker__mem_site(network, site), queue);

    if (gone != NULL) {
        queue_free(gone);
    }
}

bool chp_mem_network_publish(struct chp_mem_network *network, const char *site,
                             const struct chp_publication *publication, const char *reply_to)
{
    return broker__mem_route(broker__mem_site(network, site), publication, reply_to, network->step);
}

bool chp_mem_network_take(struct chp_mem_network *network, const char *site, const char *queue,
                          struct chp_buf *body, char *correlation_id, char *message_id)
{
    struct broker__mem_queue *found = broker__mem_queue(broker__mem_site(network, site), queue);
    struct broker__mem_message *message = found == NULL ? NULL : broker__mem_dequeue(found);

    if (message == NULL) {
        return false;
    }
    chp_buf_clear(body);
    chp_buf_add(body, message->body.data, message->body.len);
    if (correlation_id != NULL) {
        (void)snprintf(correlation_id, 256, "%s", message->correlation_id);
    }
    if (message_id != NULL) {
        (void)snprintf(message_id, 256, "%s", message->message_id);
    }
    broker__mem_message_free(message);
    return true;
}

size_t chp_mem_network_depth(const struct chp_mem_network *network, const char *site,
                             const char *queue)
{
    const struct broker__mem_site *broker = find_site(network, site);
    const struct broker__mem_queue *found =
        broker == NULL ? NULL : broker__mem_queue(broker, queue);

    return found == NULL ? 0 : found->count;
}
