/* SPDX-License-Identifier: AGPL-3.0-only */
/* Databases that are lost or go back in time, and members that have what others lack (design
 * section 4, incarnations, and 4.7). */
#include "unit/engine/cluster.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct cluster cluster; /* big */

static struct node *node(int index)
{
    return &cluster.nodes[index];
}

static void seconds(int count)
{
    for (int i = 0; i < count; i++) {
        cluster_second(&cluster);
    }
}

static char *answered;

/* The answer of a query; the caller frees it. */
static void take_answer(void *user, int code, const char *json, const struct chp_error *error)
{
    (void)user;
    (void)error;
    assert_int_equal(code, 0);
    answered = chp_strdup(json == NULL ? "" : json);
}

static char *ask(struct node *at, enum chp_query query, const char *a, const char *b)
{
    const char *params[2] = {a, b};
    answered = NULL;
    chp_store_query(at->store, query, params, b == NULL ? 1 : 2, take_answer, NULL);
    while (chp_mem_store_run(at->store)) {
    }
    assert_non_null(answered);
    return answered;
}

static bool holds(struct node *at, const char *resource, const struct chp_uuid *id)
{
    char text[CHP_UUID_TEXT_BYTES];
    chp_uuid_format(id, text);
    char *history = ask(at, CHP_QUERY_HISTORY, resource, "1000");
    bool found = strstr(history, text) != NULL;
    free(history);
    return found;
}

/* What is on its way, on cut links. */
static void lose_messages(void)
{
    for (size_t i = 0; i < cluster.message_count; i++) {
        chp_buf_deinit(&cluster.messages[i].item);
    }
    cluster.message_count = 0;
}

/* State of the operation at site, as `at` shows it. */
static void expect_state(struct node *at, const struct chp_uuid *id, const char *site,
                         const char *state)
{
    char text[CHP_UUID_TEXT_BYTES];
    char wanted[256];
    chp_uuid_format(id, text);
    char *answer = ask(at, CHP_QUERY_OPERATION, text, NULL);
    const char *sites = strstr(answer, "\"sites\"");
    assert_non_null(sites);
    (void)snprintf(wanted, sizeof wanted, "\"site\":\"%s\"", site);
    const char *row = strstr(sites, wanted);
    if (row == NULL) {
        fail_msg("no row of %s in %s", site, answer);
    }
    (void)snprintf(wanted, sizeof wanted, "\"state\":\"%s\"", state);
    const char *found = strstr(row, "\"state\"");
    if (found == NULL || strncmp(found, wanted, strlen(wanted)) != 0) {
        fail_msg("%s at %s is not %s: %s", text, site, state, answer);
    }
    free(answer);
}

static void a_backup_is_noticed_and_the_past_comes_back(void **state)
{
    (void)state;
    cluster_start(&cluster, 3, 100, 64);
    struct chp_uuid before = cluster_request(node(0), "r", "set", "A & B & C", NULL);
    cluster_settle(&cluster);
    struct chp_store *backup = chp_mem_store_snapshot(node(0)->store);
    struct chp_uuid own = cluster_request(node(0), "r", "add", NULL, NULL);
    cluster_settle(&cluster);
    struct chp_uuid theirs = cluster_request(node(1), "r", "add", NULL, NULL);
    struct chp_uuid other = cluster_request(node(1), "s", "set", "A & B", NULL);
    cluster_settle(&cluster);
    seconds(2);
    uint64_t life = chp_engine_incarnation(node(0)->engine);

    cluster_replace_store(node(0), backup, true);
    assert_true(chp_engine_incarnation(node(0)->engine) > life);
    /* Admitted at once, with a dot of the new life. */
    struct chp_uuid fresh = cluster_request(node(0), "r", "add", NULL, NULL);
    seconds(20);
    assert_int_equal(node(0)->reply.code, 0);
    const struct chp_uuid *all[] = {&before, &own, &theirs, &fresh};
    for (int i = 0; i < 3; i++) {
        for (size_t j = 0; j < 4; j++) {
            assert_true(holds(node(i), "r", all[j]));
            assert_int_equal(cluster_count_runs(node(i), all[j]), 1);
        }
    }
    assert_true(holds(node(0), "s", &other));
    /* What its origin knows to be done is done; what nobody knows is in doubt, and holds back. */
    expect_state(node(0), &theirs, "A", "done");
    expect_state(node(1), &theirs, "A", "done");
    expect_state(node(0), &other, "A", "done");
    expect_state(node(0), &own, "A", "in-doubt");
    expect_state(node(0), &own, "B", "done");
    expect_state(node(0), &own, "C", "done");
    expect_state(node(0), &fresh, "A", "done");
    expect_state(node(0), &fresh, "B", "done");
    /* Nothing is issued twice, and nothing else is held back. */
    struct chp_uuid held = cluster_request(node(1), "r", "add", NULL, NULL);
    struct chp_uuid later = cluster_request(node(2), "t", "set", "A & B & C", NULL);
    cluster_settle(&cluster);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(cluster_count_runs(node(i), &later), 1);
        assert_int_equal(cluster_count_runs(node(i), &held), i > 0);
        assert_int_equal(node(i)->dead_count, 0);
    }
    cluster_stop(&cluster);
}

static void a_backlog_for_a_site_that_was_put_back_is_run(void **state)
{
    (void)state;
    cluster_start(&cluster, 2, 100, 64);
    struct chp_uuid first = cluster_request(node(1), "r", "set", "A & B", NULL);
    cluster_settle(&cluster);
    struct chp_store *backup = chp_mem_store_snapshot(node(0)->store);
    struct chp_uuid second = cluster_request(node(1), "r", "add", NULL, NULL);
    cluster_settle(&cluster);
    seconds(1);
    cluster.cut[1][0] = cluster.cut[0][1] = true;
    struct chp_uuid third = cluster_request(node(1), "s", "set", "A & B", NULL);
    cluster_settle(&cluster);
    cluster_replace_store(node(0), backup, true);
    cluster.cut[1][0] = cluster.cut[0][1] = false;
    seconds(20);
    assert_int_equal(cluster_count_runs(node(0), &first), 1);
    assert_int_equal(cluster_count_runs(node(0), &second), 1);
    assert_int_equal(cluster_count_runs(node(0), &third), 1); /* surely never taken before */
    expect_state(node(1), &third, "A", "done");
    expect_state(node(0), &second, "A", "done");
    cluster_stop(&cluster);
}

static void a_lost_database_comes_back_from_the_members(void **state)
{
    (void)state;
    for (int with_file = 0; with_file < 2; with_file++) {
        cluster_start(&cluster, 3, 100, 64);
        struct chp_uuid ids[40];
        for (size_t i = 0; i < 40; i++) {
            char resource[8];
            (void)snprintf(resource, sizeof resource, "r%zu", i % 20);
            char key[8];
            (void)snprintf(key, sizeof key, "k%zu", i);
            ids[i] = cluster_request(node((int)(i % 3)), resource, "set", "A & B & C", key);
            cluster_settle(&cluster);
        }
        seconds(2);
        cluster_replace_store(node(0), cluster_empty_store(), with_file == 1);
        seconds(25);
        for (size_t i = 0; i < 40; i++) {
            char resource[8];
            (void)snprintf(resource, sizeof resource, "r%zu", i % 20);
            assert_true(holds(node(0), resource, &ids[i]));
            assert_int_equal(cluster_count_runs(node(0), &ids[i]), 1);
            expect_state(node(0), &ids[i], "A", i % 3 == 0 ? "in-doubt" : "done");
            if (i % 3 == 0) {
                expect_state(node(0), &ids[i], "B", "done");
                expect_state(node(0), &ids[i], "C", "done");
                char key[8]; /* whoever asks again is not served twice */
                (void)snprintf(key, sizeof key, "k%zu", i);
                struct chp_uuid again = cluster_request(node(0), resource, "set", "A & B & C", key);
                cluster_settle(&cluster);
                assert_false(holds(node(0), resource, &again));
            }
        }
        struct chp_uuid fresh = cluster_request(node(0), "new", "set", "A & B & C", NULL);
        struct chp_uuid given = cluster_request(node(1), "new2", "set", "A & B & C", NULL);
        cluster_settle(&cluster);
        for (int i = 0; i < 3; i++) {
            assert_int_equal(cluster_count_runs(node(i), &fresh), 1);
            assert_int_equal(cluster_count_runs(node(i), &given), 1);
        }
        cluster_stop(&cluster);
    }
}

static void a_database_and_its_file_put_back_together_are_noticed_by_peers(void **state)
{
    (void)state;
    cluster_start(&cluster, 2, 100, 64);
    cluster_request(node(0), "r", "set", "A & B", NULL);
    cluster_settle(&cluster);
    struct chp_store *backup = chp_mem_store_snapshot(node(0)->store);
    struct chp_high_water file = node(0)->known;
    uint64_t serial = node(0)->serial;
    struct chp_uuid lost = cluster_request(node(0), "r", "add", NULL, NULL);
    cluster_settle(&cluster);
    seconds(1);
    uint64_t life = chp_engine_incarnation(node(0)->engine);
    node(0)->known = file;
    node(0)->serial = serial;
    node(0)->known.serial = 1;
    cluster_replace_store(node(0), backup, true);
    assert_true(chp_engine_incarnation(node(0)->engine) == life);
    seconds(15);
    assert_true(chp_engine_incarnation(node(0)->engine) > life);
    assert_true(holds(node(0), "r", &lost));
    expect_state(node(0), &lost, "A", "in-doubt");
    expect_state(node(0), &lost, "B", "done");
    cluster_stop(&cluster);
}

static void dots_given_twice_are_given_anew(void **state)
{
    (void)state;
    cluster_start(&cluster, 3, 100, 64);
    cluster_request(node(0), "r", "set", "A & B & C", NULL);
    cluster_settle(&cluster);
    struct chp_store *backup = chp_mem_store_snapshot(node(0)->store);
    struct chp_high_water file = node(0)->known;
    /* Known to B only. */
    cluster.cut[0][2] = true;
    struct chp_uuid lost = cluster_request(node(0), "r", "add", NULL, NULL);
    struct chp_uuid lost2 = cluster_request(node(0), "r", "add", NULL, NULL);
    cluster_settle(&cluster);
    lose_messages();
    node(0)->known = file;
    node(0)->serial = file.serial;
    cluster_replace_store(node(0), backup, true);
    cluster.cut[0][2] = false;
    /* The same dots, before any peer has been heard. */
    struct chp_uuid again = cluster_request(node(0), "r", "add", NULL, NULL);
    cluster_settle(&cluster);
    struct chp_uuid again2 = cluster_request(node(0), "r", "add", NULL, NULL);
    cluster_settle(&cluster);
    assert_int_equal(node(0)->reply.code, 0);
    seconds(60);
    const struct chp_uuid *all[] = {&lost, &lost2, &again, &again2};
    for (int i = 0; i < 3; i++) {
        for (size_t j = 0; j < 4; j++) {
            assert_true(holds(node(i), "r", all[j]));
            assert_int_equal(cluster_count_runs(node(i), all[j]), 1);
        }
    }
    expect_state(node(0), &again2, "B", "done");
    expect_state(node(0), &again2, "C", "done");
    expect_state(node(0), &lost2, "C", "done");
    cluster_stop(&cluster);
}

static void an_agent_that_starts_again_lives_on(void **state)
{
    (void)state;
    cluster_start(&cluster, 2, 100, 64);
    uint64_t life = chp_engine_incarnation(node(0)->engine);
    for (int i = 0; i < 5; i++) {
        cluster_request(node(0), "r", "set", "A & B", NULL);
        cluster_reset(node(0), i % 2 == 0);
        seconds(2);
    }
    assert_true(chp_engine_incarnation(node(0)->engine) == life);
    cluster_stop(&cluster);
}

static void what_a_dead_site_gave_to_one_reaches_all(void **state)
{
    (void)state;
    cluster_start(&cluster, 3, 100, 64);
    cluster_request(node(2), "r", "set", "A & B & C", NULL);
    cluster_settle(&cluster);
    cluster.cut[2][1] = true; /* C reaches only A, and dies */
    struct chp_uuid id = cluster_request(node(2), "r", "add", NULL, NULL);
    struct chp_uuid unknown = cluster_request(node(2), "s", "set", "A & B & C", NULL);
    cluster_settle(&cluster);
    cluster.cut[0][2] = cluster.cut[2][0] = cluster.cut[1][2] = true;
    assert_int_equal(cluster_count_runs(node(1), &id), 0);
    seconds(15);
    assert_int_equal(cluster_count_runs(node(1), &id), 1);
    assert_int_equal(cluster_count_runs(node(1), &unknown), 1);
    memset(cluster.cut, 0, sizeof cluster.cut);
    seconds(15);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(cluster_count_runs(node(i), &id), 1);
        assert_int_equal(cluster_count_runs(node(i), &unknown), 1);
    }
    expect_state(node(2), &id, "B", "done");
    cluster_stop(&cluster);
}

static void a_cause_is_asked_of_another_member(void **state)
{
    (void)state;
    cluster_start(&cluster, 3, 100, 64);
    cluster_request(node(2), "r", "set", "A & B & C", NULL);
    cluster_settle(&cluster);
    cluster.cut[2][1] = cluster.cut[1][2] = true;
    struct chp_uuid cause = cluster_request(node(2), "r", "add", NULL, NULL);
    cluster_settle(&cluster);
    struct chp_uuid effect = cluster_request(node(0), "r", "add", NULL, NULL);
    cluster_settle(&cluster);
    assert_int_equal(cluster_count_runs(node(1), &effect), 0); /* not before its cause */
    seconds(12);
    assert_int_equal(cluster_count_runs(node(1), &cause), 1);
    assert_int_equal(cluster_count_runs(node(1), &effect), 1);
    cluster_stop(&cluster);
}

static void what_no_member_has_is_lost_and_recorded(void **state)
{
    (void)state;
    cluster_start(&cluster, 3, 100, 64);
    cluster_request(node(2), "r", "set", "A & B & C", NULL);
    cluster_settle(&cluster);
    struct chp_store *backup = chp_mem_store_snapshot(node(2)->store);
    struct chp_store *young = chp_mem_store_snapshot(node(0)->store);
    /* C gives a cause to A alone, A an effect to B; then both lose the cause. */
    cluster.cut[2][1] = true;
    struct chp_uuid cause = cluster_request(node(2), "r", "add", NULL, NULL);
    cluster_settle(&cluster);
    lose_messages();
    struct chp_uuid effect = cluster_request(node(0), "r", "add", NULL, NULL);
    cluster_settle(&cluster);
    assert_int_equal(cluster_count_runs(node(1), &effect), 0);
    cluster_replace_store(node(2), backup, true);
    cluster_replace_store(node(0), young, true);
    memset(cluster.cut, 0, sizeof cluster.cut);
    seconds(90);
    assert_false(holds(node(1), "r", &cause));
    assert_int_equal(cluster_count_runs(node(1), &effect), 1);
    char *events = ask(node(1), CHP_QUERY_EVENTS, "0", "1000");
    assert_non_null(strstr(events, "operation.lost"));
    free(events);
    cluster_stop(&cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_backup_is_noticed_and_the_past_comes_back),
        cmocka_unit_test(a_backlog_for_a_site_that_was_put_back_is_run),
        cmocka_unit_test(a_lost_database_comes_back_from_the_members),
        cmocka_unit_test(a_database_and_its_file_put_back_together_are_noticed_by_peers),
        cmocka_unit_test(dots_given_twice_are_given_anew),
        cmocka_unit_test(an_agent_that_starts_again_lives_on),
        cmocka_unit_test(what_a_dead_site_gave_to_one_reaches_all),
        cmocka_unit_test(a_cause_is_asked_of_another_member),
        cmocka_unit_test(what_no_member_has_is_lost_and_recorded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
