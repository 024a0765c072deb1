/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * The streams towards other sites (design sections 3 and 4.7): committed items leave in messages of
 * up to 256 items or 128 KiB, as many together as wait, one at once when one waits.
 *
 * At most CHP_OUT_MESSAGES_MAX messages or CHP_OUT_BYTES_MAX bytes towards a site are on their way
 * (published, and not yet in the receiver's mark); the rest waits in the database. Items that were
 * just committed are kept in memory while there is room, otherwise they are read back when the
 * window opens: memory does not grow with a backlog. Whatever goes wrong with a message (returned,
 * nacked, connection lost, receiver asks), the stream is read again from there.
 */
#include "daemon/daemon.h"
#include "wire/version.h"

#include <stdlib.h>
#include <string.h>

enum {
    READY_MAX_BYTES = 1024 * 1024, /* of one stream in memory, beyond what was published */
    LOAD_ITEMS = CHP_MESSAGE_ITEMS_MAX,
    PROBE_FLOOR_MS = 2 * 1000,
    PROBE_FIRST_MS = 4 * 1000,
    PROBE_MAX_MS = 60 * 1000,
    RETRY_FIRST_MS = 500, /* after a message came back unroutable, or was refused */
    RETRY_MAX_MS = 30 * 1000,
};

struct ready_item {
    struct chp_list link;
    uint64_t number;
    size_t len;
    uint8_t bytes[];
};

/* A message that was published and that the receiver's mark has not passed. */
struct on_way {
    struct chp_list link;
    uint64_t first;
    uint64_t last;
    size_t bytes;
};

struct out_stream {
    struct out_site *site;
    enum chp_key key;
    bool started;
    uint64_t last;         /* committed */
    uint64_t sent;         /* published */
    uint64_t mark;         /* the receiver has */
    struct chp_list ready; /* contiguous from sent + 1 */
    uint64_t ready_last;
    size_t ready_bytes;
    bool loading;
    bool reload; /* what is being loaded is no longer what is needed */
    struct chp_list on_way;
    uint64_t mark_us;  /* the mark moved, or something was put into a stream that had nothing */
    uint64_t moved_us; /* the mark moved, or something was sent on an idle stream */
    uint64_t probe_us; /* wait before the next probe */
    struct chp_backoff probe;
    struct chp_backoff retry;
    uint64_t not_before_us;
};

struct out_site {
    const char *site;
    size_t messages; /* on their way, all streams */
    size_t bytes;
    struct out_stream streams[2];
};

struct sender {
    struct chp_agent *agent;
    struct out_site *sites;
    size_t site_count;
};

static const enum chp_key stream_keys[2] = {CHP_KEY_OPERATION, CHP_KEY_ACK};

struct sender *sender__new(struct chp_agent *agent)
{
    struct sender *sender = chp_alloc(sizeof *sender);
    sender->agent = agent;
    sender->site_count = agent->engine_config.peer_count;
    sender->sites = chp_calloc(sender->site_count, sizeof *sender->sites);
    for (size_t i = 0; i < sender->site_count; i++) {
        sender->sites[i].site = agent->engine_config.peers[i].site;
        for (int k = 0; k < 2; k++) {
            struct out_stream *stream = &sender->sites[i].streams[k];
            stream->site = &sender->sites[i];
            stream->key = stream_keys[k];
            uint64_t seed = agent->engine_config.map_seed + i * 2 + (uint64_t)k;
            chp_backoff_init(&stream->probe, PROBE_FLOOR_MS, PROBE_FIRST_MS, PROBE_MAX_MS, seed);
            chp_backoff_init(&stream->retry, 0, RETRY_FIRST_MS, RETRY_MAX_MS, ~seed);
            chp_list_init(&stream->ready);
            chp_list_init(&stream->on_way);
        }
    }
    return sender;
}

/* Something moves: what is asked next is asked soon. */
static void probe_anew(struct out_stream *stream)
{
    chp_backoff_reset(&stream->probe);
    stream->probe_us = chp_backoff_next_ms(&stream->probe) * 1000;
}

static void drop_ready(struct out_stream *stream)
{
    CHP_LIST_FOREACH_SAFE(&stream->ready, link, following)
    {
        chp_list_remove(link);
        free(CHP_CONTAINER(link, struct ready_item, link));
    }
    stream->ready_bytes = 0;
    stream->ready_last = stream->sent;
}

static void drop_on_way(struct out_stream *stream, struct on_way *message)
{
    stream->site->messages--;
    stream->site->bytes -= message->bytes;
    chp_list_remove(&message->link);
    free(message);
}

static void reset_stream(struct out_stream *stream)
{
    CHP_LIST_FOREACH_SAFE(&stream->on_way, link, following)
    {
        drop_on_way(stream, CHP_CONTAINER(link, struct on_way, link));
    }
    drop_ready(stream);
    stream->started = false;
    stream->loading = stream->reload = false;
    stream->last = stream->sent = stream->mark = stream->ready_last = 0;
    probe_anew(stream);
    stream->not_before_us = 0;
}

void sender__reset(struct sender *sender)
{
    for (size_t i = 0; i < sender->site_count; i++) {
        reset_stream(&sender->sites[i].streams[0]);
        reset_stream(&sender->sites[i].streams[1]);
        CHP_ASSERT(sender->sites[i].messages == 0);
        CHP_ASSERT(sender->sites[i].bytes == 0);
    }
}

void sender__free(struct sender *sender)
{
    sender__reset(sender);
    free(sender->sites);
    free(sender);
}

static struct out_stream *find(struct sender *sender, const char *site, enum chp_key key)
{
    for (size_t i = 0; i < sender->site_count; i++) {
        if (strcmp(sender->sites[i].site, site) == 0) {
            return key == CHP_KEY_OPERATION ? &sender->sites[i].streams[0]
                   : key == CHP_KEY_ACK     ? &sender->sites[i].streams[1]
                                            : NULL;
        }
    }
    return NULL;
}

void sender__started(struct sender *sender, const char *site, enum chp_key key, uint64_t mark,
                     uint64_t last)
{
    struct out_stream *stream = find(sender, site, key);
    CHP_ASSERT(stream != NULL);
    CHP_ASSERT(mark <= last);
    reset_stream(stream);
    stream->started = true;
    stream->last = last;
    stream->sent = stream->mark = stream->ready_last = mark;
    stream->moved_us = stream->mark_us = chp_clock_mono_us();
}

void sender__item(struct sender *sender, const char *site, enum chp_key key, uint64_t number,
                  struct chp_bytes item)
{
    struct out_stream *stream = find(sender, site, key);
    CHP_ASSERT(stream != NULL);
    CHP_ASSERT(number > stream->last);
    if (!stream->started || stream->mark == stream->last) {
        stream->mark_us = chp_clock_mono_us();
    }
    stream->started = true;
    stream->last = number;
    if (number == stream->ready_last + 1 && !stream->loading &&
        stream->ready_bytes + item.len <= READY_MAX_BYTES) {
        struct ready_item *ready = chp_alloc(sizeof *ready + item.len);
        ready->number = number;
        ready->len = item.len;
        memcpy(ready->bytes, item.data, item.len);
        chp_list_append(&stream->ready, &ready->link);
        stream->ready_last = number;
        stream->ready_bytes += item.len;
    }
}

void sender__mark(struct sender *sender, const char *site, enum chp_key key, uint64_t mark)
{
    struct out_stream *stream = find(sender, site, key);
    if (stream == NULL || mark <= stream->mark) {
        return;
    }
    stream->mark = mark;
    stream->moved_us = stream->mark_us = chp_clock_mono_us();
    probe_anew(stream);
    chp_backoff_reset(&stream->retry);
    CHP_LIST_FOREACH_SAFE(&stream->on_way, link, following)
    {
        struct on_way *message = CHP_CONTAINER(link, struct on_way, link);
        if (message->last > mark) {
            break;
        }
        drop_on_way(stream, message);
    }
    if (stream->sent < mark) { /* sent by an earlier life of this agent */
        stream->sent = mark;
        drop_ready(stream);
        stream->reload = stream->loading;
    }
}

/* Everything after number is to be published again. */
static void rewind_to(struct out_stream *stream, uint64_t number)
{
    if (number >= stream->sent) {
        return;
    }
    CHP_LIST_FOREACH_SAFE(&stream->on_way, link, following)
    {
        struct on_way *message = CHP_CONTAINER(link, struct on_way, link);
        if (message->last > number) {
            drop_on_way(stream, message);
        }
    }
    stream->sent = number < stream->mark ? stream->mark : number;
    drop_ready(stream);
    stream->reload = stream->loading;
}

void sender__resend(struct sender *sender, const char *site, enum chp_key key, uint64_t after)
{
    struct out_stream *stream = find(sender, site, key);
    if (stream != NULL && stream->started) {
        chp_log_info("stream is sent again", CHP_S("peer", site), CHP_S("key", chp_key_name(key)),
                     CHP_I("after", after));
        rewind_to(stream, after);
    }
}

void sender__loaded(struct sender *sender, const struct chp_load *load)
{
    struct out_stream *stream = find(sender, load->site, load->stream_key);
    if (stream == NULL || !stream->loading) {
        return;
    }
    stream->loading = false;
    if (stream->reload) {
        stream->reload = false;
        return;
    }
    for (size_t i = 0; i < load->items.count; i++) {
        const struct chp_item_row *row = &load->items.rows[i];
        if (row->number == stream->ready_last + 1) {
            struct ready_item *ready = chp_alloc(sizeof *ready + row->item.len);
            ready->number = row->number;
            ready->len = row->item.len;
            memcpy(ready->bytes, row->item.data, row->item.len);
            chp_list_append(&stream->ready, &ready->link);
            stream->ready_last = row->number;
            stream->ready_bytes += row->item.len;
        }
    }
}

static void load_more(struct sender *sender, struct out_stream *stream)
{
    if (stream->loading || stream->ready_last >= stream->last || !chp_list_empty(&stream->ready)) {
        return;
    }
    struct chp_agent *agent = sender->agent;
    struct chp_load *load = chp_batch_load(&agent->open->batch, CHP_LOAD_OUTBOUND);
    load->site = stream->site->site;
    load->stream_key = stream->key;
    load->after = stream->ready_last;
    load->limit = LOAD_ITEMS;
    stream->loading = true;
    turn__arm(agent);
}

/* Nothing is sent to who could not read it: it waits in the database until one of the two is
 * upgraded. */
static bool speaks(const struct chp_agent *agent, const char *site)
{
    return chp_engine_version(agent->engine, site) != 0;
}

static struct chp_header header_to(struct chp_agent *agent, const char *site, enum chp_key key,
                                   uint64_t first)
{
    struct chp_header header = {
        .version =
            key == CHP_KEY_BEAT ? CHP_WIRE_VERSION_BEAT : chp_engine_version(agent->engine, site),
        .from = agent->config->agent.site,
        .to = site,
        .incarnation = chp_engine_incarnation(agent->engine),
        .key = key,
        .first = first,
    };
    header.mark_count = chp_engine_marks(agent->engine, site, header.marks);
    return header;
}

static int publish(struct chp_agent *agent, const struct chp_header *header,
                   const struct chp_bytes *items, size_t count, uint64_t token,
                   uint64_t expiration_ms)
{
    char exchange[CHP_SITE_MAX_BYTES + 16];
    struct chp_buf body = {0};
    (void)snprintf(exchange, sizeof exchange, "cheops.site.%s", header->to);
    chp_message_encode(header, items, count, &body);
    struct chp_publication publication = {
        .exchange = exchange,
        .routing_key = chp_key_name(header->key),
        .body = chp_buf_bytes(&body),
        .token = token,
        .expiration_ms = expiration_ms,
        .content_type = "application/msgpack",
        .transient = token == 0,
    };
    int code =
        agent->broker == NULL ? CHP_EUNAVAILABLE : chp_broker_publish(agent->broker, &publication);
    agent->metrics.messages_published_total += code == 0;
    chp_buf_deinit(&body);
    return code;
}

/* Token of a stream's message: the stream's index and its first number. */
static uint64_t stream_token(const struct sender *sender, const struct out_stream *stream,
                             uint64_t first)
{
    uint64_t index = (uint64_t)(stream->site - sender->sites) * 2 + (stream->key == CHP_KEY_ACK);
    return token_of(TOKEN_STREAM, index << 40 | (first & 0xffffffffff));
}

/* One message of what is ready; returns whether there may be another. */
static bool send_message(struct sender *sender, struct out_stream *stream)
{
    struct chp_bytes items[CHP_MESSAGE_ITEMS_MAX];
    size_t count = 0;
    size_t bytes = 0;
    CHP_LIST_FOREACH_SAFE(&stream->ready, link, following)
    {
        struct ready_item *ready = CHP_CONTAINER(link, struct ready_item, link);
        if (count == CHP_MESSAGE_ITEMS_MAX || bytes >= CHP_MESSAGE_CLOSE_BYTES) {
            break;
        }
        items[count++] = chp_bytes(ready->bytes, ready->len);
        bytes += ready->len;
    }
    uint64_t first = stream->sent + 1;
    struct chp_header header = header_to(sender->agent, stream->site->site, stream->key, first);
    if (publish(sender->agent, &header, items, count, stream_token(sender, stream, first), 0) !=
        0) {
        return false; /* pumped again when the broker has room, or is back */
    }
    if (chp_list_empty(&stream->on_way)) {
        stream->moved_us = chp_clock_mono_us();
    }
    struct on_way *message = chp_alloc(sizeof *message);
    *message = (struct on_way){.first = first, .last = stream->sent + count, .bytes = bytes};
    chp_list_append(&stream->on_way, &message->link);
    stream->site->messages++;
    stream->site->bytes += bytes;
    stream->sent = message->last;
    for (size_t i = 0; i < count; i++) {
        struct chp_list *link = chp_list_first(&stream->ready);
        struct ready_item *ready = CHP_CONTAINER(link, struct ready_item, link);
        CHP_ASSERT(ready->number == first + i);
        stream->ready_bytes -= ready->len;
        chp_list_remove(link);
        free(ready);
    }
    return true;
}

static void pump_stream(struct sender *sender, struct out_stream *stream)
{
    struct out_site *site = stream->site;
    if (!stream->started || stream->sent == stream->last || !speaks(sender->agent, site->site) ||
        (stream->not_before_us != 0 && chp_clock_mono_us() < stream->not_before_us)) {
        return;
    }
    stream->not_before_us = 0;
    while (!chp_list_empty(&stream->ready) && site->messages < CHP_OUT_MESSAGES_MAX &&
           site->bytes < CHP_OUT_BYTES_MAX) {
        if (!send_message(sender, stream)) {
            return;
        }
    }
    if (site->messages < CHP_OUT_MESSAGES_MAX && site->bytes < CHP_OUT_BYTES_MAX) {
        load_more(sender, stream);
    }
}

void sender__pump(struct sender *sender)
{
    struct chp_agent *agent = sender->agent;
    if (!agent->engine_started || agent->broker == NULL || !chp_broker_up(agent->broker) ||
        agent->broker_blocked) {
        return;
    }
    for (size_t i = 0; i < sender->site_count; i++) {
        pump_stream(sender, &sender->sites[i].streams[0]);
        pump_stream(sender, &sender->sites[i].streams[1]);
    }
}

void sender__settled(struct sender *sender, uint64_t token, enum chp_outcome outcome)
{
    uint64_t index = (token & ~(UINT64_MAX << TOKEN_SHIFT)) >> 40;
    uint64_t first = token & 0xffffffffff;
    if (outcome == CHP_OUTCOME_CONFIRMED || index >= sender->site_count * 2) {
        return;
    }
    struct out_stream *stream = &sender->sites[index / 2].streams[index % 2];
    if (!stream->started || first == 0) {
        return;
    }
    rewind_to(stream, first - 1);
    if (outcome != CHP_OUTCOME_LOST) { /* the connection has a pause of its own */
        stream->not_before_us = chp_clock_mono_us() + chp_backoff_next_ms(&stream->retry) * 1000;
    }
}

/* Asks the receiver, in the stream's own queue, whether it lacks something: an empty message that
 * says with what number the stream goes on (design 4.7). Ever less often while nothing moves. */
static void probe(struct sender *sender, struct out_stream *stream, uint64_t now_us)
{
    if (chp_list_empty(&stream->on_way) || now_us - stream->moved_us < stream->probe_us ||
        !speaks(sender->agent, stream->site->site)) {
        return;
    }
    struct chp_header header =
        header_to(sender->agent, stream->site->site, stream->key, stream->sent + 1);
    (void)publish(sender->agent, &header, NULL, 0, 0, PROBE_MAX_MS);
    stream->moved_us = now_us;
    stream->probe_us = chp_backoff_next_ms(&stream->probe) * 1000;
}

void sender__tick(struct sender *sender)
{
    uint64_t now_us = chp_clock_mono_us();
    if (!sender->agent->engine_started) {
        return;
    }
    for (size_t i = 0; i < sender->site_count; i++) {
        probe(sender, &sender->sites[i].streams[0], now_us);
        probe(sender, &sender->sites[i].streams[1], now_us);
    }
    sender__pump(sender);
}

json_t *sender__streams(struct sender *sender, const char *site)
{
    json_t *rows = json_array();
    for (size_t k = 0; k < 2; k++) {
        const struct out_stream *stream = find(sender, site, stream_keys[k]);
        size_t messages = 0;
        CHP_LIST_FOREACH_SAFE(&stream->on_way, link, following)
        {
            messages++;
        }
        json_array_append_new(
            rows, json_pack("{s:s, s:I, s:I, s:I, s:I}", "key", chp_key_name(stream->key), "mark",
                            (json_int_t)stream->mark, "sent", (json_int_t)stream->sent, "last",
                            (json_int_t)stream->last, "messages", (json_int_t)messages));
    }
    return rows;
}

uint64_t sender__still_ms(struct sender *sender, const char *site)
{
    uint64_t now_us = chp_clock_mono_us();
    uint64_t still_us = 0;
    for (size_t k = 0; k < 2; k++) {
        const struct out_stream *stream = find(sender, site, stream_keys[k]);
        if (stream->started && stream->mark < stream->last && now_us - stream->mark_us > still_us) {
            still_us = now_us - stream->mark_us;
        }
    }
    return still_us / 1000;
}

int sender__control_bytes(struct chp_agent *agent, const char *site, enum chp_key key,
                          struct chp_bytes item, uint64_t expiration_ms)
{
    if (!agent->engine_started) {
        return CHP_EUNAVAILABLE;
    }
    if (key != CHP_KEY_BEAT && !speaks(agent, site)) {
        return CHP_EVERSION;
    }
    struct chp_header header = header_to(agent, site, key, 0);
    return publish(agent, &header, &item, 1, 0, expiration_ms);
}

int sender__control(struct chp_agent *agent, const char *site, enum chp_key key,
                    const struct chp_item *item, uint64_t expiration_ms)
{
    struct chp_buf bytes = {0};
    int code = chp_item_encode(item, &bytes, NULL);
    if (code == 0) {
        code = sender__control_bytes(agent, site, key, chp_buf_bytes(&bytes), expiration_ms);
    }
    chp_buf_deinit(&bytes);
    return code;
}

void sender__beats(struct chp_agent *agent)
{
    if (!agent->engine_started) {
        return;
    }
    struct chp_now now = turn__now();
    for (size_t i = 0; i < agent->engine_config.peer_count; i++) {
        const char *site = agent->engine_config.peers[i].site;
        struct chp_item item = {.kind = CHP_ITEM_BEAT};
        chp_engine_beat(agent->engine, site, &now, &item.beat);
        (void)sender__control(agent, site, CHP_KEY_BEAT, &item, agent->config->agent.down_after_ms);
    }
}
