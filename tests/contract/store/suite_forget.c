/* SPDX-License-Identifier: AGPL-3.0-only */
/* What is forgotten for its age. */
#include "suite.h"

static void forget(struct suite *suite, uint64_t keys_before_ms, uint64_t events_before_ms,
                   struct commit **commit, struct chp_load **load)
{
    *commit = suite_batch(suite);
    chp_batch_write(&(*commit)->batch, CHP_WRITE_FORGET)->forget =
        (struct chp_forget){keys_before_ms, events_before_ms};
    *load = chp_batch_load(&(*commit)->batch, CHP_LOAD_OLDEST);
    assert_int_equal(suite_commit(suite, *commit), 0);
}

static void old_keys_are_forgotten(void **state)
{
    struct suite *suite = *state;
    struct commit *commit = suite_batch(suite);
    struct chp_load *load;
    suite_key(commit, "k", 1, 1000);
    suite_key(commit, "l", 2, 2000);
    suite_key(commit, "m", 3, 3000);
    suite_commit_ok(suite, commit);
    forget(suite, 2000, 0, &commit, &load);
    assert_int_equal(load->oldest.key_ms, 2000);
    assert_true(load->oldest.reply_ms == UINT64_MAX);
    assert_true(load->oldest.event_ms == UINT64_MAX);
    suite_release(commit);
    suite_assert_key(suite, "alice", "k", 0);
    suite_assert_key(suite, "alice", "l", 2);
    suite_assert_key(suite, "alice", "m", 3);
}

/* Events 1 to 5 at these times, published up to a number; then how many are left. */
static uint64_t lowest_event_left(struct suite *suite, uint64_t published, uint64_t before_ms)
{
    static const uint64_t at_ms[] = {1000, 9000, 3000, 4000, 5000}; /* a clock was wrong once */
    struct commit *commit = suite_batch(suite);
    struct chp_load *load;
    for (uint64_t i = 0; i < 5; i++) {
        struct chp_write *write = chp_batch_write(&commit->batch, CHP_WRITE_EVENT);
        write->event.number = i + 1;
        write->event.at_ms = at_ms[i];
        write->event.kind = "site.up";
        write->event.data = "{}";
    }
    chp_batch_write(&commit->batch, CHP_WRITE_EVENTS_PUBLISHED)->events_published = published;
    suite_commit_ok(suite, commit);
    forget(suite, 0, before_ms, &commit, &load);
    uint64_t oldest_ms = load->oldest.event_ms;
    suite_release(commit);
    load = suite_load(suite, &commit, CHP_LOAD_EVENTS, &(struct chp_load){.limit = 10});
    assert_true(load->found);
    uint64_t lowest = load->events.rows[0].number;
    assert_int_equal(load->events.count, 6 - lowest); /* none is missing between */
    assert_int_equal(load->events.rows[load->events.count - 1].number, 5);
    assert_true(oldest_ms == (lowest > published || lowest == 5 ? UINT64_MAX : at_ms[lowest - 1]));
    suite_release(commit);
    return lowest;
}

static void no_event_that_is_not_old_is_forgotten(void **state)
{
    suite_begin(*state, 0);
    assert_int_equal(lowest_event_left(*state, 5, 1000), 1);
}

static void old_events_are_forgotten_from_the_lowest_number_on(void **state)
{
    suite_begin(*state, 0);
    assert_int_equal(lowest_event_left(*state, 5, 4000), 4);
}

static void the_last_event_is_never_forgotten(void **state)
{
    suite_begin(*state, 0);
    assert_int_equal(lowest_event_left(*state, 5, 100000), 5);
}

static void events_that_are_not_published_are_not_forgotten(void **state)
{
    suite_begin(*state, 0);
    assert_int_equal(lowest_event_left(*state, 1, 100000), 2);
}

static void old_replies_are_forgotten(void **state)
{
    struct suite *suite = *state;
    suite_begin(suite, 0);
    struct commit *commit = suite_batch(suite);
    for (uint64_t number = 1; number <= 4; number++) {
        chp_batch_write(&commit->batch, CHP_WRITE_REPLY)->reply =
            (struct chp_reply_row){.number = number,
                                   .operation = suite_uuid(1),
                                   .to = {.reply_to = "q", .correlation_id = ""},
                                   .message_id = "m",
                                   .body = chp_bytes_of("body"),
                                   .at_ms = 1000 * number};
    }
    suite_commit_ok(suite, commit);
    struct chp_load *load;
    forget(suite, 3000, 0, &commit, &load);
    assert_int_equal(load->oldest.reply_ms, 3000);
    suite_release(commit);
    struct chp_load asked = {.limit = 10};
    load = suite_load(suite, &commit, CHP_LOAD_REPLIES, &asked);
    assert_int_equal(load->replies.count, 2);
    assert_int_equal(load->replies.rows[0].number, 3);
    suite_release(commit);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, suite_setup, suite_teardown)

const struct CMUnitTest suite_forget_tests[] = {
    TEST(old_keys_are_forgotten),
    TEST(no_event_that_is_not_old_is_forgotten),
    TEST(old_events_are_forgotten_from_the_lowest_number_on),
    TEST(the_last_event_is_never_forgotten),
    TEST(events_that_are_not_published_are_not_forgotten),
    TEST(old_replies_are_forgotten),
};
const size_t suite_forget_test_count = sizeof suite_forget_tests / sizeof suite_forget_tests[0];
