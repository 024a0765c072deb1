/* SPDX-License-Identifier: AGPL-3.0-only */
/* Executions in doubt, and how a person ends the doubt (design 4.5). */
#include "unit/engine/cluster.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static struct cluster cluster; /* big */

static struct node *node(int index)
{
    return &cluster.nodes[index];
}

/* A resource on all three sites with an operation of A that is in doubt at site, and one of C that
 * waits there behind it. */
static void doubt_at(int site, struct chp_uuid *doubted, struct chp_uuid *waiting)
{
    cluster_start(&cluster, 3, 100, 64);
    node(site)->commands_doubt = true;
    *doubted = cluster_request(node(0), "r", "set", "A & B & C", NULL);
    cluster_settle(&cluster);
    *waiting = cluster_request(node(2), "r", "add", NULL, NULL);
    cluster_settle(&cluster);
    node(site)->commands_doubt = false;
    assert_string_equal(cluster_shown(node(0), doubted, node(site)->site),
                        "in-doubt 1 the machine went down");
    assert_int_equal(cluster_count_runs(node(site), waiting), 0);
    assert_int_equal(node(0)->completed_count, 0);
}

static void resolve(int site, const struct chp_uuid *operation, enum chp_resolution resolution)
{
    size_t before = node(site)->resolved_count;
    cluster_resolve(node(site), operation, resolution);
    cluster_settle(&cluster);
    assert_int_equal(node(site)->resolved_count, before + 1);
}

static void expect_refused(int site, const struct chp_uuid *operation, int code, const char *part)
{
    for (int i = 0; i < CHP_RESOLVE_RERUN + 1; i++) {
        resolve(site, operation, (enum chp_resolution)i);
        assert_int_equal(node(site)->resolved_code, code);
        assert_non_null(strstr(node(site)->error, part));
    }
}

static void resolve_each_way(int site, enum chp_resolution resolution, const char *shown)
{
    struct chp_uuid doubted;
    struct chp_uuid waiting;
    doubt_at(site, &doubted, &waiting);
    resolve(site, &doubted, resolution);
    assert_int_equal(node(site)->resolved_code, 0);
    assert_int_equal(cluster_count_runs(node(site), &doubted),
                     resolution == CHP_RESOLVE_RERUN ? 2 : 1);
    assert_int_equal(cluster_count_runs(node(site), &waiting), 1);
    assert_string_equal(cluster_shown(node(site), &doubted, node(site)->site), shown);
    assert_string_equal(cluster_shown(node(0), &doubted, node(site)->site), shown);
    assert_int_equal(node(0)->completed_count, 1);
    assert_int_equal(node(2)->completed_count, 1);
    assert_int_equal(node(2)->unverified_count, 0);
    expect_refused(site, &doubted, CHP_ECONFLICT, "only an execution in doubt");
    cluster_stop(&cluster);
}

static void done_failed_or_again_at_the_origin_and_elsewhere(void **state)
{
    (void)state;
    for (int site = 0; site < 3; site++) {
        resolve_each_way(site, CHP_RESOLVE_DONE, "done 2 resolved as done by tester");
        resolve_each_way(site, CHP_RESOLVE_FAILED, "failed 2 resolved as failed by tester");
        resolve_each_way(site, CHP_RESOLVE_RERUN, "done 3");
    }
}

static void a_rerun_may_end_in_doubt_again(void **state)
{
    (void)state;
    struct chp_uuid doubted;
    struct chp_uuid waiting;
    doubt_at(1, &doubted, &waiting);
    node(1)->commands_doubt = true;
    resolve(1, &doubted, CHP_RESOLVE_RERUN);
    assert_string_equal(cluster_shown(node(0), &doubted, "B"), "in-doubt 3 the machine went down");
    assert_int_equal(cluster_count_runs(node(1), &waiting), 0);
    node(1)->commands_doubt = false;
    resolve(1, &doubted, CHP_RESOLVE_DONE);
    assert_string_equal(cluster_shown(node(0), &doubted, "B"), "done 4 resolved as done by tester");
    assert_int_equal(cluster_count_runs(node(1), &waiting), 1);
    cluster_stop(&cluster);
}

static void only_what_is_in_doubt_here_is_resolved(void **state)
{
    (void)state;
    struct chp_uuid doubted;
    struct chp_uuid waiting;
    struct chp_uuid unknown = {.bytes = {9}};
    doubt_at(1, &doubted, &waiting);
    expect_refused(1, &unknown, CHP_ENOTFOUND, "not known at B");
    expect_refused(1, &waiting, CHP_ECONFLICT, "is delivered at B");
    expect_refused(0, &doubted, CHP_ECONFLICT, "is done at A");
    node(2)->commands_hang = true;
    struct chp_uuid running = cluster_request(node(0), "s", "set", "C", NULL);
    cluster_settle(&cluster);
    expect_refused(2, &running, CHP_ECONFLICT, "is running at C");
    expect_refused(0, &running, CHP_ENOTFOUND, "does not run at A");
    expect_refused(1, &running, CHP_ENOTFOUND, "not known at B");
    cluster_stop(&cluster);
}

static void of_two_answers_the_first_counts(void **state)
{
    (void)state;
    struct chp_uuid doubted;
    struct chp_uuid waiting;
    doubt_at(0, &doubted, &waiting);
    cluster_resolve(node(0), &doubted, CHP_RESOLVE_FAILED);
    cluster_resolve(node(0), &doubted, CHP_RESOLVE_DONE);
    cluster_resolve(node(0), &doubted, CHP_RESOLVE_RERUN);
    cluster_settle(&cluster);
    assert_int_equal(node(0)->resolved_count, 3);
    assert_int_equal(node(0)->resolved_code, CHP_ECONFLICT);
    assert_string_equal(cluster_shown(node(0), &doubted, "A"),
                        "failed 2 resolved as failed by tester");
    assert_int_equal(cluster_count_runs(node(0), &doubted), 1);
    assert_int_equal(node(0)->completed_count, 1);
    cluster_stop(&cluster);
}

/* The engine has forgotten all but what it reads again, and holds few operations at a time. */
static void what_is_only_in_the_store_is_resolved(void **state)
{
    (void)state;
    enum { COUNT = 9 };
    struct chp_uuid ids[COUNT];
    cluster_start(&cluster, 2, 1, 2);
    node(1)->commands_hang = true; /* the first runs while the others arrive */
    for (int i = 0; i < COUNT; i++) {
        ids[i] = cluster_request(node(0), "r", "set", "A & B", NULL);
        cluster_settle(&cluster);
    }
    /* All of them become in doubt, as after a database that was restored. */
    for (int i = 0; i < COUNT; i++) {
        struct chp_batch batch = {0};
        struct chp_write *write = chp_batch_write(&batch, CHP_WRITE_EXECUTION);
        write->execution.ack = (struct chp_ack){.operation = ids[i],
                                                .resource = "r",
                                                .site = "B",
                                                .run = 1,
                                                .state = CHP_STATE_IN_DOUBT,
                                                .reason = "restored"};
        cluster_write(node(1), &batch);
    }
    cluster_reset(node(1), true);
    node(1)->commands_hang = false;
    cluster_settle(&cluster);
    /* From the last, which only the store has, two at a time and one of them twice. */
    for (int i = COUNT - 1; i > 0; i -= 2) {
        cluster_resolve(node(1), &ids[i], CHP_RESOLVE_DONE);
        cluster_resolve(node(1), &ids[i - 1], CHP_RESOLVE_RERUN);
        cluster_resolve(node(1), &ids[i], CHP_RESOLVE_FAILED);
        cluster_settle(&cluster);
        assert_string_equal(cluster_shown(node(1), &ids[i], "B"),
                            "done 2 resolved as done by tester");
        assert_string_equal(cluster_shown(node(1), &ids[i - 1], "B"), "delivered 2");
    }
    assert_int_equal(node(1)->run_count, 1);
    cluster_resolve(node(1), &ids[0], CHP_RESOLVE_FAILED);
    cluster_settle(&cluster);
    assert_int_equal(node(1)->resolved_count, 13);
    for (int i = 1; i < COUNT; i++) {
        assert_int_equal(cluster_count_runs(node(1), &ids[i]), i % 2 == 1 ? 1 : 0);
    }
    assert_int_equal(node(0)->completed_count, COUNT);
    cluster_stop(&cluster);
}

static void doors_see_what_is_in_doubt(void **state)
{
    (void)state;
    struct chp_uuid doubted;
    struct chp_uuid waiting;
    struct chp_doubt_view view;
    doubt_at(1, &doubted, &waiting);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(chp_engine_in_doubt(node(i)->engine, &view, 1), 1);
        assert_string_equal(view.site, "B");
        assert_true(chp_uuid_equal(&view.operation, &doubted));
    }
    assert_int_equal(chp_engine_in_doubt(node(2)->engine, &view, 1), 0);
    resolve(1, &doubted, CHP_RESOLVE_DONE);
    assert_int_equal(chp_engine_in_doubt(node(0)->engine, &view, 1), 0);
    assert_int_equal(chp_engine_in_doubt(node(1)->engine, &view, 1), 0);
    cluster_stop(&cluster);
}

static void a_resolve_that_was_not_committed_was_not_answered(void **state)
{
    (void)state;
    struct chp_uuid doubted;
    struct chp_uuid waiting;
    doubt_at(1, &doubted, &waiting);
    cluster_reset(node(1), false);
    cluster_settle(&cluster);
    cluster_resolve(node(1), &doubted, CHP_RESOLVE_DONE);
    cluster_reset(node(1), false); /* while it is read */
    cluster_settle(&cluster);
    assert_int_equal(node(1)->resolved_count, 0);
    assert_string_equal(cluster_shown(node(1), &doubted, "B"), "in-doubt 1 the machine went down");
    resolve(1, &doubted, CHP_RESOLVE_DONE);
    assert_int_equal(cluster_count_runs(node(1), &waiting), 1);
    cluster_stop(&cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(done_failed_or_again_at_the_origin_and_elsewhere),
        cmocka_unit_test(a_rerun_may_end_in_doubt_again),
        cmocka_unit_test(only_what_is_in_doubt_here_is_resolved),
        cmocka_unit_test(of_two_answers_the_first_counts),
        cmocka_unit_test(what_is_only_in_the_store_is_resolved),
        cmocka_unit_test(doors_see_what_is_in_doubt),
        cmocka_unit_test(a_resolve_that_was_not_committed_was_not_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
