/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Replies to clients of the AMQP door, from their rows (schema/README.md) to the clients' queues,
 * at least once: a row is deleted when the broker has confirmed it, or has returned it since the
 * client's queue is gone. Those just committed are taken from the batch; the rest, after a restart
 * or when the broker was away, is read in pages. So memory is bounded whatever waits.
 *
 * The replies of one operation to one queue are a lane, and a lane has one in flight: a client that
 * saw "completed" has seen all results. A queue that refuses (it is full, and rejects) is left out
 * for a while with everything for it, and then the rows are read again from the first one on: it
 * holds nobody else back.
 *
 * Rejected: publishing all at once and again when one was refused, which would show "completed"
 * before a result; giving refused rows a new number, which would write all of a full queue's rows
 * again and again.
 */
#include "daemon/daemon.h"

#include <stdlib.h>
#include <string.h>

enum {
    PAGE = 64, /* of at most CHP_OUTPUT_MAX_BYTES and a little: 4 MiB */
    HELD_MAX = 1024,
    HELD_BYTES_MAX = 4 * 1024 * 1024,
    REPLIED_MAX = HELD_MAX / 4, /* confirmed ones that wait for their deletion */
    REFUSING_MAX = 64,          /* more of them stop the others until they are tried again */
    REFUSING_US = 5 * 1000 * 1000,
    NUMBER_BITS = 48, /* of a token; the rest is the generation */
};

/* In rows of replies until its deletion is in a batch; in its lane until it is settled. */
struct held {
    struct chp_list link;
    struct lane *lane; /* NULL: settled */
    uint64_t number;
    uint64_t token; /* of its publication; 0 not published */
    char *correlation_id;
    char *message_id;
    struct chp_buf body;
};

struct lane {
    struct chp_list link; /* in ready, or in none while its first one is in flight */
    struct chp_list held;
    char *reply_to;
    uint8_t *name;
    size_t name_len;
};

struct replies {
    struct chp_agent *agent;
    bool started;
    bool loading;
    uint64_t last;         /* committed */
    uint64_t taken;        /* everything up to here was taken, or is for a queue that refuses */
    struct chp_map *rows;  /* number -> struct held */
    struct chp_map *lanes; /* operation, reply_to -> struct lane */
    struct chp_list ready;
    size_t bytes;
    size_t replied;      /* held ones that are settled */
    uint64_t generation; /* of what is held: tokens of an earlier one mean nothing */
    const char *refusing[REFUSING_MAX];
    size_t refusing_count;
    uint64_t again_us; /* when the refusing ones are tried again; 0: there are none */
};

struct replies *replies__new(struct chp_agent *agent)
{
    struct replies *replies = chp_alloc(sizeof *replies);
    replies->agent = agent;
    replies->rows = chp_map_new(agent->engine_config.map_seed);
    replies->lanes = chp_map_new(agent->engine_config.map_seed);
    chp_list_init(&replies->ready);
    return replies;
}

static struct chp_bytes number_key(const uint64_t *number)
{
    return chp_bytes(number, sizeof *number);
}

static void free_lane(struct replies *replies, struct lane *lane)
{
    CHP_ASSERT(chp_list_empty(&lane->held));
    (void)chp_map_remove(replies->lanes, chp_bytes(lane->name, lane->name_len));
    chp_list_remove(&lane->link);
    free(lane->reply_to);
    free(lane->name);
    free(lane);
}

/* Out of its lane: its first place is free, the lane goes when it is empty. False: it has gone. */
static bool leave_lane(struct replies *replies, struct held *held)
{
    struct lane *lane = held->lane;
    CHP_ASSERT(lane != NULL);
    chp_list_remove(&held->link);
    held->lane = NULL;
    if (chp_list_empty(&lane->held)) {
        free_lane(replies, lane);
        return false;
    }
    return true;
}

static void forget(struct replies *replies, struct held *held)
{
    if (held->lane != NULL) {
        (void)leave_lane(replies, held);
    } else {
        replies->replied--;
    }
    (void)chp_map_remove(replies->rows, number_key(&held->number));
    replies->bytes -= held->body.len;
    chp_buf_deinit(&held->body);
    free(held->correlation_id);
    free(held->message_id);
    free(held);
}

static void try_refusing_again(struct replies *replies)
{
    for (size_t i = 0; i < replies->refusing_count; i++) {
        free((char *)replies->refusing[i]);
    }
    replies->refusing_count = 0;
    replies->again_us = 0;
    replies->taken = 0;
}

void replies__reset(struct replies *replies)
{
    struct held *held;
    for (const void *at = NULL; (held = chp_map_next(replies->rows, &at, NULL)) != NULL;) {
        forget(replies, held);
    }
    try_refusing_again(replies);
    replies->started = false;
    replies->loading = false;
    replies->generation++;
}

void replies__free(struct replies *replies)
{
    replies__reset(replies);
    chp_map_free(replies->rows);
    chp_map_free(replies->lanes);
    free(replies);
}

void replies__started(struct replies *replies, uint64_t last)
{
    replies->started = true;
    replies->last = last;
    replies->taken = 0;
}

static bool is_refusing(const struct replies *replies, const char *reply_to)
{
    for (size_t i = 0; i < replies->refusing_count; i++) {
        if (strcmp(replies->refusing[i], reply_to) == 0) {
            return true;
        }
    }
    return false;
}

static bool has_room(const struct replies *replies)
{
    return chp_map_count(replies->rows) < HELD_MAX && replies->bytes < HELD_BYTES_MAX &&
           replies->refusing_count < REFUSING_MAX;
}

static struct lane *lane_of(struct replies *replies, const struct chp_reply_row *row)
{
    struct chp_buf name = {0};
    chp_buf_add(&name, row->operation.bytes, sizeof row->operation.bytes);
    chp_buf_add_text(&name, row->to.reply_to);
    struct lane *lane = chp_map_get(replies->lanes, chp_buf_bytes(&name));
    if (lane == NULL) {
        lane = chp_alloc(sizeof *lane);
        lane->reply_to = chp_strdup(row->to.reply_to);
        lane->name_len = name.len;
        lane->name = chp_memdup(name.data, name.len);
        chp_list_init(&lane->held);
        chp_list_append(&replies->ready, &lane->link);
        (void)chp_map_put(replies->lanes, chp_buf_bytes(&name), lane);
    }
    chp_buf_deinit(&name);
    return lane;
}

/* Unless it is held already, or its queue refuses now: then it is read again later. */
static void take(struct replies *replies, const struct chp_reply_row *row)
{
    if (chp_map_get(replies->rows, number_key(&row->number)) != NULL ||
        is_refusing(replies, row->to.reply_to)) {
        return;
    }
    struct held *held = chp_alloc(sizeof *held);
    held->lane = lane_of(replies, row);
    held->number = row->number;
    held->correlation_id = chp_strdup(row->to.correlation_id);
    held->message_id = chp_strdup(row->message_id);
    chp_buf_add(&held->body, row->body.data, row->body.len);
    chp_list_append(&held->lane->held, &held->link);
    (void)chp_map_put(replies->rows, number_key(&held->number), held);
    replies->bytes += held->body.len;
}

void replies__add(struct replies *replies, const struct chp_reply_row *row)
{
    bool next = replies->taken == replies->last && !replies->loading;
    CHP_ASSERT(row->number > replies->last);
    replies->last = row->number;
    if (next && has_room(replies)) {
        take(replies, row);
        replies->taken = row->number;
    }
}

static bool may_publish(const struct replies *replies)
{
    const struct chp_agent *agent = replies->agent;
    return agent->broker != NULL && chp_broker_up(agent->broker) && !agent->broker_blocked &&
           replies->refusing_count < REFUSING_MAX;
}

/* The rows that are settled go with the batch that is open. Not while a page is on its way, which
 * may bring them again: then they must be known. */
static void delete_replied(struct replies *replies)
{
    struct chp_agent *agent = replies->agent;
    struct held *held;
    if (replies->replied == 0 || replies->loading || !replies->started) {
        return;
    }
    for (const void *at = NULL; (held = chp_map_next(replies->rows, &at, NULL)) != NULL;) {
        if (held->lane == NULL) {
            chp_batch_write(&agent->open->batch, CHP_WRITE_REPLIED)->replied = held->number;
            forget(replies, held);
        }
    }
    turn__arm(agent);
}

static void load_page(struct replies *replies)
{
    struct chp_agent *agent = replies->agent;
    struct chp_arena *arena = &agent->open->batch.arena;
    if (!replies->started || replies->loading || replies->taken >= replies->last ||
        !may_publish(replies) || chp_map_count(replies->rows) > HELD_MAX / 2 ||
        replies->bytes > HELD_BYTES_MAX / 2) {
        return;
    }
    delete_replied(replies);
    struct chp_load *load = chp_batch_load(&agent->open->batch, CHP_LOAD_REPLIES);
    load->after = replies->taken;
    load->limit = PAGE;
    load->ids = chp_arena_strdup_all(arena, replies->refusing, replies->refusing_count);
    load->id_count = replies->refusing_count;
    replies->loading = true;
    turn__arm(agent);
}

void replies__loaded(struct replies *replies, const struct chp_load *load)
{
    if (!replies->loading) {
        return;
    }
    replies->loading = false;
    for (size_t i = 0; i < load->replies.count; i++) {
        take(replies, &load->replies.rows[i]);
    }
    bool end = load->replies.count < load->limit;
    uint64_t upto = end ? replies->last : load->replies.rows[load->replies.count - 1].number;
    replies->taken = replies->taken > upto ? replies->taken : upto;
}

static uint64_t token_of_row(const struct replies *replies, uint64_t number)
{
    return token_of(TOKEN_REPLY, (replies->generation & 0xff) << NUMBER_BITS | number);
}

static void settle(struct replies *replies, struct held *held)
{
    struct lane *lane = held->lane;
    if (leave_lane(replies, held)) {
        chp_list_append(&replies->ready, &lane->link);
    }
    replies->replied++;
    if (replies->replied >= REPLIED_MAX) {
        delete_replied(replies);
    }
}

/* Its rows that are not in flight are in the store, and are read again when it is tried again. */
static void leave_out(struct replies *replies, const char *reply_to)
{
    char *name = chp_strdup(reply_to);
    struct held *held;
    for (const void *at = NULL; (held = chp_map_next(replies->rows, &at, NULL)) != NULL;) {
        if (held->lane != NULL && held->token == 0 && strcmp(held->lane->reply_to, name) == 0) {
            forget(replies, held);
        }
    }
    if (is_refusing(replies, name) || replies->refusing_count == REFUSING_MAX) {
        free(name);
    } else {
        replies->refusing[replies->refusing_count++] = name;
    }
    if (replies->again_us == 0) {
        replies->again_us = chp_clock_mono_us() + REFUSING_US;
    }
}

static int publish(struct replies *replies, const struct lane *lane, struct held *held)
{
    struct chp_publication publication = {
        .exchange = "",
        .routing_key = lane->reply_to,
        .body = chp_buf_bytes(&held->body),
        .token = token_of_row(replies, held->number),
        .correlation_id = held->correlation_id,
        .message_id = held->message_id,
        .content_type = "application/msgpack",
    };
    int code = chp_broker_publish(replies->agent->broker, &publication);
    if (code == 0) {
        held->token = publication.token;
    }
    return code;
}

void replies__pump(struct replies *replies)
{
    struct chp_list *link;
    while (may_publish(replies) && (link = chp_list_first(&replies->ready)) != NULL) {
        struct lane *lane = CHP_CONTAINER(link, struct lane, link);
        struct held *held = CHP_CONTAINER(chp_list_first(&lane->held), struct held, link);
        int code = publish(replies, lane, held);
        if (code == CHP_EBUSY || code == CHP_EUNAVAILABLE) {
            break; /* replies__pump again when there is room */
        }
        chp_list_remove(link);
        if (code != 0) {
            chp_log_warn("reply can't be published", CHP_S("reply_to", lane->reply_to),
                         CHP_S("error", chp_error_name(code)));
            settle(replies, held);
        }
    }
    load_page(replies);
}

void replies__settled(struct replies *replies, uint64_t token, enum chp_outcome outcome)
{
    struct chp_metrics *metrics = &replies->agent->metrics;
    uint64_t number = token & ~(UINT64_MAX << NUMBER_BITS);
    struct held *held = chp_map_get(replies->rows, number_key(&number));
    if (held == NULL || held->token != token || held->lane == NULL) {
        return; /* from before a reset: it is published again */
    }
    switch (outcome) {
    case CHP_OUTCOME_CONFIRMED:
        metrics->replies_total++;
        settle(replies, held);
        break;
    case CHP_OUTCOME_RETURNED:
        metrics->replies_unroutable_total++;
        settle(replies, held);
        break;
    case CHP_OUTCOME_NACKED:
        held->token = 0;
        leave_out(replies, held->lane->reply_to);
        break;
    case CHP_OUTCOME_LOST:
        held->token = 0;
        chp_list_append(&replies->ready, &held->lane->link);
        break;
    }
    if (outcome != CHP_OUTCOME_LOST) {
        replies__pump(replies);
    }
}

void replies__tick(struct replies *replies)
{
    if (replies->again_us != 0 && chp_clock_mono_us() >= replies->again_us) {
        try_refusing_again(replies);
    }
    delete_replied(replies);
    replies__pump(replies);
}
