/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Messages from the queues, from delivery to ack. A message is acked when each of its items is
 * settled: its effects are committed, or it is dead-lettered with the broker's confirm. While the
 * store is away messages stay here, and a new engine gets what was not settled; when it stays away
 * they go back to their queues (turn.c).
 *
 * What is in hand is bounded in bytes beside the prefetch, which counts messages of any size: over
 * CHP_INBOUND_MAX_BYTES nothing further is read of the broker until half of it is settled. So what
 * a slow store, or letters that cannot be published, hold up here does not grow, even when a broker
 * that comes and goes delivers it all again each time.
 *
 * A message that can't be read is dead-lettered whole, an item that can't be read alone (design
 * section 3). Nothing is ever requeued: a poison message would come back for ever. An item does
 * come again, since members that compare what they hold give each other what the other lacks: it is
 * one letter, not one for each time.
 *
 * Items that were kept undecoded because an earlier version did not know their kind are read back
 * when the engine has started, a page at a time, and go the same way; such a "message" came from
 * the store, not from a queue.
 */
#include "daemon/daemon.h"

#include <stdlib.h>
#include <string.h>

enum { DEAD_ITEMS_MAX = 1024 /* remembered */ };
enum {
    LETTER_RETRY_FIRST_MS = 500,
    LETTER_RETRY_MAX_MS = 30 * 1000,
    STORED_PAGE = 32, /* items of up to CHP_PAST_MAX_BYTES in memory */
};

struct message;

struct inbound_item {
    struct message *message;
    uint64_t handle;
    struct chp_bytes bytes;
    struct chp_item item;
    bool readable;
    bool unknown; /* of a kind that this version does not know */
    bool settled;
    uint64_t stored; /* chp_undecoded_row.arrival; 0: it came with a message */
    uint64_t number;
};

struct message {
    struct chp_list link;
    struct chp_arena arena;
    enum chp_key inbox;
    uint64_t tag;
    bool stored; /* from the store: has no tag */
    struct chp_message decoded;
    struct inbound_item *items;
    size_t item_count;
    size_t waiting; /* items not settled, and dead letters and answers not confirmed */
    size_t bytes;
};

/* A letter on its way to the dead-letter exchange, or an answer on its way to who sent the message,
 * which is acked when the broker has it. */
struct letter {
    struct chp_list link;
    uint64_t token;
    struct message *message;
    char *reason;
    const char *queue;
    char *message_id;
    const char *reply_to; /* of an answer; the next is its, too */
    const char *correlation_id;
    struct chp_buf body;
    bool published;
};

struct inbound_messages {
    struct chp_agent *agent;
    struct chp_list messages;
    size_t bytes; /* of messages, bodies and what belongs to them */
    bool held;
    struct chp_map *items; /* handle -> struct inbound_item */
    struct chp_list letters;
    struct chp_backoff retry; /* of letters that found no queue */
    uint64_t not_before_ms;
    struct chp_sha256 dead_items[DEAD_ITEMS_MAX]; /* a ring */
    size_t dead_item_count;                       /* ever */
    uint64_t last_handle;
    size_t stored_left; /* of the page of stored items */
    uint64_t stored_after;
    bool stored_more; /* there may be another page */
};

static const char *const inbox_queues[CHP_KEY_COUNT] = {
    [CHP_KEY_REQUEST] = "requests", [CHP_KEY_OPERATION] = "operations", [CHP_KEY_ACK] = "acks",
    [CHP_KEY_CONTROL] = "control",  [CHP_KEY_BEAT] = "beats",           [CHP_KEY_BULK] = "bulk",
};

struct inbound_messages *inbound__new(struct chp_agent *agent)
{
    struct inbound_messages *inbound = chp_alloc(sizeof *inbound);
    inbound->agent = agent;
    inbound->items = chp_map_new(agent->engine_config.map_seed);
    chp_list_init(&inbound->messages);
    chp_list_init(&inbound->letters);
    chp_backoff_init(&inbound->retry, 0, LETTER_RETRY_FIRST_MS, LETTER_RETRY_MAX_MS,
                     agent->engine_config.map_seed ^ TOKEN_DEAD);
    return inbound;
}

static struct chp_bytes handle_key(const uint64_t *handle)
{
    return chp_bytes(handle, sizeof *handle);
}

/* Between the bounds it stays as it is, so that the broker is not held and let go with each
 * message. */
static void hold(struct inbound_messages *inbound)
{
    struct chp_agent *agent = inbound->agent;
    bool held = inbound->bytes >= CHP_INBOUND_MAX_BYTES ||
                (inbound->held && inbound->bytes > CHP_INBOUND_MAX_BYTES / 2);
    agent->metrics.inbound_bytes = (double)inbound->bytes;
    if (held != inbound->held && agent->broker != NULL) {
        inbound->held = held;
        agent->metrics.inbound_held = held;
        chp_log_debug(held ? "enough messages in hand" : "messages are taken again",
                      CHP_I("bytes", inbound->bytes));
        chp_broker_hold(agent->broker, held);
    }
}

static void free_message(struct inbound_messages *inbound, struct message *message)
{
    for (size_t i = 0; i < message->item_count; i++) {
        chp_map_remove(inbound->items, handle_key(&message->items[i].handle));
    }
    CHP_ASSERT(inbound->bytes >= message->bytes);
    inbound->bytes -= message->bytes;
    chp_list_remove(&message->link);
    struct chp_arena arena = message->arena;
    free(message);
    chp_arena_deinit(&arena);
    hold(inbound);
}

static void free_letter(struct letter *letter)
{
    chp_list_remove(&letter->link);
    chp_buf_deinit(&letter->body);
    free(letter->reason);
    free(letter->message_id);
    free(letter);
}

void inbound__drop_all(struct inbound_messages *inbound)
{
    CHP_LIST_FOREACH_SAFE(&inbound->letters, link, following)
    {
        free_letter(CHP_CONTAINER(link, struct letter, link));
    }
    CHP_LIST_FOREACH_SAFE(&inbound->messages, link, following)
    {
        free_message(inbound, CHP_CONTAINER(link, struct message, link));
    }
    inbound->stored_left = 0;
    inbound->stored_more = false;
}

void inbound__free(struct inbound_messages *inbound)
{
    inbound__drop_all(inbound);
    chp_map_free(inbound->items);
    free(inbound);
}

static void load_stored(struct inbound_messages *inbound)
{
    struct chp_agent *agent = inbound->agent;
    struct chp_load *load = chp_batch_load(&agent->open->batch, CHP_LOAD_UNDECODED);
    load->after = inbound->stored_after;
    load->limit = STORED_PAGE;
    turn__arm(agent);
}

static void stored_done(struct inbound_messages *inbound)
{
    CHP_ASSERT(inbound->stored_left > 0);
    if (--inbound->stored_left == 0 && inbound->stored_more) {
        load_stored(inbound);
    }
}

static void done(struct inbound_messages *inbound, struct message *message)
{
    CHP_ASSERT(message->waiting > 0);
    if (--message->waiting > 0) {
        return;
    }
    bool stored = message->stored;
    if (!stored) {
        chp_broker_ack(inbound->agent->broker, message->tag);
    }
    free_message(inbound, message);
    if (stored) {
        stored_done(inbound);
    }
}

static void publish_letter(struct inbound_messages *inbound, struct letter *letter)
{
    struct chp_agent *agent = inbound->agent;
    char exchange[CHP_SITE_MAX_BYTES + 16];
    (void)snprintf(exchange, sizeof exchange, "cheops.dead.%s", agent->config->agent.site);
    struct chp_publication publication = {
        .exchange = exchange,
        .routing_key = letter->queue,
        .body = chp_buf_bytes(&letter->body),
        .token = letter->token,
        .message_id = letter->message_id,
        .content_type = "application/octet-stream",
        .dead_reason = letter->reason,
        .dead_queue = letter->queue,
    };
    if (letter->reply_to != NULL) {
        publication.exchange = "";
        publication.routing_key = letter->reply_to;
        publication.correlation_id = letter->correlation_id;
        publication.content_type = "application/msgpack";
    }
    letter->published = chp_broker_publish(agent->broker, &publication) == 0;
}

static struct letter *letter_new(struct inbound_messages *inbound, struct message *message,
                                 struct chp_bytes body)
{
    struct letter *letter = chp_alloc(sizeof *letter);
    letter->token = token_of(TOKEN_DEAD, ++inbound->last_handle);
    letter->message = message;
    chp_buf_add(&letter->body, body.data, body.len);
    chp_list_append(&inbound->letters, &letter->link);
    message->waiting++;
    return letter;
}

static void dead(struct inbound_messages *inbound, struct message *message, const char *reason,
                 struct chp_bytes body, const char *message_id)
{
    struct chp_agent *agent = inbound->agent;
    struct letter *letter = letter_new(inbound, message, body);
    letter->reason = chp_strdup(reason);
    char queue[CHP_SITE_MAX_BYTES + 32];
    (void)snprintf(queue, sizeof queue, "cheops.%s.%s", agent->config->agent.site,
                   inbox_queues[message->inbox]);
    letter->queue = chp_arena_strdup(&message->arena, queue);
    letter->message_id = message_id == NULL || message_id[0] == 0 ? NULL : chp_strdup(message_id);
    agent->metrics.dead_letters_total++;
    chp_log_warn("dead-lettered", CHP_S("queue", letter->queue), CHP_S("reason", reason),
                 CHP_I("bytes", body.len));
    publish_letter(inbound, letter);
}

/* Whether it has been dead-lettered since the start; it has from now on. */
static bool dead_before(struct inbound_messages *inbound, struct chp_bytes item)
{
    struct chp_sha256 hash = chp_sha256_of(item.data, item.len);
    for (size_t i = 0; i < DEAD_ITEMS_MAX && i < inbound->dead_item_count; i++) {
        if (memcmp(&inbound->dead_items[i], &hash, sizeof hash) == 0) {
            return true;
        }
    }
    inbound->dead_items[inbound->dead_item_count++ % DEAD_ITEMS_MAX] = hash;
    return false;
}

static void dead_item(struct inbound_messages *inbound, struct message *message, const char *reason,
                      struct chp_bytes item)
{
    if (message->inbox != CHP_KEY_REQUEST && dead_before(inbound, item)) {
        chp_log_debug("a dead letter came again", CHP_S("reason", reason));
        return;
    }
    dead(inbound, message, reason, item, NULL);
}

bool inbound__settled(struct inbound_messages *inbound, uint64_t token, enum chp_outcome outcome)
{
    CHP_LIST_FOREACH_SAFE(&inbound->letters, link, following)
    {
        struct letter *letter = CHP_CONTAINER(link, struct letter, link);
        if (letter->token != token) {
            continue;
        }
        if (outcome == CHP_OUTCOME_CONFIRMED ||
            (letter->reply_to != NULL && outcome != CHP_OUTCOME_LOST)) {
            /* An answer that its queue does not take, gone or full, is not worth holding back the
             * others: nothing was admitted. */
            struct message *message = letter->message;
            free_letter(letter);
            done(inbound, message);
            chp_backoff_reset(&inbound->retry);
        } else {
            letter->published = false; /* again at a later pump */
            if (outcome != CHP_OUTCOME_LOST) {
                inbound->not_before_ms = chp_clock_mono_ms() + chp_backoff_next_ms(&inbound->retry);
            }
        }
        return true;
    }
    return false;
}

void inbound__pump(struct inbound_messages *inbound)
{
    if (chp_clock_mono_ms() < inbound->not_before_ms) {
        return;
    }
    CHP_LIST_FOREACH_SAFE(&inbound->letters, link, following)
    {
        struct letter *letter = CHP_CONTAINER(link, struct letter, link);
        if (!letter->published) {
            publish_letter(inbound, letter);
        }
    }
}

static struct inbound_item *item_of(struct inbound_messages *inbound, uint64_t delivery)
{
    return chp_map_get(inbound->items, handle_key(&delivery));
}

void inbound__settle(struct inbound_messages *inbound, uint64_t delivery)
{
    struct inbound_item *item = item_of(inbound, delivery);
    if (item != NULL && !item->settled) {
        item->settled = true;
        done(inbound, item->message);
    }
}

void inbound__answer(struct inbound_messages *inbound, uint64_t delivery, const char *reply_to,
                     const char *correlation_id, struct chp_bytes body)
{
    struct inbound_item *item = item_of(inbound, delivery);
    if (item != NULL) {
        struct letter *letter = letter_new(inbound, item->message, body);
        letter->reply_to = chp_arena_strdup(&item->message->arena, reply_to);
        letter->correlation_id = chp_arena_strdup(&item->message->arena, correlation_id);
        publish_letter(inbound, letter);
    }
}

void inbound__dead_item(struct inbound_messages *inbound, uint64_t delivery, const char *reason,
                        struct chp_bytes bytes)
{
    struct inbound_item *item = item_of(inbound, delivery);
    if (item != NULL) {
        dead_item(inbound, item->message, reason, bytes);
    }
}

/* Gives one item to whom it concerns; settles it at once when nothing is committed for it. */
static void dispatch(struct inbound_messages *inbound, struct inbound_item *item)
{
    struct chp_agent *agent = inbound->agent;
    const struct chp_header *header = &item->message->decoded.header;
    bool engine_item = header->key == CHP_KEY_OPERATION || header->key == CHP_KEY_ACK;
    if (item->readable && !engine_item) {
        switch (item->item.kind) {
        case CHP_ITEM_SHOW:
            shows__on_show(agent->shows, header->from, &item->item.show);
            break;
        case CHP_ITEM_ANSWER:
            shows__on_answer(agent->shows, header->from, &item->item.answer);
            break;
        case CHP_ITEM_FETCH:
            chp_blobs_on_fetch(agent->blobs, header->from, &item->item.fetch);
            break;
        case CHP_ITEM_CHUNK:
            chp_blobs_on_chunk(agent->blobs, header->from, &item->item.chunk);
            agent->metrics.blobs_fetched_bytes_total =
                (double)chp_blobs_fetched_bytes(agent->blobs);
            break;
        case CHP_ITEM_RESOLVE:
            resolves__on_resolve(agent->resolves, header->from, &item->item.resolve);
            break;
        case CHP_ITEM_RESOLVED:
            resolves__on_resolved(agent->resolves, header->from, &item->item.resolved);
            break;
        case CHP_ITEM_WANT:
        case CHP_ITEM_REPAIR:
        case CHP_ITEM_NONE:
        case CHP_ITEM_REPORT:
        case CHP_ITEM_REPORTED:
        case CHP_ITEM_REINCARNATE:
        case CHP_ITEM_PAST:
        case CHP_ITEM_OPERATION:
        case CHP_ITEM_ACK:
        case CHP_ITEM_BEAT:
            engine_item = true;
            break;
        }
        if (!engine_item) {
            inbound__settle(inbound, item->handle);
            return;
        }
    }
    if (!agent->engine_started) {
        return; /* inbound__offer_all */
    }
    agent->metrics.operations_received_total +=
        item->readable && item->item.kind == CHP_ITEM_OPERATION;
    agent->metrics.acks_received_total += item->readable && item->item.kind == CHP_ITEM_ACK;
    struct chp_event event = {
        .kind = CHP_EVENT_ITEM,
        .item = {.from = header->from,
                 .incarnation = header->incarnation,
                 .key = header->key,
                 .number = item->number,
                 .delivery = item->handle,
                 .item = item->readable ? &item->item : NULL,
                 .bytes = item->bytes,
                 .unknown = item->unknown,
                 .stored = item->stored},
    };
    turn__step(agent, &event);
}

/* What an engine that is gone has not settled is read again. */
static void restart_stored(struct inbound_messages *inbound)
{
    inbound->stored_more = false;
    CHP_LIST_FOREACH_SAFE(&inbound->messages, link, following)
    {
        struct message *message = CHP_CONTAINER(link, struct message, link);
        if (message->stored) {
            inbound__settle(inbound, message->items[0].handle);
        }
    }
    inbound->stored_after = 0;
    inbound->stored_more = true;
    if (inbound->stored_left == 0) {
        load_stored(inbound);
    } /* else when the dead letters of the last page are confirmed */
}

static bool is_peer(const struct chp_agent *agent, const char *site)
{
    for (size_t i = 0; i < agent->engine_config.peer_count; i++) {
        if (strcmp(agent->engine_config.peers[i].site, site) == 0) {
            return true;
        }
    }
    return false;
}

/* Makes a message of one stored item; those that are still unknown, or of a site that is not
 * configured now, stay where they are. */
static void take_stored(struct inbound_messages *inbound, const struct chp_undecoded_row *row)
{
    struct chp_agent *agent = inbound->agent;
    struct message *message = chp_alloc(sizeof *message);
    struct chp_arena *arena = &message->arena;
    struct chp_error error = {0};
    chp_list_append(&inbound->messages, &message->link);
    message->stored = true;
    message->inbox = row->key;
    message->waiting = 1;
    message->decoded.header.from = chp_arena_strdup(arena, row->site);
    message->decoded.header.incarnation = row->incarnation;
    message->decoded.header.key = row->key;
    message->items = chp_arena_calloc(arena, 1, sizeof *message->items);
    message->item_count = 1;
    inbound->stored_left++;
    struct inbound_item *item = &message->items[0];
    item->message = message;
    item->handle = ++inbound->last_handle;
    item->bytes = chp_arena_bytes(arena, row->item);
    item->number = row->number;
    item->stored = row->arrival;
    (void)chp_map_put(inbound->items, handle_key(&item->handle), item);
    int code = chp_item_decode(item->bytes, arena, &item->item, &error);
    if (code == CHP_EVERSION || !is_peer(agent, row->site)) {
        inbound__settle(inbound, item->handle);
        return;
    }
    item->readable = code == 0;
    if (!item->readable) {
        dead(inbound, message, error.text, item->bytes, NULL);
    }
    dispatch(inbound, item);
}

void inbound__stored(struct inbound_messages *inbound, const struct chp_load *load)
{
    inbound->stored_more = load->undecoded.count == load->limit;
    inbound->stored_left++; /* not to ask for the next page while this one is walked */
    for (size_t i = 0; i < load->undecoded.count; i++) {
        inbound->stored_after = load->undecoded.rows[i].arrival;
        take_stored(inbound, &load->undecoded.rows[i]);
    }
    stored_done(inbound);
}

void inbound__offer_all(struct inbound_messages *inbound)
{
    restart_stored(inbound);
    CHP_LIST_FOREACH_SAFE(&inbound->messages, link, following)
    {
        struct message *message = CHP_CONTAINER(link, struct message, link);
        if (message->inbox == CHP_KEY_REQUEST) {
            continue; /* submit__offer_all */
        }
        message->waiting++; /* not to go while its items are walked */
        for (size_t i = 0; i < message->item_count; i++) {
            if (!message->items[i].settled) {
                dispatch(inbound, &message->items[i]);
            }
        }
        done(inbound, message);
    }
}

static void give_marks(struct chp_agent *agent, const struct chp_message *message)
{
    const struct chp_header *header = &message->header;
    struct chp_event event = {
        .kind = CHP_EVENT_MARKS,
        .marks = {.from = header->from,
                  .incarnation = header->incarnation,
                  .marks = header->marks,
                  .count = header->mark_count,
                  .key = header->key,
                  .next = message->item_count == 0 ? header->first : 0},
    };
    if (agent->engine_started) {
        turn__step(agent, &event);
    }
}

/* Who it is from and for, and where it came. */
static int check_header(struct chp_agent *agent, enum chp_key inbox,
                        const struct chp_header *header, struct chp_error *error)
{
    if (strcmp(header->to, agent->config->agent.site) != 0) {
        return chp_error_set(error, CHP_EREFUSED, "it is addressed to site \"%s\"", header->to);
    }
    if (header->key != inbox) {
        return chp_error_set(error, CHP_EREFUSED, "its header says %s", chp_key_name(header->key));
    }
    if (is_peer(agent, header->from)) {
        return 0;
    }
    return chp_error_set(error, CHP_EREFUSED,
                         "it comes from \"%s\", which is not a site known here", header->from);
}

/* Design section 3: it waits undecoded. What is not numbered is of the moment, and dropped. */
static void take_unknown(struct inbound_messages *inbound, const struct inbound_item *item,
                         const char *reason)
{
    inbound->agent->metrics.items_unknown_total++;
    chp_log_info(item->number == 0 ? "item dropped" : "item kept undecoded",
                 CHP_S("peer", item->message->decoded.header.from), CHP_S("reason", reason),
                 CHP_I("number", item->number));
    if (item->number == 0) {
        inbound__settle(inbound, item->handle);
    }
}

static void decode_items(struct inbound_messages *inbound, struct message *message)
{
    const struct chp_message *decoded = &message->decoded;
    message->items = chp_arena_calloc(&message->arena, decoded->item_count, sizeof *message->items);
    message->item_count = decoded->item_count;
    message->waiting += decoded->item_count;
    message->bytes += decoded->item_count * CHP_INBOUND_ITEM_BYTES;
    inbound->bytes += decoded->item_count * CHP_INBOUND_ITEM_BYTES;
    hold(inbound);
    for (size_t i = 0; i < decoded->item_count; i++) {
        struct inbound_item *item = &message->items[i];
        struct chp_error error = {0};
        item->message = message;
        item->handle = ++inbound->last_handle;
        item->bytes = decoded->items[i];
        item->number = decoded->header.first == 0 ? 0 : decoded->header.first + i;
        chp_map_put(inbound->items, handle_key(&item->handle), item);
        int code = chp_item_decode(item->bytes, &message->arena, &item->item, &error);
        item->readable = code == 0;
        item->unknown = code == CHP_EVERSION;
        if (item->unknown) {
            take_unknown(inbound, item, error.text);
        } else if (!item->readable) {
            dead_item(inbound, message, error.text, item->bytes);
        }
    }
}

/* Beats are worth something only now: nothing is kept of them. False when it is not a beat for this
 * site. */
static bool on_beat(struct chp_agent *agent, const struct chp_delivery *delivery)
{
    struct chp_arena arena = {0};
    struct chp_message message;
    struct chp_item item;
    bool is_beat =
        delivery->body_bytes == delivery->body.len &&
        chp_message_decode(delivery->body, &arena, &message, NULL) == 0 &&
        check_header(agent, CHP_KEY_BEAT, &message.header, NULL) == 0 && message.item_count == 1 &&
        chp_item_decode(message.items[0], &arena, &item, NULL) == 0 && item.kind == CHP_ITEM_BEAT;
    if (is_beat && agent->engine_started) {
        struct chp_event event = {.kind = CHP_EVENT_BEAT,
                                  .beat = {.from = message.header.from,
                                           .incarnation = message.header.incarnation,
                                           .beat = &item.beat}};
        turn__step(agent, &event);
        give_marks(agent, &message);
    }
    chp_arena_deinit(&arena);
    return is_beat;
}

static struct message *take(struct inbound_messages *inbound, const struct chp_delivery *delivery,
                            struct chp_bytes *body)
{
    struct message *message = chp_alloc(sizeof *message);
    message->inbox = delivery->inbox;
    message->tag = delivery->tag;
    message->waiting = 1; /* until it has been looked at */
    message->bytes = sizeof *message + delivery->body.len;
    inbound->bytes += message->bytes;
    hold(inbound);
    chp_list_append(&inbound->messages, &message->link);
    *body = chp_arena_bytes(&message->arena, delivery->body);
    return message;
}

static void on_request(struct inbound_messages *inbound, struct message *message,
                       const struct chp_delivery *delivery, struct chp_bytes body)
{
    message->items = chp_arena_calloc(&message->arena, 1, sizeof *message->items);
    message->item_count = 1;
    message->waiting++;
    struct inbound_item *item = &message->items[0];
    item->message = message;
    item->handle = ++inbound->last_handle;
    item->settled = false;
    chp_map_put(inbound->items, handle_key(&item->handle), item);
    door_amqp__on_request(inbound->agent, delivery, &message->arena, body, item->handle);
}

static void on_items(struct inbound_messages *inbound, struct message *message,
                     const struct chp_delivery *delivery, struct chp_bytes body)
{
    struct chp_agent *agent = inbound->agent;
    struct chp_error error = {0};
    int code = chp_message_decode(body, &message->arena, &message->decoded, &error);
    if (code == 0) {
        code = check_header(agent, delivery->inbox, &message->decoded.header, &error);
    }
    if (code != 0) {
        dead(inbound, message, error.text, body, delivery->message_id);
        return;
    }
    give_marks(agent, &message->decoded);
    decode_items(inbound, message);
    for (size_t i = 0; i < message->item_count; i++) {
        if (!message->items[i].settled) {
            dispatch(inbound, &message->items[i]);
        }
    }
}

void inbound__on_delivery(void *user, const struct chp_delivery *delivery)
{
    struct chp_agent *agent = user;
    struct inbound_messages *inbound = agent->inbound;
    agent->metrics.messages_received_total++;
    if (delivery->inbox == CHP_KEY_BEAT && !delivery->unchecked && on_beat(agent, delivery)) {
        chp_broker_ack(agent->broker, delivery->tag);
        return;
    }
    struct chp_bytes body;
    struct message *message = take(inbound, delivery, &body);
    if (delivery->unchecked && delivery->inbox != CHP_KEY_REQUEST) {
        dead(inbound, message, "it came by a way that does not check who may send here", body,
             delivery->message_id);
    } else if (delivery->body_bytes > delivery->body.len) {
        char reason[128];
        (void)snprintf(reason, sizeof reason, "it has %zu bytes, at most %d are allowed",
                       delivery->body_bytes, CHP_MESSAGE_MAX_BYTES);
        dead(inbound, message, reason, body, delivery->message_id);
    } else if (delivery->inbox == CHP_KEY_REQUEST) {
        on_request(inbound, message, delivery, body);
    } else {
        on_items(inbound, message, delivery, body);
    }
    done(inbound, message);
}
