/* SPDX-License-Identifier: AGPL-3.0-only */
/* What is forgotten for its age, and what a clock that jumps must not cost. */
#include "unit/engine/cluster.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct cluster cluster; /* big */

static const uint64_t minute_ms = 60 * 1000;
static const uint64_t day_ms = 24 * 60 * 60 * 1000;

/* Some time passes between two ticks. */
static void pass(uint64_t ms)
{
    cluster_second(&cluster);
    cluster.now.mono_us += ms * 1000;
    cluster.now.wall_ms += ms;
    cluster_second(&cluster);
    cluster_second(&cluster);
}

static bool asked_again_is_known(const char *key)
{
    struct node *node = &cluster.nodes[0];
    cluster_reset(node, true); /* the engine remembers the last ones itself */
    cluster_request(node, "r", "set", "A", key);
    cluster_settle(&cluster);
    assert_int_equal(node->reply.code, 0);
    return node->reply.duplicate;
}

static void ask(const char *key)
{
    cluster_request(&cluster.nodes[0], "r", "set", "A", key);
    cluster_settle(&cluster);
    assert_false(cluster.nodes[0].reply.duplicate);
}

static void keys_are_kept_seven_days(void **state)
{
    (void)state;
    cluster_start(&cluster, 1, 100, 64);
    ask("k");
    pass(day_ms);
    ask("l");
    pass(6 * day_ms - minute_ms);
    assert_true(asked_again_is_known("k"));
    pass(2 * minute_ms);
    assert_true(asked_again_is_known("k")); /* a new engine trusts no clock at once */
    pass(61 * minute_ms);
    assert_false(asked_again_is_known("k"));
    assert_true(asked_again_is_known("l"));
    cluster_stop(&cluster);
}

static void a_clock_that_jumps_costs_nothing_for_an_hour(void **state)
{
    (void)state;
    cluster_start(&cluster, 1, 100, 64);
    ask("k");
    pass(120 * minute_ms);
    cluster.now.wall_ms += 365 * day_ms;
    cluster_second(&cluster);
    pass(30 * minute_ms);
    cluster.now.wall_ms -= 365 * day_ms; /* somebody has put it right */
    pass(120 * minute_ms);
    assert_true(asked_again_is_known("k"));
    cluster.now.wall_ms += 365 * day_ms;
    pass(120 * minute_ms); /* nobody has: it is what time it is */
    assert_false(asked_again_is_known("k"));
    cluster_stop(&cluster);
}

/* Other than above: the clock is checked against what was heard before. */
static void a_jump_of_a_site_that_is_cut_off_costs_nothing(void **state)
{
    (void)state;
    cluster_start(&cluster, 2, 100, 64);
    ask("k");
    pass(120 * minute_ms);
    cluster.cut[0][1] = cluster.cut[1][0] = true;
    cluster.nodes[0].clock_ms = 365 * (int64_t)day_ms;
    pass(120 * minute_ms);
    pass(2 * day_ms);
    assert_true(asked_again_is_known("k"));
    cluster_stop(&cluster);
}

static bool known_so_long_after_the_clock_was_behind(int days)
{
    cluster_start(&cluster, 2, 100, 64);
    struct node *node = &cluster.nodes[0];
    node->clock_ms = -365 * (int64_t)day_ms;
    cluster_second(&cluster);
    ask("k");
    pass(minute_ms);
    node->clock_ms = 0;
    for (int day = 0; day < days; day++) {
        pass(day_ms);
    }
    bool known = asked_again_is_known("k");
    cluster_stop(&cluster);
    return known;
}

static void what_a_clock_that_was_behind_wrote_is_kept_long_enough(void **state)
{
    (void)state;
    assert_true(known_so_long_after_the_clock_was_behind(6));
    assert_false(known_so_long_after_the_clock_was_behind(8));
}

static void take_text(void *user, int code, const char *json, const struct chp_error *error)
{
    (void)error;
    assert_int_equal(code, 0);
    (void)snprintf(user, 64, "%s", strstr(json, "\"oldest\""));
}

static void expect_oldest(const char *expected)
{
    struct node *node = &cluster.nodes[0];
    const char *params[] = {"0", "1000"};
    char text[64] = "";
    chp_store_query(node->store, CHP_QUERY_EVENTS, params, 2, take_text, text);
    while (chp_mem_store_run(node->store)) {
    }
    assert_string_equal(text, expected);
}

static void published_events_are_kept_for_the_configured_time(void **state)
{
    (void)state;
    cluster_start(&cluster, 1, 100, 64);
    struct node *node = &cluster.nodes[0];
    ask("k"); /* accepted, executed, completed */
    pass(2 * day_ms);
    ask("l");
    assert_int_equal(node->events, 6);
    pass(day_ms + 60 * minute_ms);
    expect_oldest("\"oldest\":1}"); /* not published */
    chp_batch_write(&node->open->batch, CHP_WRITE_EVENTS_PUBLISHED)->events_published = 6;
    pass(2 * minute_ms);
    expect_oldest("\"oldest\":4}");
    pass(30 * day_ms);
    expect_oldest("\"oldest\":6}"); /* the last one stays, so that its number does */
    cluster_stop(&cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_are_kept_seven_days),
        cmocka_unit_test(a_clock_that_jumps_costs_nothing_for_an_hour),
        cmocka_unit_test(a_jump_of_a_site_that_is_cut_off_costs_nothing),
        cmocka_unit_test(what_a_clock_that_was_behind_wrote_is_kept_long_enough),
        cmocka_unit_test(published_events_are_kept_for_the_configured_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
