/* SPDX-License-Identifier: AGPL-3.0-only */
/* The life of operations over several sites (design section 4), with faults. */
#include "unit/engine/cluster.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct cluster cluster; /* big */

static struct node *node(int index)
{
    return &cluster.nodes[index];
}

static void expect_once_everywhere(const struct chp_uuid *operation)
{
    for (int i = 0; i < cluster.count; i++) {
        assert_int_equal(cluster_count_runs(node(i), operation), 1);
    }
}

static void runs_on_every_member_once(void **state)
{
    (void)state;
    cluster_start(&cluster, 3, 100, 64);
    struct chp_uuid id = cluster_request(node(0), "r", "set", "A & B & C", NULL);
    cluster_settle(&cluster);
    assert_int_equal(node(0)->reply.code, 0);
    assert_int_equal(node(0)->reply.member_count, 3);
    expect_once_everywhere(&id);
    assert_int_equal(node(0)->completed_count, 1);
    /* The scope is needed only when the resource is created, from any member. */
    struct chp_uuid second = cluster_request(node(2), "r", "add", NULL, NULL);
    cluster_settle(&cluster);
    expect_once_everywhere(&second);
    assert_int_equal(node(2)->completed_count, 1);
    cluster_stop(&cluster);
}

static void an_origin_need_not_be_a_member(void **state)
{
    (void)state;
    cluster_start(&cluster, 3, 100, 64);
    struct chp_uuid id = cluster_request(node(0), "r", "set", "B & C", NULL);
    cluster_settle(&cluster);
    assert_int_equal(cluster_count_runs(node(0), &id), 0);
    assert_int_equal(cluster_count_runs(node(1), &id), 1);
    assert_int_equal(cluster_count_runs(node(2), &id), 1);
    assert_int_equal(node(0)->completed_count, 1);
    cluster_stop(&cluster);
}

static void refusals_say_why(void **state)
{
    (void)state;
    cluster_start(&cluster, 2, 100, 64);
    cluster_request(node(0), "r", "set", NULL, NULL);
    cluster_settle(&cluster);
    assert_int_equal(node(0)->reply.code, CHP_ENOTFOUND);
    assert_non_null(strstr(node(0)->error, "give its scope"));
    cluster_request(node(0), "r", "set", "Site1 & A", NULL);
    cluster_settle(&cluster);
    assert_int_equal(node(0)->reply.code, CHP_EINVAL);
    assert_non_null(strstr(node(0)->error, "Site1"));
    cluster_request(node(0), "r", "set", "A & B", NULL);
    cluster_settle(&cluster);
    assert_int_equal(node(0)->reply.code, 0);
    cluster_request(node(0), "r", "set", "A", NULL);
    cluster_settle(&cluster);
    assert_int_equal(node(0)->reply.code, CHP_ECONFLICT);
    assert_non_null(strstr(node(0)->error, "rescope"));
    assert_int_equal(node(0)->run_count, 1);
    cluster_stop(&cluster);
}

static void a_key_is_admitted_once(void **state)
{
    (void)state;
    cluster_start(&cluster, 2, 100, 64);
    struct chp_uuid first = cluster_request(node(0), "r", "set", "A & B", "k1");
    cluster_request(node(0), "r", "set", "A & B", "k1"); /* before the first is committed */
    cluster_settle(&cluster);
    cluster_request(node(0), "r", "set", "A & B", "k1");
    cluster_settle(&cluster);
    assert_int_equal(node(0)->reply_count, 3);
    assert_true(node(0)->reply.duplicate);
    assert_true(chp_uuid_equal(&node(0)->reply.id, &first));
    assert_int_equal(node(0)->run_count, 1);
    cluster_reset(node(0), true); /* from the store, too */
    cluster_request(node(0), "r", "set", "A & B", "k1");
    cluster_settle(&cluster);
    assert_true(node(0)->reply.duplicate);
    cluster_request(node(0), "r", "add", "A & B", "k1");
    cluster_settle(&cluster);
    assert_int_equal(node(0)->reply.code, CHP_ECONFLICT);
    assert_int_equal(node(0)->run_count, 1);
    cluster_stop(&cluster);
}

static void lost_messages_are_repaired(void **state)
{
    (void)state;
    cluster_start(&cluster, 2, 100, 64);
    cluster_request(node(0), "r", "set", "A & B", NULL);
    cluster_settle(&cluster);
    cluster.drop_next = 2;
    cluster_request(node(0), "r", "add", NULL, NULL);
    cluster_request(node(0), "s", "set", "A & B", NULL);
    cluster_settle(&cluster);
    assert_int_equal(node(1)->run_count, 1);
    cluster_request(node(0), "r", "add", NULL, NULL); /* the gap shows */
    cluster_settle(&cluster);
    assert_int_equal(node(1)->run_count, 4);
    assert_int_equal(node(0)->completed_count, 4);
    cluster_stop(&cluster);
}

static void repeated_messages_do_nothing(void **state)
{
    (void)state;
    cluster_start(&cluster, 3, 100, 64);
    cluster.duplicate_all = true;
    struct chp_uuid id = cluster_request(node(0), "r", "set", "*", NULL);
    cluster_settle(&cluster);
    struct chp_uuid second = cluster_request(node(1), "r", "set", NULL, NULL);
    cluster_settle(&cluster);
    expect_once_everywhere(&id);
    expect_once_everywhere(&second);
    assert_int_equal(node(0)->completed_count, 1);
    assert_int_equal(node(1)->completed_count, 1);
    cluster_stop(&cluster);
}

static void a_store_that_fails_loses_nothing(void **state)
{
    (void)state;
    for (int applied = 0; applied < 2; applied++) {
        cluster_start(&cluster, 2, 100, 64);
        cluster_request(node(0), "r", "set", "A & B", "k0");
        cluster_settle(&cluster);
        struct chp_uuid id = cluster_request(node(0), "r", "add", NULL, "k1");
        cluster_reset(node(0), applied != 0);
        cluster_request(node(0), "r", "add", NULL, "k1"); /* as the client does: the same key */
        cluster_settle(&cluster);
        cluster_second(&cluster);
        assert_int_equal(node(0)->reply.code, 0);
        assert_int_equal(node(0)->run_count, 2);
        assert_int_equal(node(1)->run_count, 2);
        assert_int_equal(cluster_count_runs(node(1), &node(0)->reply.id), 1);
        (void)id;
        cluster_stop(&cluster);
    }
}

static void a_command_that_runs_is_resumed(void **state)
{
    (void)state;
    cluster_start(&cluster, 2, 100, 64);
    node(1)->commands_hang = true;
    struct chp_uuid id = cluster_request(node(0), "r", "set", "A & B", NULL);
    cluster_settle(&cluster);
    assert_int_equal(cluster_count_runs(node(1), &id), 1);
    assert_int_equal(node(0)->completed_count, 0);
    node(1)->commands_hang = false;
    cluster_reset(node(1), true);
    cluster_settle(&cluster);
    assert_int_equal(cluster_count_runs(node(1), &id), 1);
    assert_int_equal(node(0)->completed_count, 1);
    cluster_stop(&cluster);
}

static void an_answer_after_a_restart_of_the_origin_completes(void **state)
{
    (void)state;
    cluster_start(&cluster, 2, 100, 64);
    cluster.cut[1][0] = true;
    cluster_request(node(0), "r", "set", "A & B", NULL);
    cluster_settle(&cluster);
    assert_int_equal(node(0)->completed_count, 0);
    cluster_reset(node(0), true);
    cluster.cut[1][0] = false;
    cluster_settle(&cluster);
    assert_int_equal(node(0)->completed_count, 1);
    cluster_stop(&cluster);
}

static void cut(int a, int b, bool is_cut)
{
    cluster.cut[a][b] = cluster.cut[b][a] = is_cut;
}

static void concurrent_creations_are_one_resource(void **state)
{
    (void)state;
    cluster_start(&cluster, 3, 100, 64);
    cut(0, 1, true);
    cut(0, 2, true);
    cut(1, 2, true);
    struct chp_uuid a = cluster_request(node(0), "r", "set", "A & B", NULL);
    cluster_settle(&cluster);
    struct chp_uuid b = cluster_request(node(1), "r", "set", "B & C", NULL);
    cluster_settle(&cluster);
    struct chp_uuid c = cluster_request(node(1), "r", "add", NULL, NULL);
    cluster_settle(&cluster);
    cut(0, 1, false);
    cut(0, 2, false);
    cut(1, 2, false);
    for (int i = 0; i < 5; i++) {
        cluster_settle(&cluster);
        cluster_second(&cluster);
    }
    expect_once_everywhere(&a);
    expect_once_everywhere(&b);
    expect_once_everywhere(&c);
    cluster_stop(&cluster);
}

static void an_operation_runs_after_its_causes(void **state)
{
    (void)state;
    cluster_start(&cluster, 3, 100, 64);
    cluster_request(node(0), "r", "set", "*", NULL);
    cluster_settle(&cluster);
    cut(0, 2, true);
    struct chp_uuid cause = cluster_request(node(0), "r", "set", NULL, NULL);
    cluster_settle(&cluster);
    struct chp_uuid effect = cluster_request(node(1), "r", "add", NULL, NULL);
    cluster_settle(&cluster);
    assert_int_equal(cluster_count_runs(node(2), &effect), 0); /* waits */
    cut(0, 2, false);
    cluster_settle(&cluster);
    cluster_second(&cluster);
    assert_int_equal(cluster_count_runs(node(2), &cause), 1);
    assert_int_equal(cluster_count_runs(node(2), &effect), 1);
    assert_true(chp_uuid_equal(&node(2)->runs[node(2)->run_count - 1].operation, &effect));
    cluster_stop(&cluster);
}

static void another_order_is_shown(void **state)
{
    (void)state;
    cluster_start(&cluster, 2, 100, 64);
    cluster_request(node(0), "r", "set", "A & B", NULL);
    cluster_settle(&cluster);
    cut(0, 1, true);
    cluster_request(node(0), "r", "add", NULL, NULL);
    cluster_settle(&cluster);
    cluster_request(node(1), "r", "add", NULL, NULL);
    cluster_settle(&cluster);
    cut(0, 1, false);
    cluster_settle(&cluster);
    /* B ran its own, later one first; A had them in order. Both origins know. */
    assert_int_equal(node(0)->unverified_count, 1);
    assert_int_equal(node(1)->unverified_count, 0);
    cluster_stop(&cluster);
}

static void a_backlog_does_not_need_memory(void **state)
{
    (void)state;
    enum { RESOURCES = 20, EACH = 15 };
    cluster_start(&cluster, 2, 4, 3);
    cut(0, 1, true);
    for (int i = 0; i < EACH; i++) {
        for (int r = 0; r < RESOURCES; r++) {
            char name[16];
            (void)snprintf(name, sizeof name, "r%d", r);
            cluster_request(node(0), name, "add", "A & B", NULL);
            cluster_settle(&cluster);
            assert_int_equal(node(0)->reply.code, 0);
        }
    }
    node(1)->commands_hang = true;
    cut(0, 1, false);
    cluster_settle(&cluster);
    node(1)->commands_hang = false;
    cluster_reset(node(1), true);
    for (int i = 0; i < 50 && node(0)->completed_count < RESOURCES * EACH; i++) {
        cluster_second(&cluster);
        assert_true(chp_engine_resource_count(node(1)->engine) <= 4 + RESOURCES);
    }
    assert_int_equal(node(0)->completed_count, RESOURCES * EACH);
    assert_int_equal(node(1)->run_count, RESOURCES * EACH);
    for (size_t i = 0; i < node(0)->run_count; i++) {
        assert_int_equal(cluster_count_runs(node(1), &node(0)->runs[i].operation), 1);
    }
    cluster_stop(&cluster);
}

static void a_silent_site_is_down(void **state)
{
    (void)state;
    struct chp_peer_view view;
    cluster_start(&cluster, 2, 100, 64);
    assert_true(chp_engine_peer(node(0)->engine, 0, &view));
    assert_true(view.up);
    cut(0, 1, true);
    for (int i = 0; i < 7; i++) {
        cluster_second(&cluster);
    }
    assert_true(chp_engine_peer(node(0)->engine, 0, &view));
    assert_false(view.up);
    assert_true(view.state_known);
    cut(0, 1, false);
    cluster_second(&cluster);
    assert_true(chp_engine_peer(node(0)->engine, 0, &view));
    assert_true(view.up);
    cluster_stop(&cluster);
}

static void a_clock_that_leads_is_not_trusted(void **state)
{
    (void)state;
    cluster_start(&cluster, 2, 100, 64);
    cluster_second(&cluster);
    struct chp_now year_ahead = cluster.now;
    year_ahead.wall_ms += 365ull * 24 * 3600 * 1000;
    assert_true(chp_engine_clock_suspect(node(0)->engine, &year_ahead));
    assert_false(chp_engine_clock_suspect(node(0)->engine, &cluster.now));
    cluster_stop(&cluster);
}

static void one_failure_marks_no_other(void **state)
{
    (void)state;
    cluster_start(&cluster, 2, 100, 64);
    cluster_request(node(0), "r", "set", "A & B", NULL);
    cluster_request(node(0), "r", "fail", "A & B", NULL);
    cluster_request(node(0), "r", "add", "A & B", NULL);
    cluster_settle(&cluster);
    assert_int_equal(node(0)->completed_count, 4); /* and the void of what failed everywhere */
    assert_int_equal(node(0)->run_count, 3);
    assert_int_equal(node(1)->run_count, 3);
    cluster_stop(&cluster);
}

static void expect_told(const struct node *node, const char *const *told, size_t count)
{
    assert_int_equal(node->told_count, count);
    for (size_t i = 0; i < count; i++) {
        assert_string_equal(node->told[i], told[i]);
    }
}

static size_t count_told(const struct node *node, const char *told)
{
    size_t count = 0;
    for (size_t i = 0; i < node->told_count; i++) {
        count += strcmp(node->told[i], told) == 0;
    }
    return count;
}

static void who_left_a_queue_is_told_from_rows(void **state)
{
    (void)state;
    cluster_start(&cluster, 2, 100, 64);
    cluster_request(node(0), "r", "set", "A & B", NULL); /* nobody to tell */
    cluster_settle(&cluster);
    assert_int_equal(node(0)->told_count, 0);
    node(0)->reply_to = "q";
    cluster_request(node(0), "r", "set", "A & B", NULL);
    cluster_settle(&cluster);
    const char *told[] = {"q/accepted", "q/result/A/1/done", "q/result/B/1/done", "q/completed"};
    expect_told(node(0), told, 4);
    cluster_request(node(0), "r", "set", "A & C", NULL); /* refused: no row */
    cluster_settle(&cluster);
    assert_int_equal(node(0)->told_count, 4);
    cluster_stop(&cluster);
}

static void results_after_a_restart_are_told(void **state)
{
    (void)state;
    cluster_start(&cluster, 2, 100, 64);
    node(0)->reply_to = "q";
    cluster.cut[0][1] = true;
    cluster_request(node(0), "r", "set", "A & B", NULL);
    cluster_settle(&cluster);
    assert_int_equal(node(0)->told_count, 2);
    cluster_reset(node(0), true);
    cluster.cut[0][1] = false;
    cluster_settle(&cluster);
    const char *told[] = {"q/accepted", "q/result/A/1/done", "q/result/B/1/done", "q/completed"};
    expect_told(node(0), told, 4);
    cluster_stop(&cluster);
}

static void who_asks_again_is_told_what_is_known_and_what_follows(void **state)
{
    (void)state;
    cluster_start(&cluster, 3, 100, 64);
    cluster.cut[0][1] = cluster.cut[0][2] = true;
    node(0)->reply_to = "q";
    cluster_request(node(0), "r", "set", "A & B & C", "k");
    cluster_request(node(0), "r", "set", "A & B & C", "k"); /* the same queue, at once */
    cluster_settle(&cluster);
    const char *first[] = {"q/accepted", "q/accepted", "q/result/A/1/done"};
    expect_told(node(0), first, 3);
    node(0)->reply_to = "p";
    cluster_request(node(0), "r", "set", "A & B & C", "k");
    cluster.cut[0][1] = false; /* B's answer comes while the store is asked */
    cluster_settle(&cluster);
    cluster_reset(node(0), true); /* it is kept who listens */
    cluster.cut[0][2] = false;
    cluster_settle(&cluster);
    const char *both[] = {"/result/A/1/done", "/result/B/1/done", "/result/C/1/done", "/completed"};
    for (size_t i = 0; i < 4; i++) {
        char text[64];
        (void)snprintf(text, sizeof text, "q%s", both[i]);
        assert_int_equal(count_told(node(0), text), 1);
        text[0] = 'p';
        assert_int_equal(count_told(node(0), text), 1);
    }
    assert_string_equal(node(0)->told[node(0)->told_count - 1], "p/completed");
    node(0)->reply_to = "late"; /* it has all ended */
    node(0)->told_count = 0;
    cluster_request(node(0), "r", "set", "A & B & C", "k");
    cluster_settle(&cluster);
    const char *late[] = {"late/accepted", "late/result/A/1/done", "late/result/B/1/done",
                          "late/result/C/1/done", "late/completed"};
    expect_told(node(0), late, 5);
    assert_int_equal(node(0)->completed_count, 1);
    assert_int_equal(node(0)->run_count, 1);
    cluster_stop(&cluster);
}

static void the_last_to_ask_again_are_told(void **state)
{
    (void)state;
    char names[CHP_LISTENERS_MAX + 2][8];
    cluster_start(&cluster, 2, 100, 64);
    cluster.cut[0][1] = true;
    for (int i = 0; i < CHP_LISTENERS_MAX + 2; i++) {
        (void)snprintf(names[i], sizeof names[i], "q%d", i);
        node(0)->reply_to = names[i];
        cluster_request(node(0), "r", "set", "A & B", "k");
        cluster_settle(&cluster);
        node(0)->told_count = 0;
    }
    cluster.cut[0][1] = false;
    cluster_settle(&cluster);
    assert_int_equal(node(0)->told_count, 2 * (CHP_LISTENERS_MAX + 1));
    assert_int_equal(count_told(node(0), "q0/completed"), 1);
    assert_int_equal(count_told(node(0), "q1/completed"), 0);
    assert_int_equal(count_told(node(0), "q2/completed"), 1);
    cluster_stop(&cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_on_every_member_once),
        cmocka_unit_test(an_origin_need_not_be_a_member),
        cmocka_unit_test(refusals_say_why),
        cmocka_unit_test(a_key_is_admitted_once),
        cmocka_unit_test(lost_messages_are_repaired),
        cmocka_unit_test(repeated_messages_do_nothing),
        cmocka_unit_test(a_store_that_fails_loses_nothing),
        cmocka_unit_test(a_command_that_runs_is_resumed),
        cmocka_unit_test(an_answer_after_a_restart_of_the_origin_completes),
        cmocka_unit_test(concurrent_creations_are_one_resource),
        cmocka_unit_test(an_operation_runs_after_its_causes),
        cmocka_unit_test(another_order_is_shown),
        cmocka_unit_test(a_backlog_does_not_need_memory),
        cmocka_unit_test(a_silent_site_is_down),
        cmocka_unit_test(a_clock_that_leads_is_not_trusted),
        cmocka_unit_test(one_failure_marks_no_other),
        cmocka_unit_test(who_left_a_queue_is_told_from_rows),
        cmocka_unit_test(results_after_a_restart_are_told),
        cmocka_unit_test(who_asks_again_is_told_what_is_known_and_what_follows),
        cmocka_unit_test(the_last_to_ask_again_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
