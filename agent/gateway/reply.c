/* SPDX-License-Identifier: AGPL-3.0-only */
/* Answers: whole ones, errors, and streams. After an answer the exchange takes no other. */
#include "gateway/internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>
#include <string.h>

static void add_header(struct gateway_exchange *exchange, const char *name, const char *value)
{
    struct evkeyvalq *headers = evhttp_request_get_output_headers(exchange->request);
    CHP_ASSERT(evhttp_add_header(headers, name, value) == 0);
}

static void common_headers(struct gateway_exchange *exchange, const char *content_type)
{
    add_header(exchange, "Content-Type", content_type);
    add_header(exchange, "Cache-Control", "no-store");
    add_header(exchange, "X-Content-Type-Options", "nosniff");
    if (exchange->body_left || exchange->door->stopping) {
        add_header(exchange, "Connection", "close");
    }
}

void gateway__reply_text(struct gateway_exchange *exchange, int status, const char *content_type,
                         const void *data, size_t len)
{
    struct evbuffer *body = evbuffer_new();
    CHP_ASSERT(body != NULL);
    common_headers(exchange, content_type);
    if (exchange->head) {
        char text[24];
        (void)snprintf(text, sizeof text, "%zu", len);
        add_header(exchange, "Content-Length", text);
    } else if (len > 0) {
        CHP_ASSERT(evbuffer_add(body, data, len) == 0);
    }
    gateway__stage_set(exchange, GATEWAY_ANSWERED);
    evhttp_send_reply(exchange->request, status, NULL, body);
    evbuffer_free(body);
}

void gateway__reply_json(struct gateway_exchange *exchange, int status, json_t *json)
{
    char *text = json_dumps(json, JSON_COMPACT);
    CHP_ASSERT(text != NULL);
    json_decref(json);
    gateway__reply_text(exchange, status, "application/json", text, strlen(text));
    free(text);
}

void gateway__reply_error(struct gateway_exchange *exchange, int status, int code, const char *text)
{
    const char *sentence = text != NULL && text[0] != '\0' ? text : chp_error_name(code);
    if (status == 0) {
        status = chp_error_http_status(code);
    }
    if (status == 401) {
        add_header(exchange, "WWW-Authenticate", "Basic realm=\"cheops\", charset=\"UTF-8\"");
    }
    if (status == 429 || status == 503) {
        add_header(exchange, "Retry-After", "1");
    }
    if (status == 405) {
        add_header(exchange, "Allow", exchange->allow);
    }
    json_t *json = json_object();
    (void)json_object_set_new(json, "error", gateway__json_text(sentence));
    (void)json_object_set_new(json, "code", json_string(chp_error_name(code)));
    gateway__reply_json(exchange, status, json);
}

void gateway__reply_refusal(struct gateway_exchange *exchange)
{
    CHP_ASSERT(exchange->refused_status != 0);
    gateway__reply_error(exchange, exchange->refused_status, exchange->refusal.code,
                         exchange->refusal.text);
}

void gateway__reply_allow(struct gateway_exchange *exchange)
{
    add_header(exchange, "Allow", exchange->allow);
    gateway__stage_set(exchange, GATEWAY_ANSWERED);
    evhttp_send_reply(exchange->request, 204, NULL, NULL);
}

/* --- streams ----------------------------------------------------------------------------- */

void gateway__stream_start(struct gateway_exchange *exchange, const char *content_type)
{
    common_headers(exchange, content_type);
    add_header(exchange, "X-Accel-Buffering", "no"); /* proxies pass each line on at once */
    gateway__stage_set(exchange, GATEWAY_STREAMING);
    exchange->written_ms = chp_clock_mono_ms();
    evhttp_send_reply_start(exchange->request, HTTP_OK, NULL);
}

size_t gateway__stream_backlog(const struct gateway_exchange *exchange)
{
    return evbuffer_get_length(bufferevent_get_output(exchange->connection->bev));
}

static void stream_on_drained(struct evhttp_connection *evcon, void *user)
{
    struct gateway_exchange *exchange = gateway__exchange_of(user);
    (void)evcon;
    if (exchange != NULL && exchange->on_drained != NULL) {
        exchange->on_drained(exchange);
    }
}

bool gateway__stream_write(struct gateway_exchange *exchange, const void *data, size_t len)
{
    if (exchange->stage != GATEWAY_STREAMING || exchange->connection->doomed) {
        return false;
    }
    /* Streams pause long before (GATEWAY_BACKLOG_BYTES): this is for what cannot. */
    if (gateway__stream_backlog(exchange) > GATEWAY_OUTPUT_MAX_BYTES) {
        chp_log_warn("stream closed", CHP_S("reason", "its client does not read"));
        exchange->connection->doomed = true;
        gateway__touch(exchange->connection);
        return false;
    }
    struct evbuffer *piece = evbuffer_new();
    CHP_ASSERT(piece != NULL && evbuffer_add(piece, data, len) == 0);
    exchange->written_ms = chp_clock_mono_ms();
    evhttp_send_reply_chunk_with_cb(exchange->request, piece, stream_on_drained, exchange);
    evbuffer_free(piece);
    return true;
}

bool gateway__stream_json(struct gateway_exchange *exchange, const json_t *json)
{
    char *text = json_dumps(json, JSON_COMPACT);
    CHP_ASSERT(text != NULL);
    size_t len = strlen(text);
    text[len] = '\n'; /* in place of the NUL */
    bool written = gateway__stream_write(exchange, text, len + 1);
    free(text);
    return written;
}

void gateway__stream_end(struct gateway_exchange *exchange)
{
    if (exchange->stage == GATEWAY_STREAMING && !exchange->connection->doomed) {
        gateway__stage_set(exchange, GATEWAY_ANSWERED);
        evhttp_send_reply_end(exchange->request);
    }
}
