/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * What the brokers and the links between them do: a queue from each site to each other for each
 * routing key. What waits for a link or for a site stays; a message is acked when all its items are
 * settled, and comes again if its consumer goes before that.
 */
#include "sim/world.h"

#include "base/mem.h"
#include "wire/wire.h"

#include <stdlib.h>
#include <string.h>

void sim_net_init(struct sim *sim)
{
    for (int from = 0; from < sim->schedule->site_count; from++) {
        for (int to = 0; to < sim->schedule->site_count; to++) {
            sim->link_rng[from][to] =
                sim_rng_of(sim->schedule->seed, 200 + (uint64_t)(from * SIM_SITES_MAX + to));
            for (int key = 0; key < SIM_LANES; key++) {
                chp_list_init(&sim->lanes[from][to][key].messages);
            }
        }
    }
}

void sim_message_free(struct sim_message *message)
{
    struct chp_arena arena = message->arena;
    chp_list_remove(&message->link);
    free(message);
    chp_arena_deinit(&arena);
}

static void drop_all(struct chp_list *messages)
{
    for (struct chp_list *link; (link = chp_list_first(messages)) != NULL;) {
        sim_message_free(CHP_CONTAINER(link, struct sim_message, link));
    }
}

void sim_net_deinit(struct sim *sim)
{
    for (int from = 0; from < sim->schedule->site_count; from++) {
        for (int to = 0; to < sim->schedule->site_count; to++) {
            for (int key = 0; key < SIM_LANES; key++) {
                drop_all(&sim->lanes[from][to][key].messages);
            }
        }
    }
}

struct sim_message *sim_message_new(struct sim_site *from, int to, enum chp_key key)
{
    struct sim_message *message = chp_alloc(sizeof *message);
    message->from = from->index;
    message->to = to;
    message->key = key;
    message->incarnation = chp_engine_incarnation(from->engine);
    message->mark_count = chp_engine_marks(from->engine, sim_site_name(to), message->marks);
    return message;
}

void sim_message_add(struct sim_message *message, struct chp_bytes bytes)
{
    struct sim_item *items =
        chp_arena_calloc(&message->arena, message->item_count + 1, sizeof *items);
    if (message->item_count > 0) {
        memcpy(items, message->items, message->item_count * sizeof *items);
    }
    items[message->item_count] =
        (struct sim_item){.bytes = chp_arena_bytes(&message->arena, bytes)};
    message->items = items;
    message->item_count++;
}

static struct sim_message *copy(const struct sim_message *message)
{
    struct sim_message *twin = chp_alloc(sizeof *twin);
    *twin = *message;
    twin->link = (struct chp_list){0};
    twin->arena = (struct chp_arena){0};
    twin->item_count = 0;
    twin->items = NULL;
    for (size_t i = 0; i < message->item_count; i++) {
        sim_message_add(twin, message->items[i].bytes);
    }
    return twin;
}

static const char *kind_name(enum chp_item_kind kind)
{
    static const char *const names[] = {[CHP_ITEM_OPERATION] = "operation",
                                        [CHP_ITEM_ACK] = "ack",
                                        [CHP_ITEM_WANT] = "want",
                                        [CHP_ITEM_REPAIR] = "repair",
                                        [CHP_ITEM_PAST] = "past",
                                        [CHP_ITEM_NONE] = "none",
                                        [CHP_ITEM_REPORT] = "report",
                                        [CHP_ITEM_REPORTED] = "reported",
                                        [CHP_ITEM_REINCARNATE] = "reincarnate"};
    return kind < sizeof names / sizeof *names && names[kind] != NULL ? names[kind] : "other";
}

static void print_item(struct sim *sim, const struct sim_item *item, struct chp_buf *out)
{
    chp_buf_printf(out, " %s", kind_name(item->item.kind));
    if (item->item.kind == CHP_ITEM_OPERATION) {
        chp_buf_printf(out, " %s", sim_label(sim, &item->item.operation.id));
    } else if (item->item.kind == CHP_ITEM_ACK) {
        chp_buf_printf(out, " %s %s run %u", sim_label(sim, &item->item.ack.operation),
                       chp_state_name(item->item.ack.state), item->item.ack.run);
    }
}

static void trace_message(struct sim *sim, const struct sim_message *message, const char *what)
{
    struct chp_buf text = {0};
    if (sim->trace == NULL || message->key == CHP_KEY_BEAT) {
        return;
    }
    for (size_t i = 0; i < message->item_count; i++) {
        print_item(sim, &message->items[i], &text);
    }
    sim_trace(sim, &sim->sites[message->to], "%s from %s, %s %llu..%llu:%s", what,
              sim_site_name(message->from), chp_key_name(message->key),
              (unsigned long long)message->first,
              (unsigned long long)(message->first + message->item_count - 1),
              message->item_count == 0 ? " probe" : chp_buf_text(&text));
    chp_buf_deinit(&text);
}

static void deliver_later(struct sim *sim, int from, int to, enum chp_key key, uint64_t delay_us)
{
    sim_after(sim, delay_us, SIM_EVENT_DELIVER, to, (uint64_t)from * SIM_LANES + key);
}

static void enqueue(struct sim *sim, struct sim_message *message, bool overtakes)
{
    struct sim_lane *lane = &sim->lanes[message->from][message->to][message->key];
    struct sim_rng *rng = &sim->link_rng[message->from][message->to];
    uint64_t delay_us = sim_rng_between(rng, 300, sim_rng_chance(rng, 20) ? 200000 : 20000);
    if (sim->slow_link[message->from] > 0) {
        delay_us *= 30;
    }
    if (message->key == CHP_KEY_BEAT) {
        drop_all(&lane->messages); /* max-length 1 */
    }
    message->sent_us = sim->now_us;
    if (overtakes) {
        chp_list_prepend(&lane->messages, &message->link);
    } else {
        chp_list_append(&lane->messages, &message->link);
        if (sim->now_us + delay_us < lane->last_us) {
            delay_us = lane->last_us - sim->now_us;
        }
        lane->last_us = sim->now_us + delay_us;
    }
    deliver_later(sim, message->from, message->to, message->key, delay_us);
    if (message->key != CHP_KEY_BEAT) {
        sim->busy_us = message->key == CHP_KEY_CONTROL ? sim->busy_us : sim->now_us;
        sim->totals.messages++;
    }
}

void sim_net_send(struct sim *sim, struct sim_message *message)
{
    struct sim_rng *rng = &sim->link_rng[message->from][message->to];
    unsigned percent = sim->lossy[message->from];
    /* Drawn whether they matter or not, so that a fault that is taken away changes little else. */
    bool lost = sim_rng_chance(rng, percent);
    bool doubled = sim_rng_chance(rng, percent);
    bool overtakes = sim_rng_chance(rng, percent / 2);
    if (lost) {
        sim->totals.lost++;
        sim_message_free(message);
        return;
    }
    if (doubled) {
        sim->totals.doubled++;
        enqueue(sim, copy(message), overtakes);
    }
    enqueue(sim, message, overtakes);
}

static void give_marks(struct sim_site *site, const struct sim_message *message)
{
    bool probes = message->item_count == 0 && message->key != CHP_KEY_BEAT;
    struct chp_event event = {.kind = CHP_EVENT_MARKS,
                              .marks = {.from = sim_site_name(message->from),
                                        .incarnation = message->incarnation,
                                        .marks = message->marks,
                                        .count = message->mark_count,
                                        .key = message->key,
                                        .next = probes ? message->first : 0}};
    sim_site_step(site, &event);
}

static void offer(struct sim_site *site, struct sim_message *message)
{
    for (size_t i = 0; site->started && i < message->item_count; i++) {
        struct sim_item *item = &message->items[i];
        struct chp_event event = {.kind = CHP_EVENT_ITEM,
                                  .item = {.from = sim_site_name(message->from),
                                           .incarnation = message->incarnation,
                                           .key = message->key,
                                           .number = message->first == 0 ? 0 : message->first + i,
                                           .delivery = item->delivery,
                                           .item = &item->item,
                                           .bytes = item->bytes}};
        if (!item->settled) {
            sim_site_step(site, &event);
        }
    }
}

static void take(struct sim_site *site, struct sim_message *message)
{
    struct sim *sim = site->sim;
    chp_list_append(&site->hand, &message->link);
    message->waiting = message->item_count;
    for (size_t i = 0; i < message->item_count; i++) {
        struct sim_item *item = &message->items[i];
        struct chp_error error = {0};
        item->delivery = ++sim->next_delivery;
        item->settled = false;
        int code = chp_item_decode(item->bytes, &message->arena, &item->item, &error);
        if (code != 0) {
            sim_fail(sim, "%s cannot read an item of %s: %s", site->name,
                     sim_site_name(message->from), error.text);
        }
    }
    trace_message(sim, message, "takes");
    give_marks(site, message);
    offer(site, message);
    if (message->item_count == 0) {
        sim_message_free(message);
    }
}

static void take_beat(struct sim_site *site, struct sim_message *message)
{
    struct chp_event event = {.kind = CHP_EVENT_BEAT,
                              .beat = {.from = sim_site_name(message->from),
                                       .incarnation = message->incarnation,
                                       .beat = &message->beat}};
    /* It lives as long as a site may be silent. */
    if (site->sim->now_us - message->sent_us < 5000000) {
        sim_site_step(site, &event);
        give_marks(site, message);
    }
    sim_message_free(message);
}

void sim_net_arrive(struct sim *sim, int to, uint64_t lane_index)
{
    int from = (int)(lane_index / SIM_LANES);
    enum chp_key key = (enum chp_key)(lane_index % SIM_LANES);
    struct chp_list *first = chp_list_first(&sim->lanes[from][to][key].messages);
    struct sim_site *site = &sim->sites[to];
    if (first == NULL || sim->cut[from][to] > 0 || site->down) {
        return; /* it stays */
    }
    struct sim_message *message = CHP_CONTAINER(first, struct sim_message, link);
    chp_list_remove(first);
    if (key == CHP_KEY_BEAT) {
        take_beat(site, message);
    } else {
        take(site, message);
    }
}

void sim_net_resume(struct sim *sim)
{
    for (int from = 0; from < sim->schedule->site_count; from++) {
        for (int to = 0; to < sim->schedule->site_count; to++) {
            for (int key = 0; key < SIM_LANES; key++) {
                uint64_t delay_us = sim_rng_between(&sim->link_rng[from][to], 1000, 100000);
                CHP_LIST_FOREACH_SAFE(&sim->lanes[from][to][key].messages, link, following)
                {
                    deliver_later(sim, from, to, (enum chp_key)key, delay_us);
                    delay_us += 500;
                }
            }
        }
    }
}

void sim_net_settle(struct sim_site *site, uint64_t delivery)
{
    CHP_LIST_FOREACH_SAFE(&site->hand, link, following)
    {
        struct sim_message *message = CHP_CONTAINER(link, struct sim_message, link);
        for (size_t i = 0; i < message->item_count; i++) {
            struct sim_item *item = &message->items[i];
            if (item->delivery != delivery) {
                continue;
            }
            if (item->settled) {
                sim_fail(site->sim, "%s settled an item of %s twice", site->name,
                         sim_site_name(message->from));
            }
            item->settled = true;
            if (--message->waiting == 0) {
                sim_message_free(message);
            }
            return;
        }
    }
    sim_fail(site->sim, "%s settled an item that it does not have", site->name);
}

void sim_net_hand_back(struct sim_site *site, bool lost)
{
    for (struct chp_list *link; (link = chp_list_first(&site->hand)) != NULL;) {
        struct sim_message *message = CHP_CONTAINER(link, struct sim_message, link);
        if (lost) {
            sim_message_free(message);
            continue;
        }
        struct chp_list *back = site->hand.prev; /* the last first, so that the order stays */
        message = CHP_CONTAINER(back, struct sim_message, link);
        chp_list_remove(back);
        chp_list_prepend(&site->sim->lanes[message->from][site->index][message->key].messages,
                         back);
    }
}

void sim_net_offer_hand(struct sim_site *site)
{
    CHP_LIST_FOREACH_SAFE(&site->hand, link, following)
    {
        offer(site, CHP_CONTAINER(link, struct sim_message, link));
    }
}

bool sim_net_idle(const struct sim *sim)
{
    for (int from = 0; from < sim->schedule->site_count; from++) {
        if (!chp_list_empty(&sim->sites[from].hand)) {
            return false;
        }
        for (int to = 0; to < sim->schedule->site_count; to++) {
            if (!chp_list_empty(&sim->lanes[from][to][CHP_KEY_OPERATION].messages) ||
                !chp_list_empty(&sim->lanes[from][to][CHP_KEY_ACK].messages)) {
                return false;
            }
        }
    }
    return true;
}
