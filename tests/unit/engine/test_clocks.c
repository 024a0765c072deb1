/* SPDX-License-Identifier: AGPL-3.0-only */
/* Sites whose wall clocks are wrong or jump (design 4.2): what they stamp, what the others make of
 * it, and that nothing else goes by a wall clock. */
#include "unit/engine/cluster.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ALL "A & B & C"

static struct cluster cluster; /* big */

static const int64_t year_ms = 365LL * 24 * 3600 * 1000;
static const uint64_t skew_ms = 60 * 1000;

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

/* A alone, or with the others again. */
static void cut_off(bool cut)
{
    for (int other = 1; other < cluster.count; other++) {
        cluster.cut[0][other] = cluster.cut[other][0] = cut;
    }
}

static struct chp_uuid ask(int site, const char *resource)
{
    struct chp_uuid id = cluster_request(node(site), resource, "set", ALL, NULL);
    cluster_settle(&cluster);
    assert_int_equal(node(site)->reply.code, 0);
    return id;
}

static bool is_suspect(int site, const struct chp_uuid *operation)
{
    bool suspect;
    (void)cluster_stamp(node(site), operation, &suspect);
    return suspect;
}

/* The operation bears a stamp of that time, and its origin's is the one that all have. */
static void expect_stamped(int site, const struct chp_uuid *operation, int64_t ahead_ms)
{
    uint64_t wanted_ms = cluster.now.wall_ms + (uint64_t)ahead_ms;
    struct chp_stamp stamp = cluster_stamp(node(site), operation, NULL);
    assert_in_range(stamp.ms, wanted_ms - skew_ms, wanted_ms + skew_ms);
}

static void expect_after(int site, const struct chp_uuid *later, const struct chp_uuid *earlier)
{
    assert_true(chp_stamp_compare(cluster_stamp(node(site), earlier, NULL),
                                  cluster_stamp(node(site), later, NULL)) < 0);
}

static void expect_suspects(const struct chp_uuid *operation, bool a, bool b, bool c)
{
    assert_int_equal(is_suspect(0, operation), a);
    assert_int_equal(is_suspect(1, operation), b);
    assert_int_equal(is_suspect(2, operation), c);
}

static bool trusts_itself(int site)
{
    struct chp_now now = cluster_now(node(site));
    return !chp_engine_clock_suspect(node(site)->engine, &now);
}

static void a_clock_that_jumps_ahead_is_not_trusted(void **state)
{
    (void)state;
    cluster_start(&cluster, 3, 100, 64);
    struct chp_uuid before = ask(0, "r");
    node(0)->clock_ms = year_ms;
    assert_false(trusts_itself(0)); /* at once, not only when the next beats have come */
    struct chp_uuid after = ask(0, "r");
    struct chp_uuid answer = ask(1, "r");
    seconds(3);
    assert_false(trusts_itself(0));
    assert_true(trusts_itself(1) && trusts_itself(2));
    expect_stamped(0, &after, 0);
    expect_stamped(1, &answer, 0);
    expect_after(2, &after, &before);
    expect_after(2, &answer, &after);
    expect_suspects(&after, false, false, false);
    expect_suspects(&answer, false, false, false);
    node(0)->clock_ms = 0;
    seconds(1);
    assert_true(trusts_itself(0));
    cluster_stop(&cluster);
}

static void a_site_that_is_cut_off_keeps_to_what_it_heard(void **state)
{
    (void)state;
    cluster_start(&cluster, 3, 100, 64);
    cut_off(true);
    seconds(10); /* the others are down by now */
    node(0)->clock_ms = year_ms;
    assert_false(trusts_itself(0));
    struct chp_uuid id = ask(0, "r");
    struct chp_uuid other = ask(1, "r");
    cut_off(false);
    seconds(3);
    expect_stamped(0, &id, 0);
    expect_suspects(&id, false, false, false);
    expect_after(2, &other, &id); /* concurrent, and given later */
    cluster_stop(&cluster);
}

/* The only way to stamp far ahead: nobody was heard since the start. */
static struct chp_uuid stamped_ahead(const char *resource)
{
    cut_off(true);
    node(0)->clock_ms = year_ms;
    cluster_reset(node(0), true);
    struct chp_uuid ahead = ask(0, resource);
    expect_stamped(0, &ahead, year_ms);
    assert_false(is_suspect(0, &ahead)); /* by its own clock it is not */
    return ahead;
}

static void a_clock_that_was_ahead_does_not_win_for_ever(void **state)
{
    (void)state;
    cluster_start(&cluster, 3, 100, 64);
    struct chp_uuid ahead = stamped_ahead("r");
    cut_off(false);
    seconds(3);
    expect_suspects(&ahead, false, true, true);
    struct chp_uuid newer = ask(1, "r"); /* stamped behind what it knows, as every clock will be */
    expect_after(2, &newer, &ahead);
    expect_suspects(&newer, true, true, true);
    node(0)->clock_ms = 0;
    seconds(1);
    struct chp_uuid last = newer;
    for (int i = 0; i < 6; i++) {
        struct chp_uuid id = ask(i % 3, "r");
        seconds(1);
        expect_after(0, &id, &last);
        expect_after(1, &id, &last);
        last = id;
    }
    for (int i = 0; i < 3; i++) {
        assert_int_equal(node(i)->run_count, 8);
        assert_string_equal(cluster_shown(node(2), &last, node(i)->site), "done 1");
        assert_true(trusts_itself(i));
    }
    cluster_stop(&cluster);
}

static void receiving_advances_no_clock(void **state)
{
    (void)state;
    cluster_start(&cluster, 3, 100, 64);
    (void)stamped_ahead("r");
    cut_off(false);
    seconds(3);
    for (int i = 0; i < 3; i++) {
        (void)ask(i, "r");
        struct chp_uuid elsewhere = ask(i, i == 0 ? "s" : i == 1 ? "t" : "u");
        expect_stamped(i, &elsewhere, 0);
        expect_suspects(&elsewhere, false, false, false);
        assert_int_equal(trusts_itself(i), i != 0);
    }
    cluster_stop(&cluster);
}

static void a_clock_that_is_behind_holds_nobody_back(void **state)
{
    (void)state;
    cluster_start(&cluster, 3, 100, 64);
    node(0)->clock_ms = -year_ms;
    cluster_reset(node(0), true);
    struct chp_uuid first = ask(0, "r");
    seconds(1);
    expect_stamped(0, &first, -year_ms);
    expect_suspects(&first, false, false, false);
    struct chp_uuid newer = ask(1, "r");
    seconds(1);
    expect_stamped(1, &newer, 0);
    expect_suspects(&newer, true, false, false); /* seen from a year ago */
    struct chp_uuid last = ask(0, "r");          /* behind what it knows */
    seconds(1);
    expect_after(2, &newer, &first);
    expect_after(2, &last, &newer);
    assert_true(trusts_itself(1) && trusts_itself(2));
    /* Nor when it is the only one that is still heard. */
    cluster.cut[2][1] = true;
    seconds(10);
    assert_true(trusts_itself(1));
    struct chp_uuid elsewhere = ask(1, "s");
    expect_stamped(1, &elsewhere, 0);
    cluster_stop(&cluster);
}

static void expect_everybody_heard(void)
{
    struct chp_peer_view view;
    for (int i = 0; i < cluster.count; i++) {
        for (size_t peer = 0; chp_engine_peer(node(i)->engine, peer, &view); peer++) {
            assert_true(view.up);
            assert_true(view.round_trip_us < 1000 * 1000);
        }
    }
}

static void jumps_during_work_change_nothing_but_times(void **state)
{
    (void)state;
    static const int64_t jumps[] = {1, 0, -1, 1, -1, 0, 30, -30};
    enum { JUMPS = sizeof jumps / sizeof jumps[0] };
    struct chp_uuid last[3];
    cluster_start(&cluster, 3, 100, 64);
    for (int i = 0; i < 3; i++) {
        last[i] = ask(i, "r");
    }
    for (int jump = 0; jump < JUMPS; jump++) {
        for (int i = 0; i < 3; i++) { /* one after the other, each elsewhere */
            node(i)->clock_ms = jumps[(jump + 3 * i) % JUMPS] * year_ms;
            struct chp_uuid id = cluster_request(node(i), "r", "set", ALL, NULL); /* under way */
            cluster_second(&cluster);
            expect_after(i, &id, &last[i]);
            last[i] = id;
            expect_everybody_heard();
        }
    }
    for (int i = 0; i < 3; i++) {
        node(i)->clock_ms = 0;
    }
    seconds(3);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(node(i)->run_count, 3 + 3 * JUMPS);
        assert_int_equal(node(i)->completed_count, 1 + JUMPS);
        for (int other = 0; other < 3; other++) {
            assert_int_equal(chp_stamp_compare(cluster_stamp(node(i), &last[other], NULL),
                                               cluster_stamp(node(other), &last[other], NULL)),
                             0);
        }
    }
    struct chp_uuid newest = ask(1, "r");
    seconds(1);
    for (int i = 0; i < 3; i++) {
        expect_after(i, &newest, &last[i]);
        assert_true(trusts_itself(i));
    }
    cluster_stop(&cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_clock_that_jumps_ahead_is_not_trusted),
        cmocka_unit_test(a_site_that_is_cut_off_keeps_to_what_it_heard),
        cmocka_unit_test(a_clock_that_was_ahead_does_not_win_for_ever),
        cmocka_unit_test(receiving_advances_no_clock),
        cmocka_unit_test(a_clock_that_is_behind_holds_nobody_back),
        cmocka_unit_test(jumps_during_work_change_nothing_but_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
