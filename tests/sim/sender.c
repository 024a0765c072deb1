/* SPDX-License-Identifier: AGPL-3.0-only */
/* The streams towards other sites as the daemon sends them (daemon/sender.c), without its windows.
 */
#include "sim/world.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

enum { PROBE_FIRST_US = 2000000, PROBE_MAX_US = 16000000, MESSAGE_ITEMS = 16 };

static struct sim_out *find(struct sim_site *site, const char *to, enum chp_key key)
{
    int index = sim_site_of(site->sim, to);
    CHP_ASSERT(index >= 0 && (key == CHP_KEY_OPERATION || key == CHP_KEY_ACK));
    return &site->out[index][key == CHP_KEY_ACK];
}

static void add_ready(struct sim_out *out, uint64_t number, struct chp_bytes item)
{
    struct sim_ready *ready = chp_alloc(sizeof *ready + item.len);
    ready->number = number;
    ready->len = item.len;
    memcpy(ready->bytes, item.data, item.len);
    chp_list_append(&out->ready, &ready->link);
    out->ready_last = number;
}

static void drop_ready(struct sim_out *out)
{
    for (struct chp_list *link; (link = chp_list_pop(&out->ready)) != NULL;) {
        free(CHP_CONTAINER(link, struct sim_ready, link));
    }
    out->ready_last = out->sent;
}

static void reset(struct sim_out *out)
{
    drop_ready(out);
    out->started = out->loading = out->reload = false;
    out->last = out->sent = out->mark = out->ready_last = 0;
    out->probe_us = PROBE_FIRST_US;
}

void sim_sender_reset(struct sim_site *site)
{
    for (int to = 0; to < site->sim->schedule->site_count; to++) {
        reset(&site->out[to][0]);
        reset(&site->out[to][1]);
    }
}

void sim_sender_started(struct sim_site *site, const struct chp_after *after)
{
    struct sim_out *out = find(site, after->stream.site, after->stream.key);
    CHP_ASSERT(after->stream.mark <= after->stream.last);
    reset(out);
    out->started = true;
    out->last = after->stream.last;
    out->sent = out->mark = out->ready_last = after->stream.mark;
    out->moved_us = site->sim->now_us;
}

void sim_sender_item(struct sim_site *site, const struct chp_after *after)
{
    struct sim_out *out = find(site, after->send.site, after->send.key);
    if (after->send.number != out->last + 1) {
        sim_fail(site->sim, "%s sends %s %llu to %s after %llu", site->name,
                 chp_key_name(after->send.key), (unsigned long long)after->send.number,
                 after->send.site, (unsigned long long)out->last);
    }
    out->started = true;
    out->last = after->send.number;
    if (after->send.number == out->ready_last + 1 && !out->loading) {
        add_ready(out, after->send.number, after->send.item);
    }
}

void sim_sender_mark(struct sim_site *site, const struct chp_after *after)
{
    struct sim_out *out = find(site, after->stream.site, after->stream.key);
    if (after->stream.mark <= out->mark) {
        return;
    }
    out->mark = after->stream.mark;
    out->moved_us = site->sim->now_us;
    out->probe_us = PROBE_FIRST_US;
    if (out->sent < out->mark) { /* sent by an earlier life */
        out->sent = out->mark;
        drop_ready(out);
        out->reload = out->loading;
    }
}

void sim_sender_resend(struct sim_site *site, const struct chp_after *after)
{
    struct sim_out *out = find(site, after->stream.site, after->stream.key);
    if (!out->started || after->stream.mark >= out->sent) {
        return;
    }
    sim_trace(site->sim, site, "sends %s to %s again after %llu", chp_key_name(after->stream.key),
              after->stream.site, (unsigned long long)after->stream.mark);
    out->sent = after->stream.mark < out->mark ? out->mark : after->stream.mark;
    drop_ready(out);
    out->reload = out->loading;
}

void sim_sender_loaded(struct sim_site *site, const struct chp_load *load)
{
    struct sim_out *out = find(site, load->site, load->stream_key);
    if (!out->loading) {
        return;
    }
    out->loading = false;
    if (out->reload) {
        out->reload = false;
        return;
    }
    for (size_t i = 0; i < load->items.count; i++) {
        const struct chp_item_row *row = &load->items.rows[i];
        if (row->number == out->ready_last + 1) {
            add_ready(out, row->number, row->item);
        }
    }
}

static void load_more(struct sim_site *site, int to, enum chp_key key, struct sim_out *out)
{
    if (out->loading || out->ready_last >= out->last || !chp_list_empty(&out->ready)) {
        return;
    }
    struct chp_load *load = chp_batch_load(&site->open->batch, CHP_LOAD_OUTBOUND);
    load->site = sim_site_name(to);
    load->stream_key = key;
    load->after = out->ready_last;
    load->limit = MESSAGE_ITEMS;
    out->loading = true;
}

/* What is ready leaves in messages of some items each. */
static void pump(struct sim_site *site, int to, enum chp_key key, struct sim_out *out)
{
    while (out->started && !chp_list_empty(&out->ready)) {
        struct sim_message *message = sim_message_new(site, to, key);
        uint64_t most = sim_rng_between(&site->rng, 1, MESSAGE_ITEMS);
        message->first = out->sent + 1;
        for (struct chp_list *link;
             message->item_count < most && (link = chp_list_pop(&out->ready)) != NULL;) {
            struct sim_ready *ready = CHP_CONTAINER(link, struct sim_ready, link);
            CHP_ASSERT(ready->number == out->sent + 1);
            sim_message_add(message, chp_bytes(ready->bytes, ready->len));
            out->sent = ready->number;
            free(ready);
        }
        out->moved_us = site->sim->now_us;
        sim_net_send(site->sim, message);
    }
    if (out->started) {
        load_more(site, to, key, out);
    }
}

void sim_sender_pump(struct sim_site *site)
{
    for (int to = 0; site->started && to < site->sim->schedule->site_count; to++) {
        pump(site, to, CHP_KEY_OPERATION, &site->out[to][0]);
        pump(site, to, CHP_KEY_ACK, &site->out[to][1]);
    }
}

static void probe(struct sim_site *site, int to, enum chp_key key, struct sim_out *out)
{
    uint64_t now_us = site->sim->now_us;
    if (out->sent <= out->mark || now_us - out->moved_us < out->probe_us) {
        return;
    }
    struct sim_message *message = sim_message_new(site, to, key);
    message->first = out->sent + 1;
    out->moved_us = now_us;
    out->probe_us = out->probe_us * 2 < PROBE_MAX_US ? out->probe_us * 2 : PROBE_MAX_US;
    sim_net_send(site->sim, message);
}

void sim_sender_tick(struct sim_site *site)
{
    for (int to = 0; to < site->sim->schedule->site_count; to++) {
        probe(site, to, CHP_KEY_OPERATION, &site->out[to][0]);
        probe(site, to, CHP_KEY_ACK, &site->out[to][1]);
    }
    sim_sender_pump(site);
}
