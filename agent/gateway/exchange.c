/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * One request and its answer.
 *
 * evhttp 2.1 gives a server its requests only when the whole body is in memory. Bodies here may be
 * large, and who sends one must be known before it is read, so the request's callbacks are set
 * earlier: find_request gets hold of the object that evhttp reads into, and struct evhttp_request
 * (event2/http_struct.h, public) lets us set them. From then on evhttp calls head_on_read when the
 * header is complete, body_on_read for each piece of body, which it drains, and request_on_read at
 * the end or when the request is not HTTP. (libevent 2.2 has evhttp_set_newreqcb for the first
 * step.) Rejected: our own HTTP parser; evhttp's private symbols; buffering bodies.
 */
#include "gateway/internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum { EXCHANGE_MAGIC = 0x45584348 };

/* The stages that may follow each stage, as bits. */
static const unsigned stage_next[] = {
    [GATEWAY_HEAD] = 1U << GATEWAY_BODY | 1U << GATEWAY_HANDLING | 1U << GATEWAY_OVER,
    [GATEWAY_BODY] = 1U << GATEWAY_HANDLING | 1U << GATEWAY_ANSWERED | 1U << GATEWAY_OVER,
    [GATEWAY_HANDLING] = 1U << GATEWAY_STREAMING | 1U << GATEWAY_ANSWERED | 1U << GATEWAY_OVER,
    [GATEWAY_STREAMING] = 1U << GATEWAY_ANSWERED | 1U << GATEWAY_OVER,
    [GATEWAY_ANSWERED] = 1U << GATEWAY_OVER,
    [GATEWAY_OVER] = 0,
};

void gateway__stage_set(struct gateway_exchange *exchange, enum gateway_stage stage)
{
    CHP_ASSERT(exchange->magic == EXCHANGE_MAGIC);
    CHP_ASSERT((stage_next[exchange->stage] & 1U << stage) != 0);
    exchange->stage = stage;
    exchange->progress_ms = chp_clock_mono_ms();
}

struct gateway_exchange *gateway__exchange_of(void *user)
{
    struct gateway_exchange *exchange = user;
    CHP_ASSERT(exchange->magic == EXCHANGE_MAGIC);
    bool takes = exchange->stage == GATEWAY_HANDLING || exchange->stage == GATEWAY_STREAMING;
    return takes && !exchange->connection->doomed ? exchange : NULL;
}

void gateway__refuse(struct gateway_exchange *exchange, int status, int code, const char *format,
                     ...)
{
    char text[CHP_ERROR_TEXT_BYTES];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (exchange->refused_status == 0) {
        (void)chp_error_set(&exchange->refusal, code, "%s", text);
        exchange->refused_status = status != 0 ? status : chp_error_http_status(code);
    }
}

/* --- the end ----------------------------------------------------------------------------- */

static void let_go(struct gateway_exchange *exchange)
{
    struct chp_agent_port *port = &exchange->door->port;
    if (exchange->asked) {
        port->vtable->unwatch(port->agent, exchange);
        port->vtable->query_cancel(port->agent, exchange);
        exchange->asked = false;
    }
}

static void retire(struct gateway_exchange *exchange)
{
    gateway__stage_set(exchange, GATEWAY_OVER);
    exchange->connection->exchange = NULL;
    exchange->connection->served = true;
    exchange->connection = NULL;
    exchange->request = NULL;
    chp_list_append(&exchange->door->over, &exchange->node);
    event_active(exchange->door->settle, EV_TIMEOUT, 1);
}

void gateway__exchange_lost(struct gateway_exchange *exchange)
{
    struct evhttp_request *request = exchange->request;
    let_go(exchange);
    retire(exchange);
    /* evhttp detaches a request that waits for its answer, and leaves it to us; others it frees. */
    if (evhttp_request_get_connection(request) == NULL) {
        evhttp_request_free(request);
    }
}

void gateway__exchange_free(struct gateway_exchange *exchange)
{
    CHP_ASSERT(exchange->stage == GATEWAY_OVER);
    let_go(exchange);
    if (exchange->state != NULL) {
        exchange->state_free(exchange->state);
    }
    exchange->door->port.vtable->blob_abort(exchange->writer);
    gateway__form_free(exchange->form);
    evhttp_clear_headers(&exchange->query);
    chp_buf_deinit(&exchange->body);
    chp_arena_deinit(&exchange->arena);
    exchange->magic = 0;
    free(exchange);
}

static void answer_on_sent(struct evhttp_request *request, void *user)
{
    struct gateway_exchange *exchange = user;
    CHP_ASSERT(exchange->request == request);
    if (exchange->body_left) {
        gateway__linger(exchange->door, bufferevent_getfd(exchange->connection->bev));
    }
    gateway__touch(exchange->connection);
    retire(exchange);
}

/* --- the head ---------------------------------------------------------------------------- */

static const char *header(const struct gateway_exchange *exchange, const char *name)
{
    return evhttp_find_header(evhttp_request_get_input_headers(exchange->request), name);
}

static size_t header_count(const struct gateway_exchange *exchange, const char *name)
{
    size_t count = 0;
    struct evkeyval *entry = evhttp_request_get_input_headers(exchange->request)->tqh_first;
    for (; entry != NULL; entry = entry->next.tqe_next) {
        count += strcasecmp(entry->key, name) == 0;
    }
    return count;
}

/* What evhttp would read as it likes and the next hop might read differently. */
static void check_framing(struct gateway_exchange *exchange)
{
    const char *encoding = header(exchange, "Transfer-Encoding");
    const char *length = header(exchange, "Content-Length");
    const char *expect = header(exchange, "Expect");
    if (header_count(exchange, "Content-Length") > 1 || header_count(exchange, "Host") > 1 ||
        header_count(exchange, "Transfer-Encoding") > 1 || (encoding != NULL && length != NULL)) {
        gateway__refuse(
            exchange, 0, CHP_EMALFORMED,
            "headers Host, Content-Length and Transfer-Encoding may come once, and not both of "
            "the last two");
    } else if (length != NULL &&
               (length[0] == '\0' || length[strspn(length, "0123456789")] != '\0')) {
        gateway__refuse(exchange, 0, CHP_EMALFORMED, "Content-Length is not a number");
    } else if (encoding != NULL && strcasecmp(encoding, "chunked") != 0) {
        gateway__refuse(exchange, 501, CHP_EINVAL, "Transfer-Encoding may only be chunked");
    } else if (expect != NULL && strcasecmp(expect, "100-continue") != 0) {
        gateway__refuse(exchange, 417, CHP_EINVAL, "Expect may only be 100-continue");
    }
}

/* The type of a content type, without its parameters. */
static bool type_is(const char *content_type, const char *type)
{
    size_t len = content_type != NULL ? strcspn(content_type, "; \t") : 0;
    return len == strlen(type) && strncasecmp(content_type, type, len) == 0;
}

static void check_body(struct gateway_exchange *exchange)
{
    struct chp_http_door *door = exchange->door;
    const char *type = header(exchange, "Content-Type");
    const char *length = header(exchange, "Content-Length");
    uint64_t bytes = length != NULL ? strtoull(length, NULL, 10) : 0;
    bool has_body = bytes > 0 || header(exchange, "Transfer-Encoding") != NULL;
    uint64_t max = door->body_max_bytes;
    switch (exchange->route->body) {
    case GATEWAY_NO_BODY:
        if (has_body) {
            gateway__refuse(exchange, 0, CHP_EINVAL, "this call takes no body");
        }
        return;
    case GATEWAY_JSON_BODY:
        max = door->json_max_bytes;
        if (!type_is(type, "application/json")) {
            gateway__refuse(exchange, 415, CHP_EINVAL, "Content-Type must be application/json");
        }
        break;
    case GATEWAY_FORM_BODY:
        if (!type_is(type, "multipart/form-data")) {
            gateway__refuse(exchange, 415, CHP_EINVAL, "Content-Type must be multipart/form-data");
        }
        break;
    case GATEWAY_RAW_BODY:
        break;
    }
    if (bytes > max) {
        gateway__refuse(exchange, 0, CHP_ETOOBIG, "the body has %llu bytes, over the bound of %llu",
                        (unsigned long long)bytes, (unsigned long long)max);
    }
}

static void begin_body(struct gateway_exchange *exchange)
{
    struct chp_agent_port *port = &exchange->door->port;
    struct chp_error error = {0};
    int rc = 0;
    if (exchange->route->body == GATEWAY_FORM_BODY) {
        rc = gateway__form_begin(exchange, header(exchange, "Content-Type"), &error);
    } else if (exchange->route->body == GATEWAY_RAW_BODY) {
        rc = port->vtable->blob_begin(port->agent, &exchange->writer, &error);
    }
    if (rc != 0) {
        gateway__refuse(exchange, 0, rc, "%s", error.text);
    }
}

static void check_head(struct gateway_exchange *exchange)
{
    if (exchange->connection->surplus) {
        gateway__refuse(exchange, 503, CHP_EBUSY, "too many connections: the bound is %zu",
                        exchange->door->connections_max);
    }
    if (exchange->refused_status == 0) {
        check_framing(exchange);
    }
    if (exchange->refused_status == 0 && gateway__check_origin(exchange) == 0 &&
        gateway__route(exchange) == 0) {
        check_body(exchange);
    }
    if (exchange->refused_status == 0) {
        begin_body(exchange);
    }
}

/* evhttp bounds a body by the connection. A known length was checked above; of chunks, each is
 * bounded (body_on_read). */
static void bound_body(struct gateway_exchange *exchange)
{
    const char *length = header(exchange, "Content-Length");
    uint64_t max = length != NULL ? strtoull(length, NULL, 10) : GATEWAY_CHUNK_MAX_BYTES;
    evhttp_connection_set_max_body_size(exchange->connection->evcon, (ev_ssize_t)max);
}

/* evhttp then takes the request for one without a body and lets us answer at once. */
static void hide_body(struct gateway_exchange *exchange)
{
    struct evkeyvalq *headers = evhttp_request_get_input_headers(exchange->request);
    exchange->body_left =
        header(exchange, "Transfer-Encoding") != NULL || header(exchange, "Content-Length") != NULL;
    while (evhttp_remove_header(headers, "Content-Length") == 0) {
    }
    while (evhttp_remove_header(headers, "Transfer-Encoding") == 0) {
    }
    (void)evhttp_remove_header(headers, "Expect");
}

static int head_on_read(struct evhttp_request *request, void *user)
{
    struct gateway_exchange *exchange = user;
    (void)request;
    gateway__stage_set(exchange, GATEWAY_BODY);
    check_head(exchange);
    if (exchange->refused_status != 0) {
        hide_body(exchange);
    } else {
        bound_body(exchange);
    }
    return 0;
}

/* --- the body ---------------------------------------------------------------------------- */

static int body_take(struct gateway_exchange *exchange, const void *data, size_t len,
                     struct chp_error *error)
{
    struct chp_http_door *door = exchange->door;
    enum gateway_body body = exchange->route->body;
    uint64_t max = body == GATEWAY_JSON_BODY ? door->json_max_bytes : door->body_max_bytes;
    if (len > max - exchange->body_bytes) {
        return chp_error_set(error, CHP_ETOOBIG, "the body is over the bound of %llu bytes",
                             (unsigned long long)max);
    }
    exchange->body_bytes += len;
    switch (body) {
    case GATEWAY_JSON_BODY:
        chp_buf_add(&exchange->body, data, len);
        return 0;
    case GATEWAY_FORM_BODY:
        return gateway__form_feed(exchange->form, data, len, error);
    case GATEWAY_RAW_BODY:
        return door->port.vtable->blob_write(exchange->writer, data, len, error);
    case GATEWAY_NO_BODY:
        break;
    }
    return chp_error_set(error, CHP_EINVAL, "this call takes no body");
}

static void body_on_read(struct evhttp_request *request, void *user)
{
    struct gateway_exchange *exchange = user;
    struct evbuffer *input = evhttp_request_get_input_buffer(request);
    struct evbuffer_iovec piece;
    struct chp_error error = {0};
    if (request->chunked) {
        /* Moves along, so that it bounds one chunk and not the body. */
        evhttp_connection_set_max_body_size(
            exchange->connection->evcon,
            (ev_ssize_t)(request->body_size + GATEWAY_CHUNK_MAX_BYTES));
    }
    while (exchange->stage == GATEWAY_BODY && exchange->refused_status == 0 &&
           evbuffer_peek(input, -1, NULL, &piece, 1) > 0 && piece.iov_len > 0) {
        int rc = body_take(exchange, piece.iov_base, piece.iov_len, &error);
        (void)evbuffer_drain(input, piece.iov_len);
        if (rc != 0) {
            gateway__refuse(exchange, 0, rc, "%s", error.text);
            gateway__touch(exchange->connection); /* not from inside evhttp's reading */
        }
    }
}

/* --- the whole --------------------------------------------------------------------------- */

/* Learns of a client that hangs up while it waits; what it sends meanwhile stays unread. */
static void detect_close(struct gateway_connection *connection)
{
    bufferevent_data_cb on_write;
    bufferevent_event_cb on_event;
    void *user;
    bufferevent_getcb(connection->bev, NULL, &on_write, &on_event, &user);
    bufferevent_setcb(connection->bev, NULL, on_write, on_event, user);
    (void)bufferevent_enable(connection->bev, EV_READ);
}

/* In place of evhttp's own dispatcher, whose part it takes: the request is now ours to answer. */
static void request_on_read(struct evhttp_request *request, void *user)
{
    struct gateway_exchange *exchange = user;
    struct chp_agent_port *port = &exchange->door->port;
    if (exchange->stage == GATEWAY_ANSWERED) {
        return; /* refused in the middle of a body that has ended since */
    }
    request->userdone = 0;
    gateway__stage_set(exchange, GATEWAY_HANDLING);
    detect_close(exchange->connection);
    port->vtable->metrics_mutable(port->agent)->http_requests_total++;
    if (request->uri == NULL) {
        exchange->body_left = true;
        request->major = request->minor = 1; /* of the answer: there may have been none to read */
        if (request->response_code == HTTP_ENTITYTOOLARGE) {
            gateway__refuse(exchange, 0, CHP_ETOOBIG,
                            "the body's chunks cannot be read or one has more than %d bytes",
                            GATEWAY_CHUNK_MAX_BYTES);
        } else {
            gateway__refuse(
                exchange, 0, CHP_EMALFORMED,
                "the request line or a header cannot be read, or they have more than %d "
                "bytes",
                GATEWAY_HEADERS_MAX_BYTES);
        }
    }
    if (exchange->refused_status == 0) {
        exchange->route->handle(exchange);
    }
    if (exchange->refused_status != 0 && exchange->stage == GATEWAY_HANDLING) {
        gateway__reply_refusal(exchange);
    }
}

/*
 * The request that evhttp will read next on the connection. A probe is queued behind it as if it
 * were to be sent; its list entry then points back to the request, which is all that we want of it.
 * evhttp would only look at a queued request once the first is done, and the probe is gone by then.
 */
static struct evhttp_request *find_request(struct evhttp_connection *evcon)
{
    struct evhttp_request *probe = evhttp_request_new(NULL, NULL);
    CHP_ASSERT(probe != NULL);
    CHP_ASSERT(evhttp_make_request(evcon, probe, EVHTTP_REQ_GET, "/") == 0);
    struct evhttp_request *request =
        CHP_CONTAINER(probe->next.tqe_prev, struct evhttp_request, next.tqe_next);
    evhttp_cancel_request(probe);
    CHP_ASSERT(request->evcon == evcon && request->kind == EVHTTP_REQUEST);
    CHP_ASSERT(request->next.tqe_next == NULL && request->headers_size == 0);
    return request;
}

void gateway__exchange_open(struct gateway_connection *connection)
{
    struct gateway_exchange *exchange = chp_alloc(sizeof *exchange);
    exchange->magic = EXCHANGE_MAGIC;
    exchange->stage = GATEWAY_HEAD;
    exchange->door = connection->door;
    exchange->connection = connection;
    exchange->progress_ms = chp_clock_mono_ms();
    exchange->query.tqh_last = &exchange->query.tqh_first;
    exchange->request = find_request(connection->evcon);
    exchange->request->cb = request_on_read;
    exchange->request->cb_arg = exchange;
    evhttp_request_set_header_cb(exchange->request, head_on_read);
    evhttp_request_set_chunked_cb(exchange->request, body_on_read);
    evhttp_request_set_on_complete_cb(exchange->request, answer_on_sent, exchange);
    CHP_ASSERT(connection->exchange == NULL);
    connection->exchange = exchange;
}
