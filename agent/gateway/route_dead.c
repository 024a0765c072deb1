/* SPDX-License-Identifier: AGPL-3.0-only */
/* /v1/dead: messages that could not be processed. */
#include "gateway/internal.h"

#include "base/clock.h"
#include "base/mem.h"

/* The broker's answer cannot be cancelled, so the exchange may be gone before it comes. */
struct dead_call {
    struct gateway_exchange *exchange; /* NULL when it is gone */
    enum chp_dead_action action;
};

static void dead_call_forget(void *state)
{
    struct dead_call *call = state;
    call->exchange = NULL;
}

static json_t *json_of_letter(const struct chp_dead_letter *letter, bool body)
{
    char at[CHP_TIME_TEXT_BYTES];
    json_t *json = json_object();
    (void)json_object_set_new(json, "id", gateway__json_text(letter->id));
    (void)json_object_set_new(json, "reason", gateway__json_text(letter->reason));
    (void)json_object_set_new(json, "queue", gateway__json_text(letter->queue));
    (void)json_object_set_new(json, "routing_key", gateway__json_text(letter->routing_key));
    (void)json_object_set_new(json, "exchange", gateway__json_text(letter->exchange));
    (void)json_object_set_new(json, "message_id", gateway__json_text(letter->message_id));
    chp_clock_format(letter->at_ms, at);
    (void)json_object_set_new(json, "at", letter->at_ms != 0 ? json_string(at) : json_null());
    (void)json_object_set_new(json, "body_bytes", json_integer((json_int_t)letter->body.len));
    if (body) {
        struct chp_buf text = {0};
        gateway__base64_encode(letter->body.data, letter->body.len, &text);
        (void)json_object_set_new(json, "body_base64", json_stringn(chp_buf_text(&text), text.len));
        chp_buf_deinit(&text);
    }
    return json;
}

static json_t *json_of_letters(enum chp_dead_action action, const struct chp_dead_letter *letters,
                               size_t count)
{
    if (action == CHP_DEAD_SHOW) {
        return json_of_letter(&letters[0], true);
    }
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        (void)json_array_append_new(list, json_of_letter(&letters[i], false));
    }
    return json_pack("{s:o}", "dead", list);
}

static void dead_on_done(void *user, int code, const struct chp_dead_letter *letters, size_t count,
                         const struct chp_error *error)
{
    struct dead_call *call = user;
    struct gateway_exchange *exchange =
        call->exchange != NULL ? gateway__exchange_of(call->exchange) : NULL;
    enum chp_dead_action action = call->action;
    if (call->exchange != NULL) {
        call->exchange->state = NULL;
    }
    free(call);
    if (exchange == NULL) {
        return;
    }
    if (code == 0 && count == 0 && action == CHP_DEAD_SHOW) {
        code = CHP_ENOTFOUND;
    }
    if (code != 0) {
        gateway__reply_error(exchange, 0, code, error != NULL ? error->text : NULL);
        return;
    }
    gateway__reply_json(exchange, 200, json_of_letters(action, letters, count));
}

static void ask(struct gateway_exchange *exchange, enum chp_dead_action action)
{
    struct chp_agent_port *port = &exchange->door->port;
    struct dead_call *call = chp_alloc(sizeof *call);
    call->exchange = exchange;
    call->action = action;
    exchange->state = call;
    exchange->state_free = dead_call_forget;
    port->vtable->dead(port->agent, action, exchange->id, dead_on_done, call);
}

void gateway__dead_list(struct gateway_exchange *exchange)
{
    ask(exchange, CHP_DEAD_LIST);
}

void gateway__dead_get(struct gateway_exchange *exchange)
{
    ask(exchange, CHP_DEAD_SHOW);
}

void gateway__dead_requeue(struct gateway_exchange *exchange)
{
    ask(exchange, CHP_DEAD_REQUEUE);
}

void gateway__dead_drop(struct gateway_exchange *exchange)
{
    ask(exchange, CHP_DEAD_DROP);
}
