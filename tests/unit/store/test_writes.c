/* SPDX-License-Identifier: AGPL-3.0-only */
/* How many rows of each kind a batch sends: a row that is written twice must be there once. */
#include "store/pg_writes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void execution(struct chp_batch *batch, uint8_t operation, const char *site, uint32_t run,
                      enum chp_state state)
{
    struct chp_ack *ack = &chp_batch_write(batch, CHP_WRITE_EXECUTION)->execution.ack;
    ack->operation.bytes[15] = operation;
    ack->resource = "web";
    ack->site = site;
    ack->run = run;
    ack->state = state;
}

static void rows_are_left_once(void **state)
{
    (void)state;
    struct chp_batch batch = {0};
    struct pg_writes writes = {0};
    struct chp_error error = {0};
    for (uint64_t i = 0; i < 3; i++) {
        chp_batch_write(&batch, CHP_WRITE_SELF)->self.site = "Nantes";
        chp_batch_write(&batch, CHP_WRITE_EVENTS_PUBLISHED)->events_published = i;
        chp_batch_write(&batch, CHP_WRITE_PEER)->peer.site = i == 0 ? "Paris" : "Rennes";
        execution(&batch, 1, i == 0 ? "Paris" : "Rennes", (uint32_t)i, CHP_STATE_QUEUED);
        chp_batch_write(&batch, CHP_WRITE_COMPLETED)->completed.operation.bytes[0] = i == 0;
        for (int kind = CHP_WRITE_STREAM_OUT; kind <= CHP_WRITE_STREAM_IN; kind++) {
            struct chp_write *mark = chp_batch_write(&batch, (enum chp_write_kind)kind);
            mark->stream.site = "Paris";
            mark->stream.key = i == 0 ? CHP_KEY_ACK : CHP_KEY_OPERATION;
            mark->stream.mark = 10 - i;
        }
    }
    assert_int_equal(pg__writes_encode(&writes, &batch, &error), 0);
    assert_int_equal(writes.kinds[CHP_WRITE_SELF].row_count, 1);
    assert_int_equal(writes.kinds[CHP_WRITE_EVENTS_PUBLISHED].row_count, 1);
    assert_int_equal(writes.kinds[CHP_WRITE_PEER].row_count, 2);
    assert_int_equal(writes.kinds[CHP_WRITE_EXECUTION].row_count, 2);
    assert_int_equal(writes.kinds[CHP_WRITE_COMPLETED].row_count, 2);
    assert_int_equal(writes.kinds[CHP_WRITE_STREAM_OUT].row_count, 2);
    assert_int_equal(writes.kinds[CHP_WRITE_STREAM_IN].row_count, 2);
    assert_int_equal(writes.kinds[CHP_WRITE_RESOURCE].row_count, 0);
    /* Of the marks 9 and 8 of one stream the higher one is sent, of 2, 1, 0 published the highest.
     */
    const struct chp_buf *marks = &writes.kinds[CHP_WRITE_STREAM_IN].columns[3].elements;
    assert_int_equal(marks->data[marks->len - 1], 9);
    const struct chp_buf *published = &writes.kinds[CHP_WRITE_EVENTS_PUBLISHED].columns[0].elements;
    assert_int_equal(published->data[published->len - 1], 2);
    pg__writes_deinit(&writes);
    chp_batch_deinit(&batch);
}

static void every_kind_has_a_statement(void **state)
{
    (void)state;
    for (size_t kind = 0; kind < PG_WRITE_KIND_COUNT; kind++) {
        assert_non_null(pg__write_statements[kind].name);
        assert_non_null(strstr(pg__write_statements[kind].sql, "unnest("));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_left_once),
        cmocka_unit_test(every_kind_has_a_statement),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
