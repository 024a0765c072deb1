/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * The agent's connection to its twin broker. Everything is answered in a later step, never from
 * inside a call, as with RabbitMQ; a deleted inbox is declared again by itself.
 */
#include "broker/mem_broker.h"

#include "base/mem.h"
#include "broker/mem_network.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct broker__mem_agent *of(struct chp_broker *broker)
{
    return CHP_CONTAINER(broker, struct broker__mem_agent, port);
}

static bool wanted(const struct broker__mem_agent *agent, enum chp_key inbox)
{
    return inbox == CHP_KEY_BEAT || !agent->paused;
}

/* Puts unacked messages back to where they were: all, or those of inboxes that are not wanted. From
 * the last to the first, so that their order stays. */
static void give_back(struct broker__mem_agent *agent, bool all)
{
    char name[BROKER_NAME_BYTES];
    struct chp_list *previous;

    for (struct chp_list *node = agent->unacked.prev; node != &agent->unacked; node = previous) {
        previous = node->prev;
        struct broker__mem_message *message = CHP_CONTAINER(node, struct broker__mem_message, node);
        if (!all && wanted(agent, message->inbox)) {
            continue;
        }
        chp_list_remove(node);
        agent->unacked_count--;
        message->redelivered = true;
        broker__inbox_name(name, agent->site->name, message->inbox);
        struct broker__mem_queue *queue = broker__mem_queue(agent->site, name);
        if (queue == NULL) {
            broker__mem_message_free(message);
        } else {
            broker__mem_enqueue(queue, message, true);
        }
    }
}

static bool settle_all(struct broker__mem_agent *agent, bool lost)
{
    struct chp_list due;
    bool any = agent->confirm_count > 0;

    /* What a callback publishes is confirmed in the next step. */
    chp_list_init(&due);
    while (!chp_list_empty(&agent->confirms)) {
        struct chp_list *node = chp_list_first(&agent->confirms);
        chp_list_remove(node);
        chp_list_append(&due, node);
    }
    agent->confirm_count = 0;
    while (!chp_list_empty(&due)) {
        struct chp_list *node = chp_list_first(&due);
        struct broker__mem_confirm *confirm = CHP_CONTAINER(node, struct broker__mem_confirm, node);
        chp_list_remove(node);
        uint64_t token = confirm->token;
        enum chp_outcome outcome = lost ? CHP_OUTCOME_LOST : confirm->outcome;
        free(confirm);
        agent->callbacks.on_settled(agent->callbacks.user, token, outcome);
    }
    if (any && !lost && agent->full) {
        agent->full = false;
        agent->callbacks.on_drained(agent->callbacks.user);
    }
    return any;
}

static void free_acked(struct broker__mem_agent *agent)
{
    CHP_LIST_FOREACH_SAFE(&agent->acked, node, next)
    {
        broker__mem_message_free(CHP_CONTAINER(node, struct broker__mem_message, node));
    }
    chp_list_init(&agent->acked);
}

static bool deliver(struct broker__mem_agent *agent, enum chp_key inbox)
{
    char name[BROKER_NAME_BYTES];
    bool moved = false;

    broker__inbox_name(name, agent->site->name, inbox);
    chp_mem_network_declare(agent->network, agent->site->name, name);
    struct broker__mem_queue *queue = broker__mem_queue(agent->site, name);
    for (size_t left = queue->count; left > 0 && wanted(agent, inbox) && !agent->held &&
                                     agent->unacked_count < BROKER_MEM_PREFETCH;
         left--) {
        struct broker__mem_message *message = broker__mem_dequeue(queue);
        if (message == NULL) {
            break;
        }
        message->tag = agent->next_tag++;
        message->inbox = inbox;
        chp_list_append(&agent->unacked, &message->node);
        agent->unacked_count++;
        moved = true;
        struct chp_bytes body = chp_buf_bytes(&message->body);
        struct chp_delivery delivery = {.inbox = inbox,
                                        .tag = message->tag,
                                        .body = body.len > CHP_MESSAGE_MAX_BYTES
                                                    ? chp_bytes(body.data, BROKER_CUT_BYTES)
                                                    : body,
                                        .body_bytes = body.len,
                                        .redelivered = message->redelivered,
                                        .reply_to = message->reply_to,
                                        .correlation_id = message->correlation_id,
                                        .message_id = message->message_id,
                                        .content_type = message->content_type};
        agent->callbacks.on_delivery(agent->callbacks.user, &delivery);
    }
    return moved;
}

static struct chp_dead_letter letter_of(const struct broker__mem_message *message,
                                        char id[BROKER_DEAD_ID_BYTES])
{
    bool consumed = message->dead_reason[0] != '\0';

    broker__dead_id(id, message->message_id, chp_buf_bytes(&message->body));
    return (struct chp_dead_letter){.id = id,
                                    .reason = consumed ? message->dead_reason
                                                       : "no queue is bound for it",
                                    .queue = consumed ? message->dead_queue : BROKER_UNROUTABLE,
                                    .routing_key = message->routing_key,
                                    .exchange = message->exchange,
                                    .message_id = message->message_id,
                                    .at_ms = message->at_step,
                                    .body = chp_buf_bytes(&message->body)};
}

static int requeue(struct broker__mem_agent *agent, const struct broker__mem_message *message,
                   const struct chp_dead_letter *letter, struct chp_error *error)
{
    char exchange[BROKER_NAME_BYTES];
    struct chp_publication publication = {.exchange = exchange,
                                          .body = letter->body,
                                          .correlation_id = message->correlation_id,
                                          .message_id = message->message_id,
                                          .content_type = message->content_type};

    if (letter->body.len > CHP_MESSAGE_MAX_BYTES) {
        return chp_error_set(error, CHP_ETOOBIG, "the dead letter is too big to be requeued");
    }
    int code = broker__dead_destination(agent->site->name, letter, exchange,
                                        &publication.routing_key, error);
    if (code == 0 &&
        !broker__mem_route(agent->site, &publication, message->reply_to, agent->network->step)) {
        code =
            chp_error_set(error, CHP_ECONFLICT, "the dead letter stays: nothing is bound for it");
    }
    return code;
}

static void list_dead(const struct broker__mem_dead *dead, const struct broker__mem_queue *queue)
{
    struct chp_dead_letter *letters = chp_calloc(BROKER_DEAD_MAX, sizeof letters[0]);
    char(*ids)[BROKER_DEAD_ID_BYTES] = chp_calloc(BROKER_DEAD_MAX, sizeof ids[0]);
    struct chp_error error = {0};
    size_t count = 0;

    CHP_LIST_FOREACH_SAFE(&queue->messages, node, next)
    {
        if (count < BROKER_DEAD_MAX) {
            letters[count] =
                letter_of(CHP_CONTAINER(node, struct broker__mem_message, node), ids[count]);
            count++;
        }
    }
    dead->on_done(dead->user, 0, letters, count, &error);
    free(letters);
    free(ids);
}

static void act_on_dead(struct broker__mem_agent *agent, const struct broker__mem_dead *dead,
                        struct broker__mem_queue *queue)
{
    struct chp_error error = {0};
    char id[BROKER_DEAD_ID_BYTES];

    CHP_LIST_FOREACH_SAFE(&queue->messages, node, next)
    {
        struct broker__mem_message *message = CHP_CONTAINER(node, struct broker__mem_message, node);
        struct chp_dead_letter letter = letter_of(message, id);
        if (strcmp(id, dead->id) != 0) {
            continue;
        }
        int code = dead->action == CHP_DEAD_REQUEUE ? requeue(agent, message, &letter, &error) : 0;
        bool removed = code == 0 && dead->action != CHP_DEAD_SHOW;
        if (removed) {
            chp_list_remove(node);
            queue->count--;
        }
        dead->on_done(dead->user, code, code == 0 ? &letter : NULL, code == 0 ? 1 : 0, &error);
        if (removed) {
            broker__mem_message_free(message);
        }
        return;
    }
    int code = chp_error_set(&error, CHP_ENOTFOUND, "no dead letter '%s'", dead->id);
    dead->on_done(dead->user, code, NULL, 0, &error);
}

static bool run_dead(struct broker__mem_agent *agent)
{
    char name[BROKER_NAME_BYTES];
    struct broker__mem_dead dead = agent->dead;

    if (dead.on_done == NULL) {
        return false;
    }
    agent->dead.on_done = NULL;
    (void)snprintf(name, sizeof name, "cheops.dead.%s", agent->site->name);
    chp_mem_network_declare(agent->network, agent->site->name, name);
    struct broker__mem_queue *queue = broker__mem_queue(agent->site, name);
    if (dead.action == CHP_DEAD_LIST) {
        list_dead(&dead, queue);
    } else {
        act_on_dead(agent, &dead, queue);
    }
    return true;
}

static bool disconnect(struct broker__mem_agent *agent)
{
    struct chp_error error;

    (void)chp_error_set(&error, CHP_EUNAVAILABLE, "the broker of %s is down", agent->site->name);
    if (agent->connected) {
        agent->connected = false;
        agent->blocked_told = false;
        give_back(agent, true);
        (void)settle_all(agent, true);
        struct broker__mem_dead dead = agent->dead;
        agent->dead.on_done = NULL;
        if (dead.on_done != NULL) {
            dead.on_done(dead.user, error.code, NULL, 0, &error);
        }
    } else if (agent->down_told) {
        return false;
    }
    agent->down_told = true;
    agent->callbacks.on_down(agent->callbacks.user, &error);
    return true;
}

bool broker__mem_agent_run(struct broker__mem_agent *agent)
{
    if (!agent->site->up || agent->site->went_down) {
        agent->site->went_down = false;
        return disconnect(agent);
    }
    bool moved = false;
    if (!agent->connected) {
        agent->connected = true;
        agent->down_told = false;
        moved = true;
        agent->callbacks.on_up(agent->callbacks.user);
    }
    if (agent->blocked_told != agent->site->blocked) {
        agent->blocked_told = agent->site->blocked;
        moved = true;
        agent->callbacks.on_blocked(agent->callbacks.user, agent->blocked_told,
                                    agent->blocked_told ? "memory" : "");
    }
    moved = settle_all(agent, false) || moved;
    for (size_t i = 0; i < CHP_KEY_COUNT; i++) {
        moved = deliver(agent, (enum chp_key)i) || moved;
    }
    free_acked(agent);
    return run_dead(agent) || moved;
}

static int agent_publish(struct chp_broker *port, const struct chp_publication *publication)
{
    struct broker__mem_agent *agent = of(port);

    if (!agent->connected || !agent->site->up || agent->blocked_told) {
        return CHP_EUNAVAILABLE;
    }
    if (agent->confirm_count >= BROKER_MEM_UNCONFIRMED_MAX) {
        agent->full = true;
        return CHP_EBUSY;
    }
    bool routed = broker__mem_route(agent->site, publication, NULL, agent->network->step);
    struct broker__mem_confirm *confirm = chp_alloc(sizeof *confirm);
    confirm->token = publication->token;
    confirm->outcome = routed ? CHP_OUTCOME_CONFIRMED : CHP_OUTCOME_RETURNED;
    chp_list_append(&agent->confirms, &confirm->node);
    agent->confirm_count++;
    return 0;
}

static void agent_ack(struct chp_broker *port, uint64_t tag)
{
    struct broker__mem_agent *agent = of(port);

    CHP_LIST_FOREACH_SAFE(&agent->unacked, node, next)
    {
        struct broker__mem_message *message = CHP_CONTAINER(node, struct broker__mem_message, node);
        if (message->tag == tag) {
            chp_list_remove(node);
            agent->unacked_count--;
            chp_list_append(&agent->acked, node); /* its delivery may still be read */
            return;
        }
    }
}

static void agent_pause(struct chp_broker *port, bool paused)
{
    struct broker__mem_agent *agent = of(port);

    agent->paused = paused;
    give_back(agent, false);
}

static void agent_hold(struct chp_broker *port, bool held)
{
    of(port)->held = held;
}

static void agent_dead(struct chp_broker *port, enum chp_dead_action action, const char *id,
                       chp_dead_fn *on_done, void *user)
{
    struct broker__mem_agent *agent = of(port);
    struct chp_error error;
    int code = 0;

    if (agent->dead.on_done != NULL) {
        code = chp_error_set(&error, CHP_EBUSY, "another action on dead letters is running");
    } else if (agent->held) {
        code = chp_error_set(&error, CHP_EBUSY, "the agent has enough in its hands");
    } else if (!agent->connected) {
        code = chp_error_set(&error, CHP_EUNAVAILABLE, "no connection to the broker");
    } else if (action != CHP_DEAD_LIST && (id == NULL || strlen(id) >= sizeof agent->dead.id)) {
        code = chp_error_set(&error, CHP_ENOTFOUND, "no dead letter has this id");
    }
    if (code != 0) {
        on_done(user, code, NULL, 0, &error);
        return;
    }
    agent->dead = (struct broker__mem_dead){.action = action, .on_done = on_done, .user = user};
    (void)snprintf(agent->dead.id, sizeof agent->dead.id, "%s", action == CHP_DEAD_LIST ? "" : id);
}

static bool agent_up(const struct chp_broker *port)
{
    const struct broker__mem_agent *agent =
        CHP_CONTAINER((struct chp_broker *)(uintptr_t)port, struct broker__mem_agent, port);

    return agent->connected && agent->site->up;
}

static void agent_free(struct chp_broker *port)
{
    struct broker__mem_agent *agent = of(port);

    give_back(agent, true);
    free_acked(agent);
    CHP_LIST_FOREACH_SAFE(&agent->confirms, node, next)
    {
        free(CHP_CONTAINER(node, struct broker__mem_confirm, node));
    }
    agent->site->agent = NULL;
    free(agent);
}

static const struct chp_broker_vtable vtable = {.publish = agent_publish,
                                                .ack = agent_ack,
                                                .pause = agent_pause,
                                                .hold = agent_hold,
                                                .dead = agent_dead,
                                                .up = agent_up,
                                                .free = agent_free};

struct chp_broker *chp_mem_broker_new(struct chp_mem_network *network, const char *site,
                                      const struct chp_broker_callbacks *callbacks)
{
    struct broker__mem_agent *agent = chp_alloc(sizeof *agent);

    agent->port.vtable = &vtable;
    agent->callbacks = *callbacks;
    agent->network = network;
    agent->site = broker__mem_site(network, site);
    CHP_ASSERT(agent->site->agent == NULL);
    agent->site->agent = agent;
    agent->next_tag = 1;
    chp_list_init(&agent->unacked);
    chp_list_init(&agent->acked);
    chp_list_init(&agent->confirms);
    return &agent->port;
}
