/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * The floor: what three sites cost without an agent. One message per operation and direction, over
 * the same brokers, queues, shovels and databases as the agents' (which must be stopped):
 *
 *   origin   insert (batched, committed), then publish once, to both outbound queues, with confirms
 *   site     consume, insert what has arrived in one transaction, publish an ack per operation, ack
 *   origin   consume the acks, update what has arrived in one transaction, ack
 *
 * No artificial waiting anywhere: a batch is what is there. Blocking clients, a thread per role.
 *
 *   floor MODE COUNT WINDOW BATCH  NAME AMQP DSN  NAME AMQP DSN  NAME AMQP DSN     (origin first)
 *
 * MODE: whole; broker (no database); database (no broker); publish (the origin's publisher alone);
 * latency (whole, one at a time); clean. Prints one line of JSON.
 */
#include "link.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SITES = 3, PAYLOAD_BYTES = 300, PREFETCH = 2000, ARRIVED_US = 200000 };

static const char exchange[] = "cheops.bench";
static const char insert[] = "INSERT INTO bench.operation (id, payload) SELECT * FROM"
                             " unnest($1::uuid[], $2::bytea[]) ON CONFLICT DO NOTHING";
static const char update[] =
    "UPDATE bench.operation SET answers = answers + w.count FROM (SELECT id, count(*)"
    " FROM unnest($1::uuid[]) id GROUP BY id) w WHERE operation.id = w.id";

struct site {
    const char *name;
    const char *amqp;
    const char *dsn;
};

struct floor {
    struct site sites[SITES]; /* the origin first */
    size_t count;             /* operations */
    unsigned window;
    size_t batch;
    bool broker;
    bool database;
    bool one_at_a_time;
    uint8_t payload[PAYLOAD_BYTES];
    atomic_size_t answered; /* acks whose update is committed */
    pthread_mutex_t lock;
    pthread_cond_t moved; /* answered grew; used one at a time only */
    double *latencies_s;
};

struct role {
    struct floor *floor;
    size_t site;
    pthread_t thread;
};

static PGconn *open_database(const struct floor *floor, size_t site)
{
    return floor->database ? link_database(floor->sites[site].dsn) : NULL;
}

static void queue_name(const struct floor *floor, size_t site, const char *queue, char name[200])
{
    (void)snprintf(name, 200, "cheops.%s.%s", floor->sites[site].name, queue);
}

static void wait_answered(struct floor *floor, size_t answers)
{
    (void)pthread_mutex_lock(&floor->lock);
    while (floor->answered < answers) {
        (void)pthread_cond_wait(&floor->moved, &floor->lock);
    }
    (void)pthread_mutex_unlock(&floor->lock);
}

static void *publish_all(void *user)
{
    struct floor *floor = ((struct role *)user)->floor;
    PGconn *database = open_database(floor, 0);
    struct amqp_link *link = floor->broker ? link_dial(floor->sites[0].amqp, floor->window) : NULL;
    struct id ids[BATCH_MAX];
    uint8_t body[ID_BYTES + PAYLOAD_BYTES];
    memcpy(body + ID_BYTES, floor->payload, PAYLOAD_BYTES);
    for (size_t sent = 0; sent < floor->count;) {
        size_t count = floor->one_at_a_time ? 1 : floor->batch;
        count = count < floor->count - sent ? count : floor->count - sent;
        double start_s = link_now_s();
        for (size_t i = 0; i < count; i++) {
            link_new_id(&ids[i]);
        }
        if (database != NULL) {
            link_sql_ids(database, insert, ids, count, floor->payload, PAYLOAD_BYTES);
        }
        for (size_t i = 0; link != NULL && i < count; i++) {
            memcpy(body, ids[i].bytes, ID_BYTES);
            link_publish(link, exchange, "operation", body, sizeof body, NULL, NULL);
        }
        if (link == NULL) { /* the acks' update, which has no message to wait for */
            link_sql_ids(database, update, ids, count, NULL, 0);
            link_sql_ids(database, update, ids, count, NULL, 0);
        }
        sent += count;
        if (floor->one_at_a_time) {
            wait_answered(floor, sent * (SITES - 1));
            floor->latencies_s[sent - 1] = link_now_s() - start_s;
        }
    }
    if (link != NULL) {
        link_flush(link);
        link_close(link);
    }
    PQfinish(database);
    return NULL;
}

/* What has arrived, at least one and at most BATCH_MAX; returns how many, and the last tag. */
static size_t arrived(struct amqp_link *link, struct id *ids, size_t left, uint64_t *tag)
{
    size_t count = 0;
    amqp_envelope_t envelope;
    while (count < BATCH_MAX && count < left &&
           link_next(link, &envelope, count == 0 ? ARRIVED_US : 0)) {
        if (envelope.message.body.len < ID_BYTES) {
            link_die("a message of %zu bytes in the queue", envelope.message.body.len);
        }
        memcpy(ids[count++].bytes, envelope.message.body.bytes, ID_BYTES);
        *tag = envelope.delivery_tag;
        amqp_destroy_envelope(&envelope);
    }
    return count;
}

static void *serve_site(void *user)
{
    struct role *role = user;
    struct floor *floor = role->floor;
    PGconn *database = open_database(floor, role->site);
    struct id ids[BATCH_MAX];
    struct amqp_link *in = link_dial(floor->sites[role->site].amqp, 0);
    struct amqp_link *out = link_dial(floor->sites[role->site].amqp, floor->window);
    char name[200];
    char home[200];
    queue_name(floor, role->site, "operations", name);
    (void)snprintf(home, sizeof home, "cheops.site.%s", floor->sites[0].name);
    link_consume(in, name, PREFETCH, false);
    for (size_t left = floor->count; left > 0;) {
        uint64_t tag = 0;
        size_t count = arrived(in, ids, left, &tag);
        if (count == 0) {
            continue;
        }
        if (database != NULL) {
            link_sql_ids(database, insert, ids, count, floor->payload, PAYLOAD_BYTES);
        }
        for (size_t i = 0; i < count; i++) {
            link_publish(out, home, "ack", ids[i].bytes, ID_BYTES, NULL, NULL);
        }
        link_ack(in, tag);
        left -= count;
    }
    link_flush(out);
    link_close(out);
    link_close(in);
    PQfinish(database);
    return NULL;
}

static void *take_acks(void *user)
{
    struct floor *floor = ((struct role *)user)->floor;
    PGconn *database = open_database(floor, 0);
    struct id ids[BATCH_MAX];
    struct amqp_link *link = link_dial(floor->sites[0].amqp, 0);
    char name[200];
    queue_name(floor, 0, "acks", name);
    link_consume(link, name, PREFETCH, false);
    for (size_t left = floor->count * (SITES - 1); left > 0;) {
        uint64_t tag = 0;
        size_t count = arrived(link, ids, left, &tag);
        if (count == 0) {
            continue;
        }
        if (database != NULL) {
            link_sql_ids(database, update, ids, count, NULL, 0);
        }
        link_ack(link, tag);
        left -= count;
        (void)pthread_mutex_lock(&floor->lock);
        floor->answered += count;
        (void)pthread_cond_signal(&floor->moved);
        (void)pthread_mutex_unlock(&floor->lock);
    }
    link_close(link);
    PQfinish(database);
    return NULL;
}

/* Another site's database without a broker: the same inserts, one batch after the other. */
static void *insert_site(void *user)
{
    struct role *role = user;
    struct floor *floor = role->floor;
    PGconn *database = open_database(floor, role->site);
    struct id ids[BATCH_MAX];
    for (size_t left = floor->count; left > 0;) {
        size_t count = floor->batch < left ? floor->batch : left;
        for (size_t i = 0; i < count; i++) {
            link_new_id(&ids[i]);
        }
        link_sql_ids(database, insert, ids, count, floor->payload, PAYLOAD_BYTES);
        left -= count;
    }
    PQfinish(database);
    return NULL;
}

static void clean(const struct floor *floor)
{
    static const char *const queues[] = {"operations", "acks"};
    for (size_t i = 0; i < SITES; i++) {
        char name[200];
        struct amqp_link *link = link_dial(floor->sites[i].amqp, 0);
        for (size_t q = 0; q < 2; q++) {
            queue_name(floor, i, queues[q], name);
            link_purge(link, name);
        }
        for (size_t other = 0; other < SITES; other++) {
            if (other != i) {
                (void)snprintf(name, sizeof name, "cheops.out.%s", floor->sites[other].name);
                link_purge(link, name);
            }
        }
        (void)amqp_exchange_delete(link->connection, 1, amqp_cstring_bytes(exchange), 0);
        link_close(link);
        PGconn *database = link_database(floor->sites[i].dsn);
        link_sql(database, "DROP SCHEMA IF EXISTS bench CASCADE");
        PQfinish(database);
    }
}

static void prepare(const struct floor *floor)
{
    clean(floor);
    for (size_t i = 0; i < SITES; i++) {
        PGconn *database = link_database(floor->sites[i].dsn);
        link_sql(database, "CREATE SCHEMA bench");
        link_sql(database, "CREATE TABLE bench.operation (id uuid PRIMARY KEY, payload bytea NOT"
                           " NULL, answers bigint NOT NULL DEFAULT 0)");
        PQfinish(database);
    }
    struct amqp_link *link = link_dial(floor->sites[0].amqp, 0);
    (void)amqp_exchange_declare(link->connection, 1, amqp_cstring_bytes(exchange),
                                amqp_cstring_bytes("fanout"), 0, 1, 0, 0, amqp_empty_table);
    for (size_t i = 1; i < SITES; i++) {
        char name[200];
        (void)snprintf(name, sizeof name, "cheops.out.%s", floor->sites[i].name);
        (void)amqp_queue_bind(link->connection, 1, amqp_cstring_bytes(name),
                              amqp_cstring_bytes(exchange), amqp_empty_bytes, amqp_empty_table);
    }
    if (amqp_get_rpc_reply(link->connection).reply_type != AMQP_RESPONSE_NORMAL) {
        link_die("the exchange %s cannot be made", exchange);
    }
    link_close(link);
}

static double run(struct floor *floor, bool only_publisher)
{
    struct role roles[SITES + 1] = {{.floor = floor}};
    void *(*const site_work)(void *) = floor->broker ? serve_site : insert_site;
    size_t count = 1;
    for (size_t i = 1; i < SITES && !only_publisher; i++) {
        roles[count++] = (struct role){.floor = floor, .site = i};
    }
    if (floor->broker && !only_publisher) {
        roles[count++] = (struct role){.floor = floor};
    }
    double start_s = link_now_s();
    for (size_t i = 0; i < count; i++) {
        void *(*work)(void *) = i == 0 ? publish_all : roles[i].site > 0 ? site_work : take_acks;
        if (pthread_create(&roles[i].thread, NULL, work, &roles[i]) != 0) {
            link_die("no thread");
        }
    }
    for (size_t i = 0; i < count; i++) {
        (void)pthread_join(roles[i].thread, NULL);
    }
    return link_now_s() - start_s;
}

int main(int argc, char **argv)
{
    struct floor floor = {.lock = PTHREAD_MUTEX_INITIALIZER, .moved = PTHREAD_COND_INITIALIZER};
    if (argc != 5 + 3 * SITES) {
        link_die("usage: floor MODE COUNT WINDOW BATCH, then NAME AMQP DSN of three sites");
    }
    const char *mode = argv[1];
    floor.count = strtoul(argv[2], NULL, 10);
    floor.window = (unsigned)strtoul(argv[3], NULL, 10);
    floor.batch = strtoul(argv[4], NULL, 10);
    for (size_t i = 0; i < SITES; i++) {
        floor.sites[i] = (struct site){argv[5 + 3 * i], argv[6 + 3 * i], argv[7 + 3 * i]};
    }
    if (floor.window == 0 || floor.window > CONFIRMS_MAX / 2 || floor.batch == 0 ||
        floor.batch > BATCH_MAX) {
        link_die("WINDOW is 1 to %d, BATCH 1 to %d", CONFIRMS_MAX / 2, BATCH_MAX);
    }
    if (strcmp(mode, "clean") == 0) {
        clean(&floor);
        return 0;
    }
    for (size_t i = 0; i < PAYLOAD_BYTES; i++) {
        floor.payload[i] = (uint8_t)(i * 37);
    }
    bool only_publisher = strcmp(mode, "publish") == 0;
    floor.broker = strcmp(mode, "database") != 0;
    floor.database = strcmp(mode, "broker") != 0 && !only_publisher;
    floor.one_at_a_time = strcmp(mode, "latency") == 0;
    floor.latencies_s = calloc(floor.count, sizeof *floor.latencies_s);
    prepare(&floor);
    double seconds = run(&floor, only_publisher);
    if (floor.one_at_a_time) {
        double p50_s = link_percentile(floor.latencies_s, floor.count, 0.5);
        (void)printf("{\"p50_ms\": %.3f, \"p99_ms\": %.3f}\n", p50_s * 1000,
                     link_percentile(floor.latencies_s, floor.count, 0.99) * 1000);
    } else {
        (void)printf("{\"operations\": %zu, \"seconds\": %.4f}\n", floor.count, seconds);
    }
    free(floor.latencies_s);
    clean(&floor);
    return 0;
}
