/* SPDX-License-Identifier: AGPL-3.0-only */
/* What the twin's two files share: brokers, their queues and what lies in them. */
#ifndef CHP_BROKER_MEM_NETWORK_H
#define CHP_BROKER_MEM_NETWORK_H

#include "base/list.h"
#include "broker/mem_broker.h"
#include "broker/names.h"

enum { BROKER_MEM_PREFETCH = 1000, BROKER_MEM_UNCONFIRMED_MAX = 10000 };

struct broker__mem_message {
    struct chp_list node;
    char *exchange;
    char *routing_key;
    char *reply_to; /* "" when absent, as the others */
    char *correlation_id;
    char *message_id;
    char *content_type;
    char *dead_reason;
    char *dead_queue;
    uint64_t at_step; /* when it died */
    uint64_t tag;     /* while unacked */
    enum chp_key inbox;
    bool redelivered;
    bool transient;
    struct chp_buf body;
};

struct broker__mem_queue {
    struct chp_list node;
    char *name;
    size_t max_length; /* 0: none; over it the oldest goes */
    struct chp_list messages;
    size_t count;
};

/* A publication whose confirm is on its way. */
struct broker__mem_confirm {
    struct chp_list node;
    uint64_t token;
    enum chp_outcome outcome;
};

struct broker__mem_dead {
    enum chp_dead_action action;
    char id[BROKER_DEAD_ID_BYTES];
    chp_dead_fn *on_done; /* NULL: none is asked for */
    void *user;
};

/* The broker of one site, and the agent's connection to it. */
struct broker__mem_site {
    struct chp_list node;
    char *name;
    struct chp_list queues;
    bool up;
    bool went_down; /* since the agent's last turn */
    bool blocked;
    struct broker__mem_agent *agent; /* NULL: not there */
};

struct broker__mem_agent {
    struct chp_broker port;
    struct chp_broker_callbacks callbacks;
    struct chp_mem_network *network;
    struct broker__mem_site *site;
    bool connected;
    bool down_told;
    bool blocked_told;
    bool paused;
    bool held;
    bool full;
    uint64_t next_tag;
    struct chp_list unacked; /* by tag */
    size_t unacked_count;
    struct chp_list acked; /* freed at the end of the turn */
    struct chp_list confirms;
    size_t confirm_count;
    struct broker__mem_dead dead;
};

struct chp_mem_network {
    struct chp_mem_network_config config;
    uint64_t random;
    uint64_t step;
    struct chp_list sites;
    struct chp_list cuts; /* of struct cut */
};

struct broker__mem_site *broker__mem_site(struct chp_mem_network *network, const char *name);
struct broker__mem_queue *broker__mem_queue(const struct broker__mem_site *site, const char *name);
/* Routes a copy; false when no queue takes it. */
bool broker__mem_route(struct broker__mem_site *site, const struct chp_publication *publication,
                       const char *reply_to, uint64_t step);
/* At the end, or back at the beginning. */
void broker__mem_enqueue(struct broker__mem_queue *queue, struct broker__mem_message *message,
                         bool back);
struct broker__mem_message *broker__mem_dequeue(struct broker__mem_queue *queue);
void broker__mem_message_free(struct broker__mem_message *message);
/* One turn of the agent's connection; whether anything moved. */
bool broker__mem_agent_run(struct broker__mem_agent *agent);

#endif
