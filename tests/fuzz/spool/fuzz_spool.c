/* SPDX-License-Identifier: AGPL-3.0-only */
/* What the shell driver and its runner read of each other: jobs and statuses. What is accepted must
 * encode again, and decode to the same bytes. */
#include "shell/spool.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void job(struct chp_bytes bytes, struct chp_arena *arena)
{
    struct chp_spool_job first;
    struct chp_spool_job second;
    struct chp_buf once = {0};
    struct chp_buf twice = {0};
    struct chp_error error = {0};
    if (chp_spool_job_decode(bytes, arena, &first, &error) == 0) {
        chp_spool_job_encode(&first, &once);
        CHP_ASSERT(chp_spool_job_decode(chp_buf_bytes(&once), arena, &second, &error) == 0);
        chp_spool_job_encode(&second, &twice);
        CHP_ASSERT(chp_bytes_equal(chp_buf_bytes(&once), chp_buf_bytes(&twice)));
    }
    chp_buf_deinit(&once);
    chp_buf_deinit(&twice);
}

static void status(struct chp_bytes bytes, struct chp_arena *arena)
{
    struct chp_spool_status first;
    struct chp_spool_status second;
    struct chp_buf once = {0};
    struct chp_error error = {0};
    if (chp_spool_status_decode(bytes, arena, &first, &error) == 0) {
        chp_spool_status_encode(&first, &once);
        CHP_ASSERT(chp_spool_status_decode(chp_buf_bytes(&once), arena, &second, &error) == 0);
        CHP_ASSERT(chp_bytes_equal(first.output, second.output));
        CHP_ASSERT(first.exit_code == second.exit_code);
    }
    chp_buf_deinit(&once);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct chp_arena arena = {0};
    job(chp_bytes(data, size), &arena);
    status(chp_bytes(data, size), &arena);
    chp_arena_deinit(&arena);
    return 0;
}
