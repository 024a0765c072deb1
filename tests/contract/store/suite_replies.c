/* SPDX-License-Identifier: AGPL-3.0-only */
/* What clients of the AMQP door are told, and who is told. */
#include "suite.h"

#include <stdio.h>

static struct chp_reply_row *add_reply(struct commit *commit, uint64_t number, uint8_t operation,
                                       const char *reply_to)
{
    struct chp_write *write = chp_batch_write(&commit->batch, CHP_WRITE_REPLY);
    write->reply = (struct chp_reply_row){
        .number = number,
        .operation = suite_uuid(operation),
        .to = {.reply_to = reply_to, .correlation_id = ""},
        .message_id = "m",
        .body = chp_bytes_of("body"),
        .at_ms = 1000 * number,
    };
    return &write->reply;
}

static void assert_numbers(const struct chp_load *load, const uint64_t *numbers, size_t count)
{
    assert_int_equal(load->replies.count, count);
    assert_int_equal(load->found, count > 0);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(load->replies.rows[i].number, numbers[i]);
    }
}

static void a_reply_comes_back_whole(void **state)
{
    struct suite *suite = *state;
    struct commit *commit = suite_batch(suite);
    struct chp_reply_row *row = add_reply(commit, 7, 3, "a\"b\\c{},é'");
    row->to.correlation_id = "c-é";
    row->message_id = "m-1";
    row->body = chp_bytes("\x82\x00\xff", 3);
    suite_commit_ok(suite, commit);
    struct chp_load asked = {.limit = 10};
    struct chp_load *load = suite_load(suite, &commit, CHP_LOAD_REPLIES, &asked);
    assert_numbers(load, (uint64_t[]){7}, 1);
    struct chp_uuid third = suite_uuid(3);
    const struct chp_reply_row *got = &load->replies.rows[0];
    assert_true(chp_uuid_equal(&got->operation, &third));
    assert_string_equal(got->to.reply_to, "a\"b\\c{},é'");
    assert_string_equal(got->to.correlation_id, "c-é");
    assert_string_equal(got->message_id, "m-1");
    assert_int_equal(got->body.len, 3);
    assert_memory_equal(got->body.data, "\x82\x00\xff", 3);
    assert_int_equal(got->at_ms, 7000);
    suite_release(commit);
}

static void replies_are_read_in_order_in_pages_but_for_some_queues(void **state)
{
    struct suite *suite = *state;
    struct commit *commit = suite_batch(suite);
    for (uint64_t number = 1; number <= 6; number++) {
        (void)add_reply(commit, 7 - number, 1, number % 3 == 0 ? "odd, \"queue\"" : "q");
    }
    suite_commit_ok(suite, commit);
    struct chp_load asked = {.limit = 3};
    struct chp_load *load = suite_load(suite, &commit, CHP_LOAD_REPLIES, &asked);
    assert_numbers(load, (uint64_t[]){1, 2, 3}, 3);
    suite_release(commit);
    asked.after = 3;
    load = suite_load(suite, &commit, CHP_LOAD_REPLIES, &asked);
    assert_numbers(load, (uint64_t[]){4, 5, 6}, 3);
    suite_release(commit);
    const char *left_out[] = {"x", "odd, \"queue\""};
    asked = (struct chp_load){.after = 1, .limit = 10, .ids = left_out, .id_count = 2};
    load = suite_load(suite, &commit, CHP_LOAD_REPLIES, &asked);
    assert_numbers(load, (uint64_t[]){2, 3, 5, 6}, 4);
    suite_release(commit);
    asked.after = 6;
    load = suite_load(suite, &commit, CHP_LOAD_REPLIES, &asked);
    assert_numbers(load, NULL, 0);
    suite_release(commit);
}

static void replies_that_were_told_are_gone(void **state)
{
    struct suite *suite = *state;
    suite_begin(suite, 0);
    struct commit *commit = suite_batch(suite);
    for (uint64_t number = 1; number <= 4; number++) {
        (void)add_reply(commit, number, 1, "q");
    }
    chp_batch_write(&commit->batch, CHP_WRITE_REPLIED)->replied = 2; /* of the same batch */
    suite_commit_ok(suite, commit);
    commit = suite_batch(suite);
    chp_batch_write(&commit->batch, CHP_WRITE_REPLIED)->replied = 4;
    chp_batch_write(&commit->batch, CHP_WRITE_REPLIED)->replied = 1;
    chp_batch_write(&commit->batch, CHP_WRITE_REPLIED)->replied = 9; /* is not there */
    suite_commit_ok(suite, commit);
    struct chp_load asked = {.limit = 10};
    struct chp_load *load = suite_load(suite, &commit, CHP_LOAD_REPLIES, &asked);
    assert_numbers(load, (uint64_t[]){3}, 1);
    suite_release(commit);
    load = suite_load(suite, &commit, CHP_LOAD_START, NULL);
    assert_int_equal(load->start.reply_last, 3);
    suite_release(commit);
}

static void a_reply_s_number_is_its_own(void **state)
{
    struct suite *suite = *state;
    struct commit *commit = suite_batch(suite);
    (void)add_reply(commit, 1, 1, "q");
    suite_commit_ok(suite, commit);
    const uint64_t numbers[][2] = {{1, 2}, {3, 3}, {0, 4}};
    for (size_t i = 0; i < 3; i++) {
        commit = suite_batch(suite);
        (void)add_reply(commit, numbers[i][0], 1, "q");
        (void)add_reply(commit, numbers[i][1], 1, "q");
        assert_int_equal(suite_commit(suite, commit), CHP_EINVAL);
        suite_release(commit);
    }
}

static void add_listener(struct commit *commit, uint8_t operation, uint64_t place,
                         const char *reply_to)
{
    struct chp_write *write = chp_batch_write(&commit->batch, CHP_WRITE_LISTENER);
    write->listener.operation = suite_uuid(operation);
    write->listener.place = place;
    write->listener.to = (struct chp_listener){.reply_to = reply_to, .correlation_id = "c"};
}

static void the_last_listeners_are_kept(void **state)
{
    struct suite *suite = *state;
    suite_begin(suite, 0);
    struct commit *commit = suite_batch(suite);
    struct chp_bytes item;
    for (uint8_t id = 1; id <= 2; id++) {
        struct chp_operation *operation = suite_make(suite, &(struct wanted){.n = id}, &item);
        struct chp_write *write = chp_batch_write(&commit->batch, CHP_WRITE_OPERATION);
        write->operation.operation = operation;
        write->operation.item = item;
        write->operation.reply_to = id == 1 ? "first" : NULL;
    }
    add_listener(commit, 2, 1, "of the other");
    suite_commit_ok(suite, commit);
    char names[CHP_LISTENERS_MAX + 3][16];
    for (uint64_t place = 1; place <= CHP_LISTENERS_MAX + 2; place++) {
        (void)snprintf(names[place], sizeof names[place], "q%llu", (unsigned long long)place);
        commit = suite_batch(suite);
        add_listener(commit, 1, place, names[place]);
        suite_commit_ok(suite, commit);
    }
    struct chp_load asked = {.operation = suite_uuid(1)};
    struct chp_load *load = suite_load(suite, &commit, CHP_LOAD_OPERATION, &asked);
    assert_int_equal(load->operation_result.listener_count, CHP_LISTENERS_MAX + 1);
    assert_int_equal(load->operation_result.listener_place, CHP_LISTENERS_MAX + 2);
    assert_string_equal(load->operation_result.listeners[0].reply_to, "first");
    assert_string_equal(load->operation_result.listeners[0].correlation_id, "");
    assert_string_equal(load->operation_result.listeners[1].reply_to, "q3");
    assert_string_equal(load->operation_result.listeners[CHP_LISTENERS_MAX].reply_to,
                        names[CHP_LISTENERS_MAX + 2]);
    assert_string_equal(load->operation_result.listeners[1].correlation_id, "c");
    suite_release(commit);
    asked.operation = suite_uuid(2);
    load = suite_load(suite, &commit, CHP_LOAD_OPERATION, &asked);
    assert_int_equal(load->operation_result.listener_count, 1);
    assert_string_equal(load->operation_result.listeners[0].reply_to, "of the other");
    suite_release(commit);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, suite_setup, suite_teardown)

const struct CMUnitTest suite_reply_tests[] = {
    TEST(a_reply_comes_back_whole),
    TEST(replies_are_read_in_order_in_pages_but_for_some_queues),
    TEST(replies_that_were_told_are_gone),
    TEST(a_reply_s_number_is_its_own),
    TEST(the_last_listeners_are_kept),
};
const size_t suite_reply_test_count = sizeof suite_reply_tests / sizeof suite_reply_tests[0];
