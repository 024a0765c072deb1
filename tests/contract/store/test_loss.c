/* SPDX-License-Identifier: AGPL-3.0-only */
/* Connections that go, servers that stop, schemas that do not fit: the store says so, loses
 * nothing, and comes back. */
#include "suite.h"

#include "base/clock.h"
#include "base/mem.h"
#include "cluster.h"
#include "store/pg_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static struct cluster cluster;

static void turn(struct suite *suite)
{
    (void)event_base_loop(suite->user, EVLOOP_ONCE);
}

static struct suite *open_store(void)
{
    struct suite *suite = chp_alloc(sizeof *suite);
    struct chp_store_callbacks callbacks = suite_callbacks(suite);
    struct chp_error error = {0};
    suite->turn = turn;
    suite->user = event_base_new();
    struct chp_pg_config config = {.dsn = cluster.dsn,
                                   .base = suite->user,
                                   .queries_max = 2,
                                   .retry_min_ms = 1,
                                   .retry_max_ms = 100};
    suite->store = chp_pg_store_new(&config, &callbacks, &error);
    assert_non_null(suite->store);
    assert_false(chp_store_up(suite->store));
    return suite;
}

static void close_store(struct suite *suite)
{
    chp_store_free(suite->store);
    event_base_free(suite->user);
    chp_arena_deinit(&suite->arena);
    free(suite);
}

enum { AWAIT_MS = 60 * 1000, PAUSE_US = 500 };

static void await(struct suite *suite, const unsigned *counter, unsigned value)
{
    uint64_t end_ms = chp_clock_mono_ms() + AWAIT_MS;
    while (*counter < value && chp_clock_mono_ms() < end_ms) {
        (void)event_base_loop(suite->user, EVLOOP_NONBLOCK);
        (void)usleep(PAUSE_US);
    }
    assert_int_equal(*counter, value);
}

/* Until somebody waits for a lock. */
static void await_lock(struct suite *suite, PGconn *pg)
{
    static const char sql[] = "SELECT count(*) FROM pg_locks WHERE NOT granted";
    uint64_t end_ms = chp_clock_mono_ms() + AWAIT_MS;
    while (strcmp(cluster_ask(pg, sql), "0") == 0) {
        assert_true(chp_clock_mono_ms() < end_ms);
        (void)event_base_loop(suite->user, EVLOOP_NONBLOCK);
    }
}

static void end_backends(PGconn *pg, const char *name)
{
    char sql[256];
    (void)snprintf(
        sql, sizeof sql,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '%s'",
        name);
    cluster_run(pg, sql);
}

static void an_ended_session_comes_back(void **state)
{
    (void)state;
    PGconn *pg = cluster_connect(&cluster);
    struct suite *suite = open_store();
    await(suite, &suite->ups, 1);
    for (unsigned round = 1; round <= 3; round++) {
        end_backends(pg, "cheops-agent batches");
        await(suite, &suite->downs, round);
        assert_false(chp_store_up(suite->store));
        assert_int_equal(suite->down_error.code, CHP_EUNAVAILABLE);
        await(suite, &suite->ups, round + 1);
        suite_commit_ok(suite, suite_batch(suite));
    }
    close_store(suite);
    PQfinish(pg);
}

/* The batch waits for a lock when its session is ended: its outcome is unknown, and here it was not
 * committed. */
static void a_batch_in_flight_ends_as_unavailable(void **state)
{
    (void)state;
    PGconn *pg = cluster_connect(&cluster);
    struct suite *suite = open_store();
    await(suite, &suite->ups, 1);
    suite_begin(suite, 0);
    PGconn *holder = cluster_connect(&cluster);
    cluster_run(holder, "BEGIN; LOCK TABLE cheops.resource");
    struct commit *commit = suite_batch(suite);
    (void)suite_resource(commit, "waiting", CHP_LEVEL_EVENTUAL);
    chp_store_submit(suite->store, &commit->batch);
    await_lock(suite, pg);
    end_backends(pg, "cheops-agent batches");
    await(suite, &suite->downs, 1);
    assert_true(commit->done);
    assert_int_equal(commit->code, CHP_EUNAVAILABLE);
    assert_non_null(strstr(commit->error.text, "57P01"));
    suite_release(commit);
    cluster_run(holder, "ROLLBACK");
    await(suite, &suite->ups, 2);
    struct chp_load asked = {.resource = "waiting"};
    assert_false(suite_load(suite, &commit, CHP_LOAD_RESOURCE, &asked)->found);
    suite_release(commit);
    close_store(suite);
    PQfinish(holder);
    PQfinish(pg);
}

static void what_cannot_be_stored_is_refused_and_the_connection_stays(void **state)
{
    (void)state;
    struct suite *suite = open_store();
    await(suite, &suite->ups, 1);
    static const char *const bad[] = {"\xff", "{not json", "{\"a\":\"\\u00\"}"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct commit *commit = suite_batch(suite);
        suite_resource(commit, "bad", CHP_LEVEL_EVENTUAL)->config = bad[i];
        assert_int_equal(suite_commit(suite, commit), CHP_EINVAL);
        assert_non_null(strstr(commit->error.text, "SQLSTATE 22"));
        suite_release(commit);
    }
    struct commit *commit = suite_batch(suite);
    suite_resource(commit, "bad", CHP_LEVEL_EVENTUAL)->config_version = UINT64_MAX;
    assert_int_equal(suite_commit(suite, commit), CHP_EINVAL);
    assert_non_null(strstr(commit->error.text, "18446744073709551615"));
    suite_release(commit);
    assert_int_equal(suite->downs, 0);
    suite_commit_ok(suite, suite_batch(suite));
    close_store(suite);
}

/* Anything else that the server says no to: away, and back. */
static void another_error_is_an_outage(void **state)
{
    (void)state;
    PGconn *pg = cluster_connect(&cluster);
    struct suite *suite = open_store();
    await(suite, &suite->ups, 1);
    cluster_run(pg, "ALTER TABLE cheops.peer RENAME TO gone");
    struct commit *commit = suite_batch(suite);
    chp_batch_write(&commit->batch, CHP_WRITE_PEER)->peer.site = "Paris";
    assert_int_equal(suite_commit(suite, commit), CHP_EUNAVAILABLE);
    suite_release(commit);
    assert_int_equal(suite->downs, 1);
    cluster_run(pg, "ALTER TABLE cheops.gone RENAME TO peer");
    await(suite, &suite->ups, 2);
    close_store(suite);
    PQfinish(pg);
}

static void a_crashed_server_is_waited_for(void **state)
{
    (void)state;
    if (!cluster.own) {
        return; /* somebody else's server is not stopped */
    }
    struct suite *suite = open_store();
    await(suite, &suite->ups, 1);
    suite_begin(suite, 1);
    cluster_crash(&cluster);
    await(suite, &suite->downs, 1);
    struct commit *commit = suite_batch(suite);
    assert_int_equal(suite_commit(suite, commit), CHP_EUNAVAILABLE);
    suite_release(commit);
    json_t *json;
    assert_int_equal(suite_ask(suite, CHP_QUERY_STATUS, &json, NULL, NULL, NULL, NULL),
                     CHP_EUNAVAILABLE);
    cluster_restart(&cluster);
    await(suite, &suite->ups, 2);
    assert_int_equal(suite->downs, 1); /* not once for each attempt */
    struct chp_load asked = {.resource = "web", .limit = 5};
    assert_int_equal(
        suite_load(suite, &commit, CHP_LOAD_RESOURCE, &asked)->resource_result.history_count, 1);
    suite_release(commit);
    close_store(suite);
}

static void count_codes(void *user, int code, const char *json, const struct chp_error *error)
{
    unsigned *counts = user; /* answered, busy, unavailable */
    assert_int_equal(json != NULL, code == 0);
    assert_true(code == 0 || error->text[0] != 0);
    counts[code == 0 ? 0 : code == CHP_EBUSY ? 1 : 2]++;
}

static void queries_are_bounded_and_survive_their_connection(void **state)
{
    (void)state;
    PGconn *pg = cluster_connect(&cluster);
    struct suite *suite = open_store();
    json_t *json;
    unsigned counts[3] = {0};
    assert_int_equal(suite_ask(suite, CHP_QUERY_STATUS, &json, NULL, NULL, NULL, NULL),
                     0); /* waits to connect */
    assert_int_equal(json_integer_value(json_object_get(json, "schema_version")),
                     chp_pg_schema_version());
    json_decref(json);
    for (int i = 0; i < 5; i++) { /* one runs, two wait */
        chp_store_query(suite->store, CHP_QUERY_STATUS, NULL, 0, count_codes, counts);
    }
    assert_int_equal(counts[1], 2);
    await(suite, &counts[0], 3);
    PGconn *holder = cluster_connect(&cluster);
    cluster_run(holder, "BEGIN; LOCK TABLE cheops.self");
    for (int i = 0; i < 3; i++) {
        chp_store_query(suite->store, CHP_QUERY_STATUS, NULL, 0, count_codes, counts);
    }
    await_lock(suite, pg);
    end_backends(pg, "cheops-agent queries");
    await(suite, &counts[2], 3);
    cluster_run(holder, "ROLLBACK");
    assert_true(chp_store_up(suite->store)); /* batches were not concerned */
    assert_int_equal(suite->downs, 0);
    int code;
    do {
        turn(suite);
        code = suite_ask(suite, CHP_QUERY_STATUS, &json, NULL, NULL, NULL, NULL);
    } while (code == CHP_EUNAVAILABLE);
    assert_int_equal(code, 0);
    json_decref(json);
    close_store(suite);
    PQfinish(holder);
    PQfinish(pg);
}

static void a_store_goes_with_work_in_flight(void **state)
{
    (void)state;
    unsigned counts[3] = {0};
    struct suite *suite = open_store();
    chp_store_query(suite->store, CHP_QUERY_STATUS, NULL, 0, count_codes, counts);
    close_store(suite);
    suite = open_store();
    await(suite, &suite->ups, 1);
    struct commit *commit = suite_batch(suite);
    (void)chp_batch_load(&commit->batch, CHP_LOAD_START);
    chp_store_submit(suite->store, &commit->batch);
    chp_store_query(suite->store, CHP_QUERY_STATUS, NULL, 0, count_codes, counts);
    chp_store_query(suite->store, CHP_QUERY_STATUS, NULL, 0, count_codes, counts);
    close_store(suite);
    assert_false(commit->done);
    suite_release(commit);
    assert_int_equal(counts[0] + counts[1] + counts[2], 0);
}

static void a_schema_that_does_not_fit_is_refused_clearly(void **state)
{
    (void)state;
    PGconn *pg = cluster_connect(&cluster);
    cluster_run(pg,
                "INSERT INTO cheops.migration (version, name) VALUES (9999, 'from the future')");
    struct suite *suite = open_store();
    await(suite, &suite->downs, 1);
    assert_int_equal(suite->down_error.code, CHP_EVERSION);
    assert_non_null(strstr(suite->down_error.text, "9999"));
    cluster_run(pg, "UPDATE cheops.migration SET version = version - 10000");
    cluster_run(pg, "INSERT INTO cheops.migration (version, name) VALUES (1, 'old')");
    close_store(suite);
    suite = open_store();
    await(suite, &suite->downs, 1);
    assert_int_equal(suite->down_error.code, CHP_EVERSION);
    assert_non_null(strstr(suite->down_error.text, "cheops-agent migrate"));
    cluster_run(pg, "DELETE FROM cheops.migration WHERE version > 0");
    cluster_run(pg, "UPDATE cheops.migration SET version = version + 10000");
    cluster_run(pg, "DELETE FROM cheops.migration WHERE version = 9999");
    await(suite, &suite->ups, 1); /* by itself */
    close_store(suite);
    PQfinish(pg);
}

static void an_empty_database_is_told_apart(void **state)
{
    (void)state;
    PGconn *pg = cluster_connect(&cluster);
    cluster_run(pg, "ALTER SCHEMA cheops RENAME TO elsewhere");
    struct suite *suite = open_store();
    await(suite, &suite->downs, 1);
    assert_int_equal(suite->down_error.code, CHP_EVERSION);
    assert_non_null(strstr(suite->down_error.text, "cheops-agent migrate"));
    cluster_run(pg, "ALTER SCHEMA elsewhere RENAME TO cheops");
    await(suite, &suite->ups, 1);
    close_store(suite);
    PQfinish(pg);
}

static int clear(void **state)
{
    (void)state;
    cluster_clear(&cluster);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup(name, clear)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_ended_session_comes_back),
        TEST(a_batch_in_flight_ends_as_unavailable),
        TEST(what_cannot_be_stored_is_refused_and_the_connection_stays),
        TEST(another_error_is_an_outage),
        TEST(a_crashed_server_is_waited_for),
        TEST(queries_are_bounded_and_survive_their_connection),
        TEST(a_store_goes_with_work_in_flight),
        TEST(a_schema_that_does_not_fit_is_refused_clearly),
        TEST(an_empty_database_is_told_apart),
    };
    unsigned from;
    unsigned to;
    struct chp_error error = {0};
    cluster_start(&cluster);
    if (chp_pg_migrate(cluster.dsn, &from, &to, &error) != 0) {
        (void)fprintf(stderr, "%s\n", error.text);
        cluster_stop(&cluster);
        return 1;
    }
    int failed = cmocka_run_group_tests_name("loss", tests, NULL, NULL);
    cluster_stop(&cluster);
    return failed;
}
