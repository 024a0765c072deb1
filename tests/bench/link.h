/* SPDX-License-Identifier: AGPL-3.0-only */
/* What the programs of the benchmark share: a blocking AMQP client and a blocking PostgreSQL client
 * with arrays as parameters. They are tools of a test: whatever goes wrong ends the program. */
#ifndef CHP_BENCH_LINK_H
#define CHP_BENCH_LINK_H

#include <libpq-fe.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if __has_include(<rabbitmq-c/amqp.h>)
#include <rabbitmq-c/amqp.h>
#else
#include <amqp.h>
#endif

enum { ID_BYTES = 16, CONFIRMS_MAX = 65536, BATCH_MAX = 4096 };

struct id {
    uint8_t bytes[ID_BYTES];
};

_Noreturn void link_die(const char *format, ...) __attribute__((format(printf, 1, 2)));
double link_now_s(void);
/* Sorts the values; the one below which the part (0 to 1) lies. */
double link_percentile(double *values, size_t count, double part);
void link_new_id(struct id *id);
void link_id_text(const struct id *id, char text[37]);

/* A connection with one channel. */
struct amqp_link {
    amqp_connection_state_t connection;
    unsigned window; /* of confirms; 0: no confirm mode */
    uint64_t next;   /* delivery tag of the next publication */
    uint64_t low;    /* every tag below is confirmed */
    bool *confirmed; /* ring by tag */
};

struct amqp_link *link_dial(const char *uri, unsigned window);
void link_close(struct amqp_link *link);
/* Publishes persistently; waits while a whole window is unconfirmed. */
void link_publish(struct amqp_link *link, const char *exchange, const char *key, const void *body,
                  size_t len, const char *message_id, const char *reply_to);
/* Waits until everything is confirmed. */
void link_flush(struct amqp_link *link);
void link_consume(struct amqp_link *link, const char *queue, uint16_t prefetch, bool no_ack);
/* The next delivery; false when none comes within that time. The envelope is the caller's to
 * destroy. */
bool link_next(struct amqp_link *link, amqp_envelope_t *envelope, int timeout_us);
/* Acknowledges everything up to tag. */
void link_ack(struct amqp_link *link, uint64_t tag);
void link_purge(struct amqp_link *link, const char *queue);

PGconn *link_database(const char *dsn);
void link_sql(PGconn *database, const char *sql);
/* A statement over one array of ids ($1 uuid[]) and, when payload_len is not 0, one of payloads
 * that are all the same ($2 bytea[]). */
void link_sql_ids(PGconn *database, const char *sql, const struct id *ids, size_t count,
                  const void *payload, size_t payload_len);

#endif
