/* SPDX-License-Identifier: AGPL-3.0-only */
/* The suite against PostgreSQL. */
#include "suite.h"

#include "base/mem.h"
#include "cluster.h"
#include "store/pg_store.h"

#include <stdlib.h>

static struct cluster cluster;

static void turn(struct suite *suite)
{
    (void)event_base_loop(suite->user, EVLOOP_ONCE);
}

int suite_setup(void **state)
{
    struct suite *suite = chp_alloc(sizeof *suite);
    struct chp_store_callbacks callbacks = suite_callbacks(suite);
    struct chp_error error = {0};
    cluster_clear(&cluster);
    suite->turn = turn;
    suite->user = event_base_new();
    struct chp_pg_config config = {.dsn = cluster.dsn,
                                   .base = suite->user,
                                   .queries_max = 4,
                                   .retry_min_ms = 1,
                                   .retry_max_ms = 50};
    suite->store = chp_pg_store_new(&config, &callbacks, &error);
    assert_non_null(suite->store);
    while (suite->ups == 0) {
        turn(suite);
    }
    *state = suite;
    return 0;
}

int suite_teardown(void **state)
{
    struct suite *suite = *state;
    chp_store_free(suite->store);
    event_base_free(suite->user);
    chp_arena_deinit(&suite->arena);
    free(suite);
    return 0;
}

int main(void)
{
    unsigned from;
    unsigned to;
    struct chp_error error = {0};
    cluster_start(&cluster);
    if (chp_pg_migrate(cluster.dsn, &from, &to, &error) != 0) {
        (void)fprintf(stderr, "%s\n", error.text);
        cluster_stop(&cluster);
        return 1;
    }
    int failed = _cmocka_run_group_tests("store", suite_tests, suite_test_count, NULL, NULL);
    failed +=
        _cmocka_run_group_tests("answers", suite_answer_tests, suite_answer_test_count, NULL, NULL);
    failed +=
        _cmocka_run_group_tests("replies", suite_reply_tests, suite_reply_test_count, NULL, NULL);
    failed +=
        _cmocka_run_group_tests("forget", suite_forget_tests, suite_forget_test_count, NULL, NULL);
    failed += _cmocka_run_group_tests("history", suite_history_tests, suite_history_test_count,
                                      NULL, NULL);
    failed += _cmocka_run_group_tests("lives", suite_life_tests, suite_life_test_count, NULL, NULL);
    cluster_stop(&cluster);
    return failed;
}
