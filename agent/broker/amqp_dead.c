/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * An action fetches letters one by one and leaves them unacked; only what is to be removed is
 * acked, then the channel is closed, and the broker puts the rest back where it was, in order,
 * whatever happens to this process meanwhile. The answer comes after that, so that the next action
 * finds the queue as the answer says.
 */
#include "broker/amqp_dead.h"

#include <stdio.h>
#include <string.h>

static void forget_letters(struct broker__dead *dead)
{
    dead->letters = NULL;
    dead->count = 0;
    dead->bytes = 0;
    chp_arena_deinit(&dead->arena);
}

void broker__dead_deinit(struct broker__dead *dead)
{
    forget_letters(dead);
}

/* The end of an action. */
static void answer(struct broker__dead *dead)
{
    chp_dead_fn *on_done = dead->on_done;

    struct chp_arena arena = dead->arena;
    struct chp_error error = dead->error;
    const struct chp_dead_letter *letters = error.code == 0 ? dead->letters : NULL;
    size_t count = error.code == 0 ? dead->count : 0;

    /* The callback may start the next action. */
    dead->on_done = NULL;
    dead->phase = BROKER_DEAD_IDLE;
    dead->arena = (struct chp_arena){0};
    forget_letters(dead);
    on_done(dead->user, error.code, letters, count, &error);
    chp_arena_deinit(&arena);
}

static void finish(struct broker__dead *dead)
{
    amqp_channel_close_t close = {.reply_code = AMQP_REPLY_SUCCESS, .reply_text = broker__text("")};

    dead->phase = BROKER_DEAD_CLOSING;
    broker__connection_put(dead->connection, BROKER_DEAD_CHANNEL, AMQP_CHANNEL_CLOSE_METHOD,
                           &close);
}

static void get_next(struct broker__dead *dead)
{
    char queue[BROKER_NAME_BYTES];

    (void)snprintf(queue, sizeof queue, "cheops.dead.%s", dead->site);
    amqp_basic_get_t get = {.queue = broker__text(queue)};
    broker__connection_put(dead->connection, BROKER_DEAD_CHANNEL, AMQP_BASIC_GET_METHOD, &get);
}

void broker__dead_start(struct broker__dead *dead, enum chp_dead_action action, const char *id,
                        chp_dead_fn *on_done, void *user)
{
    struct chp_error error;
    int code = 0;

    if (dead->phase != BROKER_DEAD_IDLE) {
        code = chp_error_set(&error, CHP_EBUSY, "another action on dead letters is running");
    } else if (!broker__connection_ready(dead->connection)) {
        code = chp_error_set(&error, CHP_EUNAVAILABLE, "no connection to the broker");
    } else if (action != CHP_DEAD_LIST && (id == NULL || strlen(id) >= sizeof dead->id)) {
        code = chp_error_set(&error, CHP_ENOTFOUND,
                             "no dead letter has this id; ids have 16 hexadecimal digits");
    }
    if (code != 0) {
        on_done(user, code, NULL, 0, &error);
        return;
    }
    dead->error = (struct chp_error){0};
    dead->fetched = 0;
    dead->action = action;
    (void)snprintf(dead->id, sizeof dead->id, "%s", action == CHP_DEAD_LIST ? "" : id);
    dead->on_done = on_done;
    dead->user = user;
    dead->phase = BROKER_DEAD_OPENING;
    amqp_channel_open_t open = {.out_of_band = amqp_empty_bytes};
    broker__connection_put(dead->connection, BROKER_DEAD_CHANNEL, AMQP_CHANNEL_OPEN_METHOD, &open);
}

static void remove_letter(struct broker__dead *dead)
{
    amqp_basic_ack_t ack = {.delivery_tag = dead->tag};

    broker__connection_put(dead->connection, BROKER_DEAD_CHANNEL, AMQP_BASIC_ACK_METHOD, &ack);
}

static void requeue(struct broker__dead *dead)
{
    const struct chp_dead_letter *letter = &dead->letters[0];
    char exchange[BROKER_NAME_BYTES];
    struct broker__publication publication = {.what = {.body = letter->body,
                                                       .message_id = letter->message_id,
                                                       .correlation_id = dead->correlation_id,
                                                       .content_type = dead->content_type},
                                              .reply_to = dead->reply_to,
                                              .requeue = true};

    if (dead->body_bytes != letter->body.len) {
        (void)chp_error_set(&dead->error, CHP_ETOOBIG,
                            "the dead letter has %zu bytes and cannot be requeued; at most %d",
                            dead->body_bytes, (int)CHP_MESSAGE_MAX_BYTES);
        finish(dead);
        return;
    }
    if (broker__dead_destination(dead->site, letter, exchange, &publication.what.routing_key,
                                 &dead->error) != 0) {
        finish(dead);
        return;
    }
    publication.what.exchange = exchange;
    dead->phase = BROKER_DEAD_PUBLISHING;
    int code = broker__publisher_send(dead->publisher, &publication);
    if (code != 0) {
        (void)chp_error_set(&dead->error, code, "the dead letter stays: publishing it again: %s",
                            chp_error_name(code));
        finish(dead);
    }
}

void broker__dead_on_settled(struct broker__dead *dead, enum chp_outcome outcome)
{
    if (dead->phase != BROKER_DEAD_PUBLISHING) {
        return; /* the consuming connection was lost meanwhile: the letter is both requeued and here
                 */
    }
    switch (outcome) {
    case CHP_OUTCOME_CONFIRMED:
        remove_letter(dead);
        break;
    case CHP_OUTCOME_RETURNED:
        (void)chp_error_set(&dead->error, CHP_ECONFLICT,
                            "the dead letter stays: nothing is bound for it");
        break;
    case CHP_OUTCOME_NACKED:
    case CHP_OUTCOME_LOST:
        (void)chp_error_set(&dead->error, CHP_EUNAVAILABLE,
                            "the dead letter stays: the broker did not confirm it in its queue");
        break;
    }
    finish(dead);
}

/* The letter that was asked for is the one that is kept. */
static void act(struct broker__dead *dead)
{
    switch (dead->action) {
    case CHP_DEAD_REQUEUE:
        requeue(dead);
        return;
    case CHP_DEAD_DROP:
        remove_letter(dead);
        break;
    case CHP_DEAD_LIST:
    case CHP_DEAD_SHOW:
        break;
    }
    finish(dead);
}

/* Nothing more is to be had, or to be read. */
static void exhausted(struct broker__dead *dead)
{
    if (dead->action != CHP_DEAD_LIST) {
        (void)chp_error_set(&dead->error, CHP_ENOTFOUND, "no dead letter '%s' among the first %zu",
                            dead->id, dead->fetched);
    }
    finish(dead);
}

static void keep(struct broker__dead *dead, const struct broker__message *message)
{
    struct chp_arena *arena = &dead->arena;
    char id[BROKER_DEAD_ID_BYTES];

    broker__dead_id(id, message->message_id, chp_buf_bytes(&message->body));
    if (dead->action != CHP_DEAD_LIST) {
        forget_letters(dead);
    }
    if (dead->letters == NULL) {
        dead->letters = chp_arena_calloc(arena, dead->action == CHP_DEAD_LIST ? BROKER_DEAD_MAX : 1,
                                         sizeof dead->letters[0]);
    }
    /* What an alternate exchange brought here has no headers of an agent. */
    bool consumed = message->dead_reason[0] != '\0';
    dead->letters[dead->count++] = (struct chp_dead_letter){
        .id = chp_arena_strdup(arena, id),
        .reason =
            chp_arena_strdup(arena, consumed ? message->dead_reason : "no queue is bound for it"),
        .queue = chp_arena_strdup(arena, consumed ? message->dead_queue : BROKER_UNROUTABLE),
        .routing_key = chp_arena_strdup(arena, message->routing_key),
        .exchange = chp_arena_strdup(arena, message->exchange),
        .message_id = chp_arena_strdup(arena, message->message_id),
        .at_ms = message->dead_at_ms != 0 ? message->dead_at_ms : message->timestamp_s * 1000,
        .body = chp_arena_bytes(arena, chp_buf_bytes(&message->body))};
    dead->bytes += message->body.len;
}

void broker__dead_on_message(struct broker__dead *dead, const struct broker__message *message)
{
    if (dead->phase != BROKER_DEAD_FETCHING) {
        return;
    }
    keep(dead, message);
    dead->fetched++;
    if (dead->action != CHP_DEAD_LIST && strcmp(dead->letters[0].id, dead->id) == 0) {
        dead->tag = message->delivery_tag;
        dead->reply_to = chp_arena_strdup(&dead->arena, message->reply_to);
        dead->correlation_id = chp_arena_strdup(&dead->arena, message->correlation_id);
        dead->content_type = chp_arena_strdup(&dead->arena, message->content_type);
        dead->body_bytes = message->body_bytes;
        act(dead);
    } else if (dead->fetched >= BROKER_DEAD_MAX || dead->bytes >= BROKER_DEAD_BYTES_MAX) {
        exhausted(dead);
    } else {
        get_next(dead);
    }
}

void broker__dead_on_method(struct broker__dead *dead, const amqp_method_t *method)
{
    if (method->id == AMQP_CHANNEL_OPEN_OK_METHOD && dead->phase == BROKER_DEAD_OPENING) {
        dead->phase = BROKER_DEAD_FETCHING;
        get_next(dead);
    } else if (method->id == AMQP_BASIC_GET_EMPTY_METHOD && dead->phase == BROKER_DEAD_FETCHING) {
        exhausted(dead);
    } else if (method->id == AMQP_CHANNEL_CLOSE_OK_METHOD && dead->phase == BROKER_DEAD_CLOSING) {
        answer(dead);
    } else if (method->id == AMQP_CHANNEL_CLOSE_METHOD && dead->phase != BROKER_DEAD_IDLE) {
        const amqp_channel_close_t *close = method->decoded;
        struct chp_error error;
        (void)chp_error_set(&error, CHP_EUNAVAILABLE, "the broker refused: %u %.*s",
                            (unsigned)close->reply_code,
                            (int)(close->reply_text.len < 300 ? close->reply_text.len : 300),
                            (const char *)close->reply_text.bytes);
        broker__dead_on_lost(dead, &error);
    }
}

void broker__dead_on_lost(struct broker__dead *dead, const struct chp_error *error)
{
    if (dead->phase == BROKER_DEAD_IDLE) {
        return;
    }
    if (dead->error.code == 0) {
        (void)chp_error_set(&dead->error, CHP_EUNAVAILABLE, "%s", error->text);
    }
    answer(dead);
}
