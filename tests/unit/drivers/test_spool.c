/* SPDX-License-Identifier: AGPL-3.0-only */
/* The spool's formats and its handling of directories that commands leave behind. */
#include "shell/spool.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static struct chp_spool_job sample_job(void)
{
    static const char *argv[] = {"sh", "-c", "echo\nhello", "", NULL};
    static const char *environment[] = {"A=1", NULL};
    static gid_t groups[] = {1, 2, 3};
    static struct chp_spool_file files[] = {
        {.name = "a", .path = "/b/c"},
        {.name = "d", .content = {(const uint8_t *)"\0\1\2", 3}},
        {.name = "empty"},
    };
    return (struct chp_spool_job){.directory = "/spool/x/1",
                                  .durable = true,
                                  .parent = 42,
                                  .deadline_ms = 1000,
                                  .memory_max_bytes = 1ULL << 40,
                                  .processes_max = 7,
                                  .switch_user = true,
                                  .uid = 65534,
                                  .gid = 100,
                                  .groups = groups,
                                  .group_count = 3,
                                  .argv = argv,
                                  .argc = 4,
                                  .environment = environment,
                                  .environment_count = 1,
                                  .files = files,
                                  .file_count = 3};
}

static void job_round_trip(void **state)
{
    (void)state;
    struct chp_spool_job job = sample_job();
    struct chp_spool_job back;
    struct chp_buf bytes = {0};
    struct chp_buf again = {0};
    struct chp_arena arena = {0};
    struct chp_error error = {0};
    chp_spool_job_encode(&job, &bytes);
    assert_int_equal(chp_spool_job_decode(chp_buf_bytes(&bytes), &arena, &back, &error), 0);
    assert_int_equal(back.argc, 4);
    assert_string_equal(back.argv[2], "echo\nhello");
    assert_null(back.argv[4]);
    assert_int_equal(back.parent, 42);
    assert_int_equal(back.groups[2], 3);
    assert_string_equal(back.files[0].path, "/b/c");
    assert_null(back.files[1].path);
    chp_spool_job_encode(&back, &again);
    assert_true(chp_bytes_equal(chp_buf_bytes(&bytes), chp_buf_bytes(&again)));
    /* Every shorter one is refused or lacks only whole fields; none is read past its end. */
    size_t refused = 0;
    for (size_t len = 0; len < bytes.len; len++) {
        uint8_t *exact = chp_memdup(bytes.data, len);
        refused += chp_spool_job_decode(chp_bytes(exact, len), &arena, &back, &error) != 0;
        free(exact);
    }
    assert_true(refused > bytes.len / 2);
    chp_arena_deinit(&arena);
    chp_buf_deinit(&bytes);
    chp_buf_deinit(&again);
}

static void job_file_names_stay_inside(void **state)
{
    (void)state;
    static const char *const wrong[] = {"", ".", "..", "../x", "a/b", "/x", ".hidden"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct chp_spool_file file = {.name = wrong[i]};
        struct chp_spool_job job = sample_job();
        struct chp_buf bytes = {0};
        struct chp_arena arena = {0};
        struct chp_error error = {0};
        job.files = &file;
        job.file_count = 1;
        chp_spool_job_encode(&job, &bytes);
        assert_int_equal(chp_spool_job_decode(chp_buf_bytes(&bytes), &arena, &job, &error),
                         CHP_EMALFORMED);
        chp_arena_deinit(&arena);
        chp_buf_deinit(&bytes);
    }
}

static void status_round_trip(void **state)
{
    (void)state;
    struct chp_spool_status status = {.exit_code = -1,
                                      .reason = "because",
                                      .started_ms = 5,
                                      .duration_ms = 6,
                                      .output_cut = true,
                                      .output = chp_bytes("\0out", 4)};
    struct chp_spool_status back;
    struct chp_buf bytes = {0};
    struct chp_arena arena = {0};
    struct chp_error error = {0};
    chp_spool_status_encode(&status, &bytes);
    assert_int_equal(chp_spool_status_decode(chp_buf_bytes(&bytes), &arena, &back, &error), 0);
    assert_int_equal(back.exit_code, -1);
    assert_false(back.done);
    assert_string_equal(back.reason, "because");
    assert_true(back.output_cut);
    assert_true(chp_bytes_equal(back.output, status.output));
    for (size_t len = 0; len < bytes.len; len++) {
        uint8_t *exact = chp_memdup(bytes.data, len);
        assert_int_not_equal(chp_spool_status_decode(chp_bytes(exact, len), &arena, &back, &error),
                             0);
        free(exact);
    }
    chp_arena_deinit(&arena);
    chp_buf_deinit(&bytes);
}

static void claims_are_exclusive(void **state)
{
    (void)state;
    char spool[] = "/tmp/cheops-test-spool-XXXXXX";
    assert_non_null(mkdtemp(spool));
    struct chp_uuid id = chp_uuid_new();
    char *directory = chp_spool_directory(spool, &id, 3);
    pid_t runner = 0;
    int lock = -1;
    assert_int_equal(chp_spool_look(directory, &runner), CHP_SPOOL_NOTHING);
    int ready[2];
    int stop[2];
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(stop), 0);
    pid_t child = fork();
    if (child == 0) {
        char byte = 0;
        (void)close(stop[1]);
        byte = (char)(chp_spool_claim(directory, 0700, true, 0, &lock) == 0 ? 'y' : 'n');
        (void)!write(ready[1], &byte, 1);
        (void)!read(stop[0], &byte, 1);
        _exit(0);
    }
    char byte = 0;
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(byte, 'y');
    assert_int_equal(chp_spool_look(directory, &runner), CHP_SPOOL_ALIVE);
    assert_int_equal(runner, child);
    chp_spool_forget(directory); /* not under a runner that lives */
    assert_int_equal(access(directory, F_OK), 0);
    assert_int_equal(chp_spool_claim(directory, 0700, true, 0, &lock), CHP_ECONFLICT);
    (void)close(stop[1]);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(chp_spool_look(directory, &runner), CHP_SPOOL_DOUBT);
    assert_int_equal(chp_spool_claim(directory, 0700, true, 0, &lock), CHP_ECONFLICT);
    (void)close(lock);
    struct chp_spool_status status = {.done = true};
    assert_int_equal(chp_spool_status_write(directory, &status, true), 0);
    assert_int_equal(chp_spool_look(directory, &runner), CHP_SPOOL_ENDED);
    chp_spool_forget(directory);
    assert_int_equal(chp_spool_look(directory, &runner), CHP_SPOOL_NOTHING);
    assert_int_equal(rmdir(spool), 0); /* nothing is left */
    (void)close(ready[0]);
    (void)close(ready[1]);
    (void)close(stop[0]);
    free(directory);
}

/* Another process that has the spool, as an agent does, until it is killed. */
static pid_t other_agent(const char *spool)
{
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t agent = fork();
    if (agent == 0) {
        int lock = -1;
        pid_t holder = 0;
        char byte = (char)(chp_spool_take(spool, &lock, &holder) == 0 ? 'y' : 'n');
        (void)!write(ready[1], &byte, 1);
        for (;;) {
            (void)pause();
        }
    }
    char byte = 0;
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(byte, 'y');
    (void)close(ready[0]);
    (void)close(ready[1]);
    return agent;
}

static void assert_nothing_of(const char *directory)
{
    char path[CHP_SPOOL_PATH_BYTES];
    assert_int_not_equal(access(directory, F_OK), 0);
    (void)snprintf(path, sizeof path, "%s.lock", directory);
    assert_int_not_equal(access(path, F_OK), 0);
}

static void claims_need_the_agent_that_wanted_them(void **state)
{
    (void)state;
    char spool[] = "/tmp/cheops-test-spool-XXXXXX";
    assert_non_null(mkdtemp(spool));
    struct chp_uuid id = chp_uuid_new();
    char *first = chp_spool_directory(spool, &id, 1);
    char *second = chp_spool_directory(spool, &id, 2);
    pid_t holder = 0;
    int lock = -1;
    pid_t agent = other_agent(spool);
    assert_int_equal(chp_spool_take(spool, &lock, &holder), CHP_ECONFLICT);
    assert_int_equal(holder, agent);
    assert_int_equal(chp_spool_claim(first, 0700, true, agent, &lock), 0);
    (void)close(lock);
    assert_int_equal(kill(agent, SIGKILL), 0);
    assert_int_equal(waitpid(agent, NULL, 0), agent);

    /* Its runner comes too late: another agent may have run and forgotten this by now. */
    assert_int_equal(chp_spool_claim(second, 0700, true, agent, &lock), CHP_ECONFLICT);
    assert_nothing_of(second);
    pid_t next = other_agent(spool);
    assert_int_equal(chp_spool_claim(second, 0700, true, agent, &lock), CHP_ECONFLICT);
    assert_nothing_of(second);
    assert_int_equal(chp_spool_claim(second, 0700, true, next, &lock), 0);
    (void)close(lock);
    assert_int_equal(kill(next, SIGKILL), 0);
    assert_int_equal(waitpid(next, NULL, 0), next);
    assert_int_equal(chp_spool_take(spool, &lock, &holder), 0);
    (void)close(lock);
    free(first);
    free(second);
    chp_spool_remove_tree(spool);
}

static void everything_kept_is_told(void **state)
{
    (void)state;
    char spool[] = "/tmp/cheops-test-spool-XXXXXX";
    char path[128];
    char id[CHP_UUID_TEXT_BYTES];
    struct chp_uuid ids[3] = {chp_uuid_new(), chp_uuid_new(), chp_uuid_new()};
    struct chp_spool_cursor cursor = {0};
    struct chp_uuid operation;
    uint32_t run = 0;
    assert_non_null(mkdtemp(spool));
    assert_false(chp_spool_next(&cursor, spool, &operation, &run));
    for (uint32_t i = 0; i < 4; i++) { /* two runs of the first */
        char *directory = chp_spool_directory(spool, &ids[i / 2], i + 1);
        int lock = -1;
        assert_int_equal(chp_spool_claim(directory, 0700, false, 0, &lock), 0);
        (void)close(lock);
        assert_int_equal(i == 2 ? rmdir(directory) : 0, 0); /* only its lock is left */
        free(directory);
    }
    chp_uuid_format(&ids[2], id);
    (void)snprintf(path, sizeof path, "%s/%s", spool, id);
    assert_int_equal(mkdir(path, 0700), 0);
    (void)snprintf(path, sizeof path, "%s/shows", spool);
    assert_int_equal(mkdir(path, 0700), 0);
    for (int pass = 0; pass < 2; pass++) {
        unsigned told[5] = {0};
        while (chp_spool_next(&cursor, spool, &operation, &run)) {
            assert_in_range(run, 1, 4);
            assert_true(chp_uuid_equal(&operation, &ids[(run - 1) / 2]));
            told[run]++;
        }
        assert_true(told[1] > 0 && told[2] > 0 && told[3] > 0 && told[4] > 0);
    }
    assert_int_equal(access(path, F_OK), 0);
    (void)snprintf(path, sizeof path, "%s/%s", spool, id);
    assert_int_not_equal(access(path, F_OK), 0); /* an empty one goes */
    assert_true(chp_spool_next(&cursor, spool, &operation, &run));
    chp_spool_rewind(&cursor);
    chp_spool_remove_tree(spool);
    assert_false(chp_spool_next(&cursor, spool, &operation, &run));
}

static void removes_any_tree(void **state)
{
    (void)state;
    char top[] = "/tmp/cheops-test-tree-XXXXXX";
    char outside[] = "/tmp/cheops-test-outside-XXXXXX";
    assert_non_null(mkdtemp(top));
    int kept = mkstemp(outside);
    assert_true(kept >= 0);
    int at = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(symlinkat("/tmp", at, "link"), 0);
    assert_int_equal(symlinkat(outside, at, "file"), 0);
    assert_int_equal(mkdirat(at, "moved.1", 0700), 0);
    assert_int_equal(mkdirat(at, "closed", 0700), 0);
    assert_int_equal(mkdirat(at, "closed/in", 0), 0);
    assert_int_equal(fchmodat(at, "closed", 0, 0), 0);
    /* Deeper than PATH_MAX and than a stack of frames would like. */
    int deep = dup(at);
    for (int i = 0; i < 1500; i++) {
        assert_int_equal(mkdirat(deep, "dddd", 0500 | 0200), 0);
        int next = openat(deep, "dddd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(next >= 0);
        (void)close(openat(next, "f", O_CREAT | O_WRONLY | O_CLOEXEC, 0400));
        (void)close(deep);
        deep = next;
    }
    (void)close(deep);
    (void)close(at);
    chp_spool_remove_tree(top);
    assert_int_not_equal(access(top, F_OK), 0);
    assert_int_equal(access(outside, F_OK), 0);
    (void)close(kept);
    (void)unlink(outside);
    chp_spool_remove_tree("/no/such/directory");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(job_round_trip),
        cmocka_unit_test(job_file_names_stay_inside),
        cmocka_unit_test(status_round_trip),
        cmocka_unit_test(claims_are_exclusive),
        cmocka_unit_test(removes_any_tree),
        cmocka_unit_test(claims_need_the_agent_that_wanted_them),
        cmocka_unit_test(everything_kept_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
