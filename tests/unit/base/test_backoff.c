/* SPDX-License-Identifier: AGPL-3.0-only */
#include "base/backoff.h"

#include "unit/base/test_base.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SITES = 20, FIRST_MS = 100, MAX_MS = 5000, WINDOW_MS = 100 };

static void the_bound_doubles_up_to_the_maximum(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct chp_backoff backoff;
        chp_backoff_init(&backoff, 30, FIRST_MS, MAX_MS, seed);
        uint64_t bound_ms = FIRST_MS;
        for (int i = 0; i < 100; i++) {
            uint64_t ms = chp_backoff_next_ms(&backoff);
            assert_in_range(ms, 30, bound_ms);
            bound_ms = bound_ms * 2 > MAX_MS ? MAX_MS : bound_ms * 2;
        }
        chp_backoff_reset(&backoff);
        assert_in_range(chp_backoff_next_ms(&backoff), 30, FIRST_MS);
    }
}

static void the_whole_span_is_used(void **state)
{
    struct chp_backoff backoff;
    unsigned tenths[10] = {0};
    (void)state;
    chp_backoff_init(&backoff, 0, MAX_MS, MAX_MS, 7);
    for (int i = 0; i < 10000; i++) {
        tenths[chp_backoff_next_ms(&backoff) * 10 / (MAX_MS + 1)]++;
    }
    for (int i = 0; i < 10; i++) {
        assert_in_range(tenths[i], 800, 1200);
    }
}

static void extreme_bounds_do_not_overflow(void **state)
{
    struct chp_backoff backoff;
    (void)state;
    chp_backoff_init(&backoff, 0, 1, UINT64_MAX / 2, 1);
    for (int i = 0; i < 1000; i++) {
        assert_true(chp_backoff_next_ms(&backoff) <= UINT64_MAX / 2);
    }
    backoff.attempts = UINT_MAX;
    assert_true(chp_backoff_next_ms(&backoff) <= UINT64_MAX / 2);
    chp_backoff_init(&backoff, 5, 5, 5, 1);
    assert_int_equal(chp_backoff_next_ms(&backoff), 5);
}

static int by_time(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

/* Most attempts that fall into one window, of all after the first second. */
static size_t crowd(uint64_t *times, size_t count)
{
    size_t most = 0;
    qsort(times, count, sizeof *times, by_time);
    for (size_t i = 0, from = 0; i < count; i++) {
        while (times[i] - times[from] > WINDOW_MS) {
            from++;
        }
        if (times[from] > 1000 && i - from + 1 > most) {
            most = i - from + 1;
        }
    }
    return most;
}

/* Twenty sites lose one thing at one moment and try for a minute. Once spread over the longest
 * pause, about one of them comes in each WINDOW_MS; a schedule that synchronises has all twenty in
 * one. */
static void a_storm_of_twenty_does_not_synchronise(void **state)
{
    (void)state;
    for (uint64_t process = 1; process <= 50; process++) {
        uint64_t times[SITES * 1000];
        size_t count = 0;
        uint64_t firsts[SITES];
        for (uint64_t site = 0; site < SITES; site++) {
            struct chp_backoff backoff;
            uint64_t now_ms = 0;
            /* Neighbouring seeds are the worst that could be given. */
            chp_backoff_init(&backoff, 0, FIRST_MS, MAX_MS, process * SITES + site);
            for (int i = 0; now_ms < 60000 && count < SITES * 1000; i++) {
                now_ms += chp_backoff_next_ms(&backoff);
                firsts[site] = i == 0 ? now_ms : firsts[site];
                times[count++] = now_ms;
            }
        }
        assert_true(crowd(times, count) <= SITES / 2);
        qsort(firsts, SITES, sizeof firsts[0], by_time);
        assert_true(firsts[SITES - 1] - firsts[0] > FIRST_MS / 2);
    }
}

static void the_same_seed_is_the_same_schedule(void **state)
{
    struct chp_backoff a;
    struct chp_backoff b;
    struct chp_backoff other;
    unsigned different = 0;
    (void)state;
    chp_backoff_init(&a, 0, FIRST_MS, MAX_MS, 42);
    chp_backoff_init(&b, 0, FIRST_MS, MAX_MS, 42);
    chp_backoff_init(&other, 0, FIRST_MS, MAX_MS, 43);
    for (int i = 0; i < 50; i++) {
        uint64_t ms = chp_backoff_next_ms(&a);
        assert_int_equal(ms, chp_backoff_next_ms(&b));
        different += ms != chp_backoff_next_ms(&other);
    }
    assert_true(different > 40);
}

int run_backoff_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bound_doubles_up_to_the_maximum),
        cmocka_unit_test(the_whole_span_is_used),
        cmocka_unit_test(extreme_bounds_do_not_overflow),
        cmocka_unit_test(a_storm_of_twenty_does_not_synchronise),
        cmocka_unit_test(the_same_seed_is_the_same_schedule),
    };
    return cmocka_run_group_tests_name("backoff", tests, NULL, NULL);
}
