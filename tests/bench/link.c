/* SPDX-License-Identifier: AGPL-3.0-only */
#include "link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#if __has_include(<rabbitmq-c/tcp_socket.h>)
#include <rabbitmq-c/framing.h>
#include <rabbitmq-c/tcp_socket.h>
#else
#include <amqp_framing.h>
#include <amqp_tcp_socket.h>
#endif

enum {
    CHANNEL = 1,
    FRAME_MAX = 131072,
    LOOK_EVERY = 64,
    TEXT_OID_UUID = 2950,
    TEXT_OID_BYTEA = 17
};

void link_die(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    va_end(args);
    (void)fputc('\n', stderr);
    exit(1);
}

double link_now_s(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

double link_percentile(double *values, size_t count, double part)
{
    qsort(values, count, sizeof *values, compare);
    return count == 0 ? 0 : values[(size_t)(part * (double)(count - 1) + 0.5)];
}

/* Ordered by time as the agent's are (UUIDv7), since that is what an index likes best. */
void link_new_id(struct id *id)
{
    struct timespec now;
    static _Thread_local uint64_t counter;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    uint64_t ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    for (int i = 0; i < 6; i++) {
        id->bytes[i] = (uint8_t)(ms >> (40 - 8 * i));
    }
    if (counter == 0 && getrandom(&counter, sizeof counter, 0) != sizeof counter) {
        link_die("getrandom: %s", strerror(errno));
    }
    counter++;
    id->bytes[6] = 0x70; /* version 7 */
    id->bytes[7] = 0;
    id->bytes[8] = 0x80;
    for (int i = 0; i < 7; i++) {
        id->bytes[9 + i] = (uint8_t)(counter >> (48 - 8 * i));
    }
}

void link_id_text(const struct id *id, char text[37])
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < ID_BYTES; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) {
            *text++ = '-';
        }
        *text++ = digits[id->bytes[i] >> 4];
        *text++ = digits[id->bytes[i] & 15];
    }
    *text = 0;
}

static void check(amqp_rpc_reply_t reply, const char *what)
{
    if (reply.reply_type == AMQP_RESPONSE_NORMAL) {
        return;
    }
    if (reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION) {
        link_die("%s: %s", what, amqp_error_string2(reply.library_error));
    }
    if (reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION &&
        reply.reply.id == AMQP_CHANNEL_CLOSE_METHOD) {
        const amqp_channel_close_t *close = reply.reply.decoded;
        link_die("%s: %d %.*s", what, close->reply_code, (int)close->reply_text.len,
                 (const char *)close->reply_text.bytes);
    }
    link_die("%s: the broker refused it", what);
}

struct amqp_link *link_dial(const char *uri, unsigned window)
{
    struct amqp_connection_info info;
    char *copy = strdup(uri);
    struct amqp_link *link = calloc(1, sizeof *link);
    if (copy == NULL || link == NULL || amqp_parse_url(copy, &info) != 0) {
        link_die("not an AMQP URI: %s", uri);
    }
    link->connection = amqp_new_connection();
    amqp_socket_t *socket = amqp_tcp_socket_new(link->connection);
    if (socket == NULL || amqp_socket_open(socket, info.host, info.port) != 0) {
        link_die("no broker at %s:%d", info.host, info.port);
    }
    int on = 1;
    (void)setsockopt(amqp_get_sockfd(link->connection), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    check(amqp_login(link->connection, info.vhost, 0, FRAME_MAX, 0, AMQP_SASL_METHOD_PLAIN,
                     info.user, info.password),
          "login");
    free(copy);
    (void)amqp_channel_open(link->connection, CHANNEL);
    check(amqp_get_rpc_reply(link->connection), "channel.open");
    link->window = window;
    link->next = link->low = 1;
    if (window > 0) {
        (void)amqp_confirm_select(link->connection, CHANNEL);
        check(amqp_get_rpc_reply(link->connection), "confirm.select");
        link->confirmed = calloc(CONFIRMS_MAX, sizeof *link->confirmed);
    }
    return link;
}

void link_close(struct amqp_link *link)
{
    (void)amqp_destroy_connection(link->connection);
    free(link->confirmed);
    free(link);
}

static void take_confirm(struct amqp_link *link, uint64_t tag, bool multiple)
{
    for (uint64_t at = multiple ? link->low : tag; at <= tag; at++) {
        link->confirmed[at % CONFIRMS_MAX] = true;
    }
    while (link->low < link->next && link->confirmed[link->low % CONFIRMS_MAX]) {
        link->confirmed[link->low++ % CONFIRMS_MAX] = false;
    }
}

/* Takes the confirms that are there; wait: until there is one. */
static void take_confirms(struct amqp_link *link, bool wait)
{
    amqp_frame_t frame;
    for (;;) {
        struct timeval now = {0, 0};
        int status = wait ? amqp_simple_wait_frame(link->connection, &frame)
                          : amqp_simple_wait_frame_noblock(link->connection, &frame, &now);
        if (status == AMQP_STATUS_TIMEOUT) {
            return;
        }
        if (status != AMQP_STATUS_OK) {
            link_die("waiting for confirms: %s", amqp_error_string2(status));
        }
        if (frame.frame_type == AMQP_FRAME_METHOD &&
            frame.payload.method.id == AMQP_BASIC_ACK_METHOD) {
            const amqp_basic_ack_t *ack = frame.payload.method.decoded;
            take_confirm(link, ack->delivery_tag, ack->multiple != 0);
        } else if (frame.frame_type == AMQP_FRAME_METHOD) {
            link_die("the broker answered a publication with method 0x%x", frame.payload.method.id);
        }
        amqp_maybe_release_buffers(link->connection);
        wait = false;
    }
}

void link_publish(struct amqp_link *link, const char *exchange, const char *key, const void *body,
                  size_t len, const char *message_id, const char *reply_to)
{
    amqp_basic_properties_t properties = {
        ._flags = AMQP_BASIC_DELIVERY_MODE_FLAG,
        .delivery_mode = AMQP_DELIVERY_PERSISTENT,
    };
    if (message_id != NULL) {
        properties._flags |= AMQP_BASIC_MESSAGE_ID_FLAG;
        properties.message_id = amqp_cstring_bytes(message_id);
    }
    if (reply_to != NULL) {
        properties._flags |= AMQP_BASIC_REPLY_TO_FLAG;
        properties.reply_to = amqp_cstring_bytes(reply_to);
    }
    amqp_bytes_t bytes = {.len = len, .bytes = (void *)(uintptr_t)body};
    int status = amqp_basic_publish(link->connection, CHANNEL, amqp_cstring_bytes(exchange),
                                    amqp_cstring_bytes(key), 0, 0, &properties, bytes);
    if (status != AMQP_STATUS_OK) {
        link_die("publish: %s", amqp_error_string2(status));
    }
    link->next++;
    if (link->window > 0 && link->next - link->low >= link->window) {
        take_confirms(link, true);
    } else if (link->window > 0 && link->next % LOOK_EVERY == 0) {
        take_confirms(link, false);
    }
}

void link_flush(struct amqp_link *link)
{
    while (link->low < link->next) {
        take_confirms(link, true);
    }
}

void link_consume(struct amqp_link *link, const char *queue, uint16_t prefetch, bool no_ack)
{
    (void)amqp_basic_qos(link->connection, CHANNEL, 0, prefetch, 0);
    check(amqp_get_rpc_reply(link->connection), "basic.qos");
    (void)amqp_basic_consume(link->connection, CHANNEL, amqp_cstring_bytes(queue), amqp_empty_bytes,
                             0, no_ack ? 1 : 0, 0, amqp_empty_table);
    check(amqp_get_rpc_reply(link->connection), queue);
}

bool link_next(struct amqp_link *link, amqp_envelope_t *envelope, int timeout_us)
{
    struct timeval timeout = {timeout_us / 1000000, timeout_us % 1000000};
    amqp_maybe_release_buffers(link->connection);
    amqp_rpc_reply_t reply = amqp_consume_message(link->connection, envelope, &timeout, 0);
    if (reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION &&
        reply.library_error == AMQP_STATUS_TIMEOUT) {
        return false;
    }
    check(reply, "consume");
    return true;
}

void link_ack(struct amqp_link *link, uint64_t tag)
{
    int status = amqp_basic_ack(link->connection, CHANNEL, tag, 1);
    if (status != AMQP_STATUS_OK) {
        link_die("ack: %s", amqp_error_string2(status));
    }
}

void link_purge(struct amqp_link *link, const char *queue)
{
    (void)amqp_queue_purge(link->connection, CHANNEL, amqp_cstring_bytes(queue));
    check(amqp_get_rpc_reply(link->connection), queue);
}

PGconn *link_database(const char *dsn)
{
    PGconn *database = PQconnectdb(dsn);
    if (PQstatus(database) != CONNECTION_OK) {
        link_die("database: %s", PQerrorMessage(database));
    }
    link_sql(database, "SET client_min_messages = warning");
    return database;
}

void link_sql(PGconn *database, const char *sql)
{
    PGresult *result = PQexec(database, sql);
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
        link_die("%s: %s", sql, PQerrorMessage(database));
    }
    PQclear(result);
}

/* A one-dimensional array in PostgreSQL's binary form, of elements that all have that length. */
static char *array(uint32_t oid, const void *elements, size_t stride, size_t len, size_t count,
                   int *bytes)
{
    const uint32_t header[] = {htonl(1), 0, htonl(oid), htonl((uint32_t)count), htonl(1)};
    *bytes = (int)(sizeof header + count * (sizeof(uint32_t) + len));
    char *memory = malloc((size_t)*bytes);
    if (memory == NULL) {
        link_die("no memory");
    }
    memcpy(memory, header, sizeof header);
    char *at = memory + sizeof header;
    uint32_t element_len = htonl((uint32_t)len);
    for (size_t i = 0; i < count; i++) {
        memcpy(at, &element_len, sizeof element_len);
        memcpy(at + sizeof element_len, (const char *)elements + i * stride, len);
        at += sizeof element_len + len;
    }
    return memory;
}

void link_sql_ids(PGconn *database, const char *sql, const struct id *ids, size_t count,
                  const void *payload, size_t payload_len)
{
    int lengths[2] = {0};
    static const int formats[2] = {1, 1};
    static const Oid types[2] = {2951, 1001}; /* uuid[], bytea[] */
    char *uuids = array(TEXT_OID_UUID, ids, sizeof *ids, ID_BYTES, count, &lengths[0]);
    char *payloads = payload_len == 0
                         ? NULL
                         : array(TEXT_OID_BYTEA, payload, 0, payload_len, count, &lengths[1]);
    const char *values[2] = {uuids, payloads};
    PGresult *result =
        PQexecParams(database, sql, payload_len == 0 ? 1 : 2, types, values, lengths, formats, 1);
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
        link_die("%s: %s", sql, PQerrorMessage(database));
    }
    PQclear(result);
    free(uuids);
    free(payloads);
}
