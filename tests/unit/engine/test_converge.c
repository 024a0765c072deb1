/* SPDX-License-Identifier: AGPL-3.0-only */
/* Replicas that were written to on both sides of a cut come to one state (design section 6). */
#include "cluster.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

static struct cluster cluster;

#define TAKE_ONE_SET                                                                               \
    "{\"ResolutionMatrix\":[{\"Before\":\"set\",\"After\":\"set\",\"Result\":\"take-one\"},"       \
    "{\"Before\":\"set\",\"After\":\"add\",\"Result\":\"take-both-keep-order\"},"                  \
    "{\"Before\":\"add\",\"After\":\"set\",\"Result\":\"take-one\"},"                              \
    "{\"Before\":\"add\",\"After\":\"add\",\"Result\":\"take-both-any-order\"}]}"
#define KEEP_APPENDS                                                                               \
    "{\"ResolutionMatrix\":[{\"Before\":\"append\",\"After\":\"append\","                          \
    "\"Result\":\"take-both-keep-order\"}]}"

static struct node *node(int index)
{
    return &cluster.nodes[index];
}

static void begin(const char *matrix)
{
    cluster_start(&cluster, 2, 100, 64);
    node(0)->matrix = matrix;
}

static void cut(bool is_cut)
{
    cluster.cut[0][1] = cluster.cut[1][0] = is_cut;
    if (is_cut) {
        return;
    }
    for (int i = 0; i < 3; i++) {
        cluster_second(&cluster);
    }
    cluster_settle(&cluster);
}

static struct chp_uuid ask(int at, const char *type)
{
    struct chp_uuid id = cluster_request(node(at), "r", type, "A & B", NULL);
    node(at)->matrix = NULL;
    cluster_settle(&cluster);
    cluster.now.wall_ms += 5;
    assert_int_equal(node(at)->reply.code, 0);
    return id;
}

/* The commands that ran at a site, in order, one space before each. */
static const char *ran(int at)
{
    struct chp_buf text = {0};
    for (size_t i = 0; i < node(at)->run_count; i++) {
        chp_buf_printf(&text, " %s", node(at)->runs[i].type);
    }
    const char *copy = chp_arena_strdup(&node(at)->kept, chp_buf_text(&text));
    chp_buf_deinit(&text);
    return copy == NULL ? "" : copy;
}

static void assert_shown(const struct chp_uuid *operation, int at, const char *site,
                         const char *state)
{
    const char *shown = cluster_shown(node(at), operation, site);
    if (strncmp(shown, state, strlen(state)) != 0) {
        fail_msg("%s at %s is \"%s\", not \"%s\"", site, node(at)->site, shown, state);
    }
}

static struct chp_resource_row row_at(int at)
{
    return cluster_row(node(at), "r", NULL);
}

static size_t operations_at(int at)
{
    size_t count;
    (void)cluster_row(node(at), "r", &count);
    return count;
}

static void what_has_seen_all_just_runs(void **state)
{
    (void)state;
    begin(TAKE_ONE_SET);
    struct chp_uuid first = ask(0, "set");
    ask(1, "add");
    ask(0, "set");
    assert_string_equal(ran(0), " set add set");
    assert_string_equal(ran(1), " set add set");
    assert_shown(&first, 0, "A", "done 1"); /* it was, though it does not count any more */
    cluster_stop(&cluster);
}

static void concurrent_sets_leave_the_later_one(void **state)
{
    (void)state;
    begin(TAKE_ONE_SET);
    ask(0, "set");
    cut(true);
    struct chp_uuid loser = ask(0, "set");
    struct chp_uuid winner = ask(1, "set");
    cut(false);
    assert_string_equal(ran(0), " set set set");
    assert_string_equal(ran(1), " set set"); /* the loser never runs there */
    char id[CHP_UUID_TEXT_BYTES];
    char expected[160];
    chp_uuid_format(&winner, id);
    (void)snprintf(expected, sizeof expected, "superseded 2 superseded by %s (take-one set/set)",
                   id);
    assert_shown(&loser, 0, "A", expected);
    (void)snprintf(expected, sizeof expected, "superseded 0 superseded by %s (take-one set/set)",
                   id);
    assert_shown(&loser, 0, "B", expected);
    assert_shown(&loser, 1, "B", expected);
    assert_shown(&winner, 1, "A", "done 1");
    cluster_stop(&cluster);
}

static void an_order_is_mended_by_a_replay(void **state)
{
    (void)state;
    begin(TAKE_ONE_SET);
    ask(0, "set");
    cut(true);
    ask(0, "set");
    struct chp_uuid add = ask(1, "add");
    cut(false);
    assert_string_equal(ran(0), " set set add"); /* set, add: keep order */
    assert_string_equal(ran(1), " set add set add");
    assert_shown(&add, 1, "B", "done 2");
    assert_null(row_at(1).diverged);
    cluster_stop(&cluster);
}

static void without_a_way_back_a_replica_is_diverged(void **state)
{
    (void)state;
    begin(KEEP_APPENDS);
    ask(0, "append");
    cut(true);
    ask(0, "append");
    ask(1, "append");
    cut(false);
    assert_null(row_at(0).diverged);
    assert_non_null(row_at(1).diverged);
    assert_string_equal(ran(1), " append append append"); /* it goes on */
    cluster_stop(&cluster);
}

static void with_undo_it_is_compensated(void **state)
{
    (void)state;
    begin(KEEP_APPENDS);
    ask(0, "append");
    cut(true);
    ask(0, "append");
    node(1)->undo = true;
    struct chp_uuid late = ask(1, "append");
    cut(false);
    assert_string_equal(ran(1), " append append -append append append");
    assert_shown(&late, 1, "B", "done 3");
    assert_null(row_at(1).diverged);
    cluster_stop(&cluster);
}

static void what_failed_everywhere_is_voided(void **state)
{
    (void)state;
    begin(TAKE_ONE_SET);
    struct chp_uuid first = ask(0, "set");
    node(0)->fails = node(1)->fails = "set";
    struct chp_uuid bad = ask(0, "set");
    cluster_settle(&cluster);
    assert_shown(&bad, 0, "A", "voided 1");
    assert_shown(&bad, 1, "B", "voided 1");
    assert_shown(&first, 0, "A", "done 1");
    assert_int_equal(operations_at(0), 3);
    assert_int_equal(operations_at(1), 3);
    /* The first counts again: what follows is not held back by the second. */
    ask(1, "add");
    assert_string_equal(ran(0), " set set add");
    assert_string_equal(ran(1), " set set add");
    cluster_stop(&cluster);
}

static void what_failed_here_alone_is_tried_again(void **state)
{
    (void)state;
    begin(TAKE_ONE_SET);
    ask(0, "set");
    node(1)->fails = "add";
    struct chp_uuid add = ask(0, "add");
    assert_shown(&add, 0, "B", "failed 1");
    assert_true(row_at(1).degraded);
    node(1)->fails = NULL;
    for (int i = 0; i < 8; i++) {
        cluster_second(&cluster);
    }
    assert_shown(&add, 0, "B", "done 2");
    assert_false(row_at(1).degraded);
    assert_string_equal(ran(1), " set add add");
    cluster_stop(&cluster);
}

static void a_restarted_engine_goes_on_with_its_plan(void **state)
{
    (void)state;
    begin(TAKE_ONE_SET);
    ask(0, "set");
    cut(true);
    ask(0, "set");
    ask(1, "add");
    ask(1, "add");
    node(1)->commands_hang = true;
    cut(false);
    assert_string_equal(ran(1), " set add add set"); /* hangs in the replay */
    assert_true(row_at(1).unsettled);
    node(1)->commands_hang = false;
    cluster_reset(node(1), true);
    cluster_settle(&cluster);
    assert_string_equal(ran(1), " set add add set add add");
    assert_false(row_at(1).unsettled);
    cluster_stop(&cluster);
}

static void what_no_site_needs_is_forgotten(void **state)
{
    (void)state;
    begin(TAKE_ONE_SET);
    cluster_keep(&cluster, 8);
    for (int i = 0; i < 100; i++) {
        ask(0, "set");
        ask(0, "add");
        cluster_second(&cluster); /* marks go */
    }
    assert_in_range(operations_at(0), 8, 16);
    assert_in_range(operations_at(1), 8, 16);
    for (int i = 0; i < 100; i++) {
        ask(i % 2, i % 3 == 0 ? "set" : "add");
        cluster_second(&cluster);
    }
    assert_in_range(operations_at(0), 8, 16);
    assert_in_range(operations_at(1), 8, 16);
    assert_int_equal(node(0)->run_count, 300);
    assert_int_equal(node(1)->run_count, 300);
    cluster_stop(&cluster);
}

static void while_a_site_is_cut_off_nothing_is_forgotten(void **state)
{
    (void)state;
    begin(TAKE_ONE_SET);
    cluster_keep(&cluster, 8);
    ask(0, "set");
    cut(true);
    ask(1, "add");
    for (int i = 0; i < 50; i++) {
        ask(0, "set");
    }
    assert_int_equal(operations_at(0), 51);
    cut(false);
    assert_int_equal(operations_at(1), 52);
    for (int i = 0; i < 14; i++) { /* as many as are kept, behind what was concurrent */
        ask(i % 2, "set");
        cluster_second(&cluster);
    }
    assert_in_range(operations_at(0), 8, 16);
    assert_in_range(operations_at(1), 8, 16);
    cluster_stop(&cluster);
}

static void a_site_that_lost_its_database_does_not_need_what_is_forgotten(void **state)
{
    (void)state;
    begin(TAKE_ONE_SET);
    cluster_keep(&cluster, 8);
    for (int i = 0; i < 50; i++) {
        ask(0, "set");
    }
    size_t kept = operations_at(0);
    cluster_replace_store(node(1), cluster_empty_store(), true);
    for (int i = 0; i < 20; i++) {
        cluster_second(&cluster);
    }
    ask(0, "set");
    for (int i = 0; i < 20; i++) {
        cluster_second(&cluster);
    }
    assert_in_range(operations_at(1), 1, kept + 1);
    struct chp_resource_row row = row_at(1);
    assert_int_equal(chp_vector_get(&row.vector, "A", chp_engine_incarnation(node(0)->engine)), 51);
    assert_true(chp_vector_get(&row.forgotten, "A", chp_engine_incarnation(node(0)->engine)) > 30);
    cluster_stop(&cluster);
}

static void a_lower_matrix_is_refused(void **state)
{
    (void)state;
    begin(TAKE_ONE_SET);
    ask(0, "set");
    node(1)->matrix = KEEP_APPENDS;
    cluster_request(node(1), "r", "set", NULL, NULL);
    cluster_settle(&cluster);
    assert_int_equal(node(1)->reply.code, CHP_ECONFLICT);
    assert_non_null(strstr(node(1)->error, "give it a higher version"));
    cluster_stop(&cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_has_seen_all_just_runs),
        cmocka_unit_test(concurrent_sets_leave_the_later_one),
        cmocka_unit_test(an_order_is_mended_by_a_replay),
        cmocka_unit_test(without_a_way_back_a_replica_is_diverged),
        cmocka_unit_test(with_undo_it_is_compensated),
        cmocka_unit_test(what_failed_everywhere_is_voided),
        cmocka_unit_test(what_failed_here_alone_is_tried_again),
        cmocka_unit_test(a_restarted_engine_goes_on_with_its_plan),
        cmocka_unit_test(what_no_site_needs_is_forgotten),
        cmocka_unit_test(while_a_site_is_cut_off_nothing_is_forgotten),
        cmocka_unit_test(a_site_that_lost_its_database_does_not_need_what_is_forgotten),
        cmocka_unit_test(a_lower_matrix_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
