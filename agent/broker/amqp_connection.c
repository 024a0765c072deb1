/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * The state machine of one connection. move() is the only place that changes the state; it checks
 * the step against the table. Whatever goes wrong ends in lose(), which tells the role once and
 * waits; sockets and decoders die at the end of the turn (reap), never under the feet of the loop
 * that reads them.
 *
 * A channel error ends the whole connection: one way back, with one backoff, instead of two.
 */
#include "broker/amqp_connection.h"

#include "base/clock.h"
#include "base/log.h"

#include <event2/bufferevent_ssl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#include "broker/amqp_tls.h"

enum {
    SETUP_TIMEOUT_MS =
        10 * 1000, /* from connecting to ready: many times a handshake on a slow machine */
    CLOSE_TIMEOUT_MS = 1000,
    TICK_MS = 5 * 1000,
    /* A queue that is deleted again and again must not make a hot loop. */
    REDECLARE_FIRST_MS = 1000,
    REDECLARE_MAX_MS = 8 * 1000,
    REDECLARE_QUIET_MS = 30 * 1000, /* after that it is another deletion, not the same again */
    /* Heals what was deleted without a sign, as outbound queues are. */
    REDECLARE_EVERY_MS = 60 * 1000,
    SILENT_INTERVALS = 4, /* half heartbeats without a byte: the broker is gone */
    READ_MAX_BYTES = 256 * 1024,
};

#define BIT(name) (1U << BROKER_STATE_##name)

/* Where each state may lead. */
static const unsigned steps[] = {
    [BROKER_STATE_CONNECTING] = BIT(HANDSHAKE) | BIT(WAITING),
    [BROKER_STATE_HANDSHAKE] = BIT(TUNING) | BIT(CLOSING) | BIT(WAITING),
    [BROKER_STATE_TUNING] = BIT(OPENING) | BIT(CLOSING) | BIT(WAITING),
    [BROKER_STATE_OPENING] = BIT(CHANNEL) | BIT(CLOSING) | BIT(WAITING),
    [BROKER_STATE_CHANNEL] = BIT(TOPOLOGY) | BIT(CLOSING) | BIT(WAITING),
    [BROKER_STATE_TOPOLOGY] = BIT(READY) | BIT(CLOSING) | BIT(WAITING),
    [BROKER_STATE_READY] = BIT(CLOSING) | BIT(WAITING),
    [BROKER_STATE_CLOSING] = BIT(WAITING),
    [BROKER_STATE_WAITING] = BIT(CONNECTING),
};

const char *broker__state_name(enum broker__state state)
{
    static const char *const names[] = {
#define X(name, text) [BROKER_STATE_##name] = (text),
        BROKER_STATES(X)
#undef X
    };
    return names[state];
}

static void move(struct broker__connection *connection, enum broker__state state)
{
    CHP_ASSERT((steps[connection->state] & (1U << state)) != 0);
    chp_log_debug("broker connection", CHP_S("connection", connection->role->name),
                  CHP_S("from", broker__state_name(connection->state)),
                  CHP_S("to", broker__state_name(state)));
    connection->state = state;
}

static void arm(struct broker__connection *connection, uint64_t delay_ms)
{
    const struct timeval delay = {.tv_sec = (time_t)(delay_ms / 1000),
                                  .tv_usec = (suseconds_t)(delay_ms % 1000 * 1000)};

    (void)event_add(connection->timer, &delay);
}

static void tell_lost(struct broker__connection *connection, bool was_ready,
                      const struct chp_error *error)
{
    if (connection->lost_told) {
        return;
    }
    connection->lost_told = true;
    if (was_ready &&
        chp_clock_mono_ms() - connection->ready_ms >= connection->target->retry_max_ms) {
        chp_backoff_reset(&connection->retry);
    }
    if (connection->blocked) {
        connection->blocked = false;
        connection->role->on_blocked(connection->user, false, "");
    }
    connection->role->on_lost(connection->user, was_ready, error);
}

static void lose(struct broker__connection *connection, const struct chp_error *error)
{
    if (connection->state == BROKER_STATE_WAITING) {
        return;
    }
    bool was_ready = connection->state == BROKER_STATE_READY;
    move(connection, BROKER_STATE_WAITING);
    if (connection->stream != NULL) {
        (void)bufferevent_disable(connection->stream, EV_READ | EV_WRITE);
    }
    event_active(connection->reaper, EV_TIMEOUT, 0);
    arm(connection, chp_backoff_next_ms(&connection->retry));
    tell_lost(connection, was_ready, error);
}

static void reap(struct broker__connection *connection)
{
    if (connection->stream != NULL) {
        bufferevent_free(connection->stream);
        connection->stream = NULL;
    }
    broker__codec_deinit(&connection->codec);
}

static void connection_on_reap(evutil_socket_t fd, short events, void *user)
{
    struct broker__connection *connection = user;

    (void)fd;
    (void)events;
    if (connection->state == BROKER_STATE_WAITING) {
        reap(connection);
    }
}

struct evbuffer *broker__connection_output(const struct broker__connection *connection)
{
    CHP_ASSERT(connection->stream != NULL);
    return bufferevent_get_output(connection->stream);
}

size_t broker__connection_unsent(const struct broker__connection *connection)
{
    return evbuffer_get_length(broker__connection_output(connection));
}

void broker__connection_put(struct broker__connection *connection, uint16_t channel,
                            amqp_method_number_t id, void *method)
{
    int code = broker__codec_put_method(broker__connection_output(connection), channel, id, method);
    CHP_ASSERT(code == 0);
}

bool broker__connection_ready(const struct broker__connection *connection)
{
    return connection->state == BROKER_STATE_READY;
}

bool broker__connection_redeclare(struct broker__connection *connection)
{
    CHP_ASSERT(connection->state == BROKER_STATE_READY);
    uint64_t now_ms = chp_clock_mono_ms();
    if (now_ms < connection->redeclare_ms || connection->blocked) {
        return false;
    }
    if (now_ms - connection->declared_ms >= REDECLARE_QUIET_MS) {
        chp_backoff_reset(&connection->redeclare);
    }
    connection->declared_ms = now_ms;
    connection->redeclare_ms = now_ms + chp_backoff_next_ms(&connection->redeclare);
    connection->role->declare(connection->user);
    return true;
}

void broker__connection_hold(struct broker__connection *connection, bool held)
{
    if (connection->held == held) {
        return;
    }
    connection->held = held;
    if (connection->state == BROKER_STATE_READY) {
        connection->heard_ms = chp_clock_mono_ms(); /* what it said meanwhile was not read */
        (void)(held ? bufferevent_disable(connection->stream, EV_READ)
                    : bufferevent_enable(connection->stream, EV_READ));
    }
}

/* Leaves with manners: the broker gets the reason, for its log, and time to answer. */
static void close_with(struct broker__connection *connection, const struct chp_error *error)
{
    bool was_ready = connection->state == BROKER_STATE_READY;
    size_t len = strlen(error->text);
    amqp_connection_close_t close = {
        .reply_code = AMQP_REPLY_SUCCESS,
        .reply_text = {.len = len < 255 ? len : 255, .bytes = (void *)(uintptr_t)error->text}};

    broker__connection_put(connection, 0, AMQP_CONNECTION_CLOSE_METHOD, &close);
    move(connection, BROKER_STATE_CLOSING);
    arm(connection, CLOSE_TIMEOUT_MS);
    tell_lost(connection, was_ready, error);
}

void broker__connection_fail(struct broker__connection *connection, const struct chp_error *error)
{
    if (connection->state == BROKER_STATE_CONNECTING || connection->state == BROKER_STATE_CLOSING) {
        lose(connection, error);
    } else if (connection->state != BROKER_STATE_WAITING) {
        close_with(connection, error);
    }
}

/* What the broker gave as reason. */
static void explain(struct chp_error *error, uint16_t reply_code, amqp_bytes_t reply_text)
{
    struct chp_buf text = {0};
    int code = CHP_EUNAVAILABLE;
    const char *advice = "";

    chp_buf_add_utf8_lossy(&text, reply_text.bytes, reply_text.len);
    if (reply_code == AMQP_PRECONDITION_FAILED) {
        code = CHP_ECONFLICT;
        advice = "; a queue or exchange with other arguments is in the way: delete it";
    } else if (reply_code == AMQP_ACCESS_REFUSED) {
        code = CHP_EFORBIDDEN;
        advice = "; see user and permissions on the broker";
    }
    (void)chp_error_set(error, code, "the broker refused: %u %.300s%s", (unsigned)reply_code,
                        chp_buf_text(&text), advice);
    chp_buf_deinit(&text);
}

static void send_start_ok(struct broker__connection *connection)
{
    static const char *const capabilities[] = {"publisher_confirms", "basic.nack",
                                               "consumer_cancel_notify", "connection.blocked",
                                               "authentication_failure_close"};
    enum { CAPABILITIES = sizeof capabilities / sizeof capabilities[0] };
    amqp_table_entry_t known[CAPABILITIES];
    for (int i = 0; i < CAPABILITIES; i++) {
        known[i] =
            (amqp_table_entry_t){.key = broker__text(capabilities[i]),
                                 .value = {.kind = AMQP_FIELD_KIND_BOOLEAN, .value.boolean = 1}};
    }
    amqp_table_entry_t properties[] = {
        {.key = broker__text("product"),
         .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = broker__text("cheops-agent")}},
        {.key = broker__text("version"),
         .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = broker__text(CHEOPS_VERSION)}},
        {.key = broker__text("connection_name"),
         .value = {.kind = AMQP_FIELD_KIND_UTF8,
                   .value.bytes = broker__text(connection->target->product)}},
        {.key = broker__text("capabilities"),
         .value = {.kind = AMQP_FIELD_KIND_TABLE,
                   .value.table = {.num_entries = CAPABILITIES, .entries = known}}},
    };
    struct chp_buf response = {0};
    chp_buf_add_byte(&response, 0);
    chp_buf_add_text(&response, connection->target->user);
    chp_buf_add_byte(&response, 0);
    chp_buf_add_text(&response, connection->target->password);
    amqp_connection_start_ok_t start_ok = {
        .client_properties = {.num_entries = sizeof properties / sizeof properties[0],
                              .entries = properties},
        .mechanism = broker__text("PLAIN"),
        .response = {.len = response.len, .bytes = response.data},
        .locale = broker__text("en_US")};
    broker__connection_put(connection, 0, AMQP_CONNECTION_START_OK_METHOD, &start_ok);
    explicit_bzero(response.data, response.len);
    chp_buf_deinit(&response);
}

static void tune(struct broker__connection *connection, const amqp_connection_tune_t *offer)
{
    uint16_t heartbeat_s = connection->target->heartbeat_s;
    uint32_t frame_max = BROKER_FRAME_MAX_BYTES;

    if (offer->heartbeat != 0 && offer->heartbeat < heartbeat_s) {
        heartbeat_s = offer->heartbeat;
    }
    if (offer->frame_max != 0 && offer->frame_max < frame_max) {
        frame_max = offer->frame_max;
    }
    if (frame_max < BROKER_FRAME_MIN_BYTES) {
        struct chp_error error;
        (void)chp_error_set(&error, CHP_EMALFORMED, "the broker offers frames of %u bytes only",
                            (unsigned)frame_max);
        broker__connection_fail(connection, &error);
        return;
    }
    broker__codec_tune(&connection->codec, frame_max);
    connection->interval_ms = (uint64_t)heartbeat_s * 1000 / 2;
    amqp_connection_tune_ok_t tune_ok = {
        .channel_max = BROKER_CHANNEL_MAX, .frame_max = frame_max, .heartbeat = heartbeat_s};
    broker__connection_put(connection, 0, AMQP_CONNECTION_TUNE_OK_METHOD, &tune_ok);
    amqp_connection_open_t open = {.virtual_host = broker__text(connection->target->vhost),
                                   .capabilities = amqp_empty_bytes,
                                   .insist = 1};
    broker__connection_put(connection, 0, AMQP_CONNECTION_OPEN_METHOD, &open);
    move(connection, BROKER_STATE_OPENING);
}

/* The role's upkeep goes on when no heartbeats were agreed. */
static uint64_t tick_ms(const struct broker__connection *connection)
{
    return connection->interval_ms > 0 ? connection->interval_ms : TICK_MS;
}

static void become_ready(struct broker__connection *connection)
{
    move(connection, BROKER_STATE_READY);
    connection->ready_ms = chp_clock_mono_ms();
    if (connection->held) {
        (void)bufferevent_disable(connection->stream, EV_READ);
    }
    arm(connection, tick_ms(connection));
    connection->role->on_ready(connection->user);
}

/* The steps of the setup. False: the method is not the one that the state waits for. */
static bool set_up(struct broker__connection *connection, uint16_t channel,
                   const amqp_method_t *method)
{
    if (connection->state == BROKER_STATE_HANDSHAKE && method->id == AMQP_CONNECTION_START_METHOD) {
        send_start_ok(connection);
        move(connection, BROKER_STATE_TUNING);
    } else if (connection->state == BROKER_STATE_TUNING &&
               method->id == AMQP_CONNECTION_TUNE_METHOD) {
        tune(connection, method->decoded);
    } else if (connection->state == BROKER_STATE_OPENING &&
               method->id == AMQP_CONNECTION_OPEN_OK_METHOD) {
        amqp_channel_open_t open = {.out_of_band = amqp_empty_bytes};
        broker__connection_put(connection, 1, AMQP_CHANNEL_OPEN_METHOD, &open);
        move(connection, BROKER_STATE_CHANNEL);
    } else if (connection->state == BROKER_STATE_CHANNEL && channel == 1 &&
               method->id == AMQP_CHANNEL_OPEN_OK_METHOD) {
        connection->declared_ms = chp_clock_mono_ms();
        connection->redeclare_ms = connection->declared_ms + REDECLARE_FIRST_MS;
        connection->role->declare(connection->user);
        connection->role->prepare(connection->user);
        move(connection, BROKER_STATE_TOPOLOGY);
    } else if (connection->state == BROKER_STATE_TOPOLOGY && channel == 1 &&
               method->id == connection->role->ready_reply) {
        become_ready(connection);
    } else {
        return connection->state == BROKER_STATE_TOPOLOGY && channel == 1 &&
               (method->id == AMQP_EXCHANGE_DECLARE_OK_METHOD ||
                method->id == AMQP_QUEUE_DECLARE_OK_METHOD ||
                method->id == AMQP_QUEUE_BIND_OK_METHOD);
    }
    return true;
}

static void channel_closed(struct broker__connection *connection, uint16_t channel,
                           const amqp_method_t *method)
{
    const amqp_channel_close_t *close = method->decoded;
    amqp_channel_close_ok_t close_ok = {0};
    struct chp_error error;

    broker__connection_put(connection, channel, AMQP_CHANNEL_CLOSE_OK_METHOD, &close_ok);
    if (channel != 1 && connection->state == BROKER_STATE_READY) {
        broker__message_done(&connection->messages[channel]);
        connection->role->on_method(connection->user, channel, method);
        return;
    }
    explain(&error, close->reply_code, close->reply_text);
    close_with(connection, &error);
}

static void connection_closed(struct broker__connection *connection,
                              const amqp_connection_close_t *close)
{
    amqp_connection_close_ok_t close_ok = {0};
    struct chp_error error;

    bool was_ready = connection->state == BROKER_STATE_READY;
    broker__connection_put(connection, 0, AMQP_CONNECTION_CLOSE_OK_METHOD, &close_ok);
    explain(&error, close->reply_code, close->reply_text);
    if (connection->state != BROKER_STATE_CLOSING) {
        move(connection, BROKER_STATE_CLOSING);
        arm(connection, CLOSE_TIMEOUT_MS);
        tell_lost(connection, was_ready, &error);
    }
}

static void blocked(struct broker__connection *connection, bool is_blocked, amqp_bytes_t reason)
{
    struct chp_buf text = {0};

    chp_buf_add_utf8_lossy(&text, reason.bytes, reason.len);
    connection->blocked = is_blocked;
    connection->role->on_blocked(connection->user, is_blocked, chp_buf_text(&text));
    chp_buf_deinit(&text);
}

static void handle_method(struct broker__connection *connection, uint16_t channel,
                          const amqp_method_t *method)
{
    struct chp_error error;

    if (method->id == AMQP_CONNECTION_CLOSE_METHOD && channel == 0) {
        connection_closed(connection, method->decoded);
    } else if (connection->state == BROKER_STATE_CLOSING) {
        if (method->id == AMQP_CONNECTION_CLOSE_OK_METHOD) {
            (void)chp_error_set(&error, CHP_EUNAVAILABLE, "closed");
            lose(connection, &error);
        }
    } else if (method->id == AMQP_CHANNEL_CLOSE_METHOD && channel != 0) {
        channel_closed(connection, channel, method);
    } else if (method->id == AMQP_CONNECTION_BLOCKED_METHOD && channel == 0) {
        blocked(connection, true, ((const amqp_connection_blocked_t *)method->decoded)->reason);
    } else if (method->id == AMQP_CONNECTION_UNBLOCKED_METHOD && channel == 0) {
        blocked(connection, false, amqp_empty_bytes);
    } else if (connection->state == BROKER_STATE_READY && channel != 0) {
        connection->role->on_method(connection->user, channel, method);
    } else if (!set_up(connection, channel, method)) {
        const char *name = amqp_method_name(method->id);
        (void)chp_error_set(&error, CHP_EMALFORMED, "the broker sent %s in state %s",
                            name == NULL ? "an unknown method" : name,
                            broker__state_name(connection->state));
        broker__connection_fail(connection, &error);
    }
}

static void handle_content(struct broker__connection *connection, const amqp_frame_t *frame)
{
    struct broker__message *message = &connection->messages[frame->channel];
    struct chp_error error;
    bool complete;

    if (connection->state != BROKER_STATE_READY) {
        return; /* closing: what is still on its way is not acked, so it comes again */
    }
    if (broker__message_feed(message, frame, &complete, &error) != 0) {
        broker__connection_fail(connection, &error);
    } else if (complete) {
        connection->role->on_message(connection->user, message);
        broker__message_done(message);
    }
}

static bool connection_on_frame(void *user, const amqp_frame_t *frame)
{
    struct broker__connection *connection = user;

    if (frame->frame_type == AMQP_FRAME_HEARTBEAT) {
        return true;
    }
    if (frame->frame_type == AMQP_FRAME_METHOD) {
        amqp_method_number_t id = frame->payload.method.id;
        if (id == AMQP_BASIC_DELIVER_METHOD || id == AMQP_BASIC_GET_OK_METHOD ||
            id == AMQP_BASIC_RETURN_METHOD) {
            handle_content(connection, frame);
        } else {
            handle_method(connection, frame->channel, &frame->payload.method);
        }
    } else {
        handle_content(connection, frame);
    }
    return connection->state != BROKER_STATE_WAITING;
}

static void connection_on_read(struct bufferevent *stream, void *user)
{
    struct broker__connection *connection = user;
    struct chp_error error;

    if (connection->state == BROKER_STATE_WAITING) {
        return;
    }
    connection->heard_ms = chp_clock_mono_ms();
    if (broker__codec_read(&connection->codec, bufferevent_get_input(stream), connection_on_frame,
                           connection, &error) != 0) {
        lose(connection, &error);
    }
}

static void connection_on_write(struct bufferevent *stream, void *user)
{
    struct broker__connection *connection = user;

    (void)stream;
    if (connection->state == BROKER_STATE_READY) {
        connection->role->on_writable(connection->user);
    }
}

static void connected(struct broker__connection *connection)
{
    int one = 1;

    /* One operation alone must not wait for company in the kernel either. */
    (void)setsockopt(bufferevent_getfd(connection->stream), IPPROTO_TCP, TCP_NODELAY, &one,
                     sizeof one);
    connection->heard_ms = chp_clock_mono_ms();
    broker__codec_put_protocol(broker__connection_output(connection));
    move(connection, BROKER_STATE_HANDSHAKE);
}

static void connection_on_event(struct bufferevent *stream, short events, void *user)
{
    struct broker__connection *connection = user;
    int socket_error = EVUTIL_SOCKET_ERROR();
    struct chp_error error;

    if (connection->state == BROKER_STATE_WAITING) {
        return;
    }
    if ((events & BEV_EVENT_CONNECTED) != 0) {
        connected(connection);
        return;
    }
    unsigned long tls_error = 0;
    SSL *session = connection->target->tls == NULL ? NULL : bufferevent_openssl_get_ssl(stream);
    if (session != NULL) {
        tls_error = bufferevent_get_openssl_error(stream);
    }
    if (session != NULL && (tls_error != 0 || SSL_get_verify_result(session) != X509_V_OK)) {
        broker__tls_explain(session, tls_error, &error);
    } else if ((events & BEV_EVENT_EOF) != 0 || socket_error == 0) {
        (void)chp_error_set(&error, CHP_EUNAVAILABLE, "the broker closed the connection (%s)",
                            broker__state_name(connection->state));
    } else {
        (void)chp_error_set(&error, CHP_EUNAVAILABLE, "no connection to the broker (%s): %s",
                            broker__state_name(connection->state),
                            evutil_socket_error_to_string(socket_error));
    }
    lose(connection, &error);
}

static struct bufferevent *new_stream(struct broker__connection *connection,
                                      struct chp_error *error)
{
    const struct broker__target *target = connection->target;
    const int options = BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS;

    if (target->tls == NULL) {
        return bufferevent_socket_new(connection->base, -1, options);
    }
    SSL *session = broker__tls_session(target->tls, target->server_name, error);
    if (session == NULL) {
        return NULL;
    }
    struct bufferevent *stream = bufferevent_openssl_socket_new(
        connection->base, -1, session, BUFFEREVENT_SSL_CONNECTING, options);
    if (stream == NULL) {
        SSL_free(session);
        return NULL;
    }
    /* Brokers close without the TLS farewell; AMQP has one of its own. */
    bufferevent_openssl_set_allow_dirty_shutdown(stream, 1);
    return stream;
}

static void start(struct broker__connection *connection)
{
    const struct broker__target *target = connection->target;
    struct chp_error error = {.code = CHP_EIO, .text = "cannot make a socket for the broker"};

    reap(connection);
    for (size_t i = 0; i <= BROKER_CHANNEL_MAX; i++) {
        broker__message_done(&connection->messages[i]);
    }
    connection->lost_told = false;
    connection->interval_ms = 0;
    move(connection, BROKER_STATE_CONNECTING);
    arm(connection, SETUP_TIMEOUT_MS);
    connection->stream = new_stream(connection, &error);
    if (connection->stream == NULL) {
        lose(connection, &error);
        return;
    }
    broker__codec_init(&connection->codec);
    bufferevent_setcb(connection->stream, connection_on_read, connection_on_write,
                      connection_on_event, connection);
    bufferevent_setwatermark(connection->stream, EV_WRITE, target->output_max_bytes / 2, 0);
    (void)bufferevent_set_max_single_read(connection->stream, READ_MAX_BYTES);
    (void)bufferevent_enable(connection->stream, EV_READ | EV_WRITE);
    if (bufferevent_socket_connect(connection->stream, (const struct sockaddr *)&target->address,
                                   target->address_len) != 0) {
        (void)chp_error_set(&error, CHP_EUNAVAILABLE, "no connection to the broker: %s",
                            evutil_socket_error_to_string(EVUTIL_SOCKET_ERROR()));
        lose(connection, &error);
    }
}

static void tick(struct broker__connection *connection)
{
    uint64_t now_ms = chp_clock_mono_ms();
    struct chp_error error;

    /* Bytes that wait to be read are a sign of life: a loop that stood still must not blame the
     * broker. */
    if (connection->interval_ms > 0 && !connection->held &&
        now_ms - connection->heard_ms > SILENT_INTERVALS * connection->interval_ms &&
        evbuffer_get_length(bufferevent_get_input(connection->stream)) == 0) {
        (void)chp_error_set(&error, CHP_EUNAVAILABLE, "the broker has been silent for %u ms",
                            (unsigned)(now_ms - connection->heard_ms));
        lose(connection, &error);
        return;
    }
    if (connection->interval_ms > 0 && broker__connection_unsent(connection) == 0) {
        broker__codec_put_heartbeat(broker__connection_output(connection));
    }
    if (now_ms - connection->declared_ms >= REDECLARE_EVERY_MS) {
        (void)broker__connection_redeclare(connection);
    }
    arm(connection, tick_ms(connection));
    connection->role->on_tick(connection->user);
}

static void connection_on_timer(evutil_socket_t fd, short events, void *user)
{
    struct broker__connection *connection = user;
    struct chp_error error;

    (void)fd;
    (void)events;
    if (connection->state == BROKER_STATE_WAITING) {
        start(connection);
    } else if (connection->state == BROKER_STATE_READY) {
        tick(connection);
    } else {
        (void)chp_error_set(&error, CHP_ETIMEOUT, "the broker did not answer in time (%s)",
                            broker__state_name(connection->state));
        lose(connection, &error);
    }
}

void broker__connection_init(struct broker__connection *connection, struct event_base *base,
                             const struct broker__target *target, const struct broker__role *role,
                             void *user, uint64_t seed)
{
    *connection = (struct broker__connection){
        .state = BROKER_STATE_WAITING, .target = target, .role = role, .user = user, .base = base};
    chp_backoff_init(&connection->retry, 0, target->retry_min_ms, target->retry_max_ms, seed);
    chp_backoff_init(&connection->redeclare, REDECLARE_FIRST_MS / 2, REDECLARE_FIRST_MS,
                     REDECLARE_MAX_MS, seed + 1);
    connection->timer = event_new(base, -1, 0, connection_on_timer, connection);
    connection->reaper = event_new(base, -1, 0, connection_on_reap, connection);
    CHP_ASSERT(connection->timer != NULL && connection->reaper != NULL);
    arm(connection, 0);
}

void broker__connection_deinit(struct broker__connection *connection)
{
    if (connection->state == BROKER_STATE_READY && connection->target->tls == NULL) {
        amqp_connection_close_t close = {.reply_code = AMQP_REPLY_SUCCESS,
                                         .reply_text = broker__text("")};
        broker__connection_put(connection, 0, AMQP_CONNECTION_CLOSE_METHOD, &close);
        struct evbuffer *out = broker__connection_output(connection);
        (void)evbuffer_unfreeze(out, 1); /* a bufferevent keeps its output's front for itself */
        (void)evbuffer_write(out, bufferevent_getfd(connection->stream));
    }
    reap(connection);
    event_free(connection->timer);
    event_free(connection->reaper);
    for (size_t i = 0; i <= BROKER_CHANNEL_MAX; i++) {
        broker__message_deinit(&connection->messages[i]);
    }
}
