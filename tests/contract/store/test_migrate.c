/* SPDX-License-Identifier: AGPL-3.0-only */
/* Migrations against a real database. */
#include "cluster.h"
#include "store/migrations.h"
#include "store/pg_store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static struct cluster cluster;

static int drop(void **state)
{
    (void)state;
    PGconn *pg = cluster_connect(&cluster);
    cluster_run(pg, "SET client_min_messages = warning");
    cluster_run(pg, "DROP SCHEMA IF EXISTS cheops CASCADE");
    PQfinish(pg);
    return 0;
}

static void an_empty_database_gets_everything_once(void **state)
{
    (void)state;
    unsigned from = 99;
    unsigned to = 99;
    struct chp_error error = {0};
    assert_int_equal(chp_pg_migrate(cluster.dsn, &from, &to, &error), 0);
    assert_int_equal(from, 0);
    assert_int_equal(to, chp_pg_schema_version());
    assert_true(to >= 2);
    assert_int_equal(chp_pg_migrate(cluster.dsn, &from, &to, &error), 0);
    assert_int_equal(from, chp_pg_schema_version());
    assert_int_equal(to, from);
    PGconn *pg = cluster_connect(&cluster);
    assert_string_equal(
        cluster_ask(pg, "SELECT string_agg(name, ' ' ORDER BY version) FROM cheops.migration"
                        " WHERE version <= 2"),
        "001_state.sql 002_answers.sql");
    PQfinish(pg);
}

static void a_newer_schema_is_left_alone(void **state)
{
    (void)state;
    unsigned from;
    unsigned to;
    struct chp_error error = {0};
    assert_int_equal(chp_pg_migrate(cluster.dsn, &from, &to, &error), 0);
    PGconn *pg = cluster_connect(&cluster);
    cluster_run(pg, "INSERT INTO cheops.migration (version, name) VALUES (777, 'from the future')");
    PQfinish(pg);
    assert_int_equal(chp_pg_migrate(cluster.dsn, &from, &to, &error), CHP_EVERSION);
    assert_int_equal(error.code, CHP_EVERSION);
    assert_non_null(strstr(error.text, "777"));
    assert_int_equal(from, 777);
    assert_int_equal(to, 777);
}

static void only_what_is_missing_is_applied(void **state)
{
    (void)state;
    unsigned from;
    unsigned to;
    struct chp_error error = {0};
    PGconn *pg = cluster_connect(&cluster);
    cluster_run(pg, store__migrations[0].sql);
    cluster_run(pg, "INSERT INTO cheops.migration (version, name) VALUES (1, 'the first')");
    cluster_run(pg, "INSERT INTO cheops.self (site, incarnation) VALUES ('Nantes', 7)");
    assert_int_equal(chp_pg_migrate(cluster.dsn, &from, &to, &error), 0);
    assert_int_equal(from, 1);
    assert_int_equal(to, chp_pg_schema_version());
    assert_string_equal(cluster_ask(pg, "SELECT answer->>'site' FROM cheops.status_answer"),
                        "Nantes");
    PQfinish(pg);
}

/* One that fails leaves nothing of itself. */
static void a_failed_migration_is_rolled_back(void **state)
{
    (void)state;
    unsigned from;
    unsigned to;
    struct chp_error error = {0};
    PGconn *pg = cluster_connect(&cluster);
    cluster_run(pg, "CREATE SCHEMA cheops");
    cluster_run(pg, "CREATE TABLE cheops.stream (in_the_way boolean)");
    assert_int_equal(chp_pg_migrate(cluster.dsn, &from, &to, &error), CHP_EIO);
    assert_non_null(strstr(error.text, "001_state.sql"));
    assert_int_equal(to, 0);
    assert_string_equal(
        cluster_ask(pg, "SELECT count(*) FROM pg_tables WHERE schemaname = 'cheops'"), "1");
    PQfinish(pg);
}

static void several_at_once_take_turns(void **state)
{
    (void)state;
    pid_t pids[4];
    for (size_t i = 0; i < 4; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            unsigned from;
            unsigned to;
            struct chp_error error = {0};
            _exit(chp_pg_migrate(cluster.dsn, &from, &to, &error) == 0 &&
                          to == chp_pg_schema_version()
                      ? 0
                      : 1);
        }
        assert_true(pids[i] > 0);
    }
    for (size_t i = 0; i < 4; i++) {
        int status = -1;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
    }
}

static void a_role_that_may_only_use_it_can_start(void **state)
{
    (void)state;
    unsigned from;
    unsigned to;
    struct chp_error error = {0};
    char dsn[600];
    if (!cluster.own) {
        return; /* roles are the whole cluster's */
    }
    PGconn *pg = cluster_connect(&cluster);
    cluster_run(pg, "CREATE ROLE agent LOGIN");
    cluster_run(pg, "CREATE ROLE stranger LOGIN");
    (void)snprintf(dsn, sizeof dsn, "host=%s user=stranger dbname=postgres", cluster.directory);
    assert_int_equal(chp_pg_migrate(dsn, &from, &to, &error), CHP_EFORBIDDEN);
    assert_int_equal(chp_pg_migrate(cluster.dsn, &from, &to, &error), 0);
    cluster_run(pg, "GRANT USAGE ON SCHEMA cheops TO agent");
    cluster_run(pg, "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA cheops TO agent");
    cluster_run(pg, "REVOKE INSERT, UPDATE, DELETE ON cheops.migration FROM agent");
    (void)snprintf(dsn, sizeof dsn, "host=%s user=agent dbname=postgres", cluster.directory);
    assert_int_equal(chp_pg_migrate(dsn, &from, &to, &error), 0);
    assert_int_equal(to, chp_pg_schema_version());
    PQfinish(pg);
}

static void another_encoding_is_refused(void **state)
{
    (void)state;
    unsigned from;
    unsigned to;
    struct chp_error error = {0};
    char dsn[600];
    if (!cluster.own) {
        return;
    }
    PGconn *pg = cluster_connect(&cluster);
    cluster_run(pg, "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
    (void)snprintf(dsn, sizeof dsn, "host=%s user=postgres dbname=latin", cluster.directory);
    assert_int_equal(chp_pg_migrate(dsn, &from, &to, &error), CHP_EINVAL);
    assert_non_null(strstr(error.text, "UTF8"));
    PQfinish(pg);
}

static void no_server_is_unavailable(void **state)
{
    (void)state;
    unsigned from;
    unsigned to;
    struct chp_error error = {0};
    assert_int_equal(chp_pg_migrate("host=/nonexistent user=x", &from, &to, &error),
                     CHP_EUNAVAILABLE);
    assert_true(error.text[0] != 0);
    assert_null(strchr(error.text, '\n'));
}

#define TEST(name) cmocka_unit_test_setup(name, drop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_empty_database_gets_everything_once),
        TEST(a_newer_schema_is_left_alone),
        TEST(only_what_is_missing_is_applied),
        TEST(a_failed_migration_is_rolled_back),
        TEST(several_at_once_take_turns),
        TEST(a_role_that_may_only_use_it_can_start),
        TEST(another_encoding_is_refused),
        TEST(no_server_is_unavailable),
    };
    cluster_start(&cluster);
    int failed = cmocka_run_group_tests_name("migrate", tests, NULL, NULL);
    cluster_stop(&cluster);
    return failed;
}
