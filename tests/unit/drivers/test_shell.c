/* SPDX-License-Identifier: AGPL-3.0-only */
/* The shell driver with the real runner and real commands. */
#include "shell/shell_driver.h"
#include "shell/shell_job.h"
#include "shell/spool.h"

#include "base/clock.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { DEADLINE_MS = 20000, WAIT_MS = 30000 };

struct result {
    unsigned calls;
    enum chp_state state;
    int32_t exit_code;
    char reason[CHP_REASON_MAX_BYTES + 1];
    char output[CHP_OUTPUT_MAX_BYTES + 1];
    size_t output_bytes;
    bool output_cut;
    uint64_t started_ms;
    uint64_t duration_ms;
    unsigned order; /* among all results of the fixture */
};

struct fixture {
    char directory[64];
    char spool[96];
    char runner[512];
    struct event_base *base;
    struct chp_driver *driver;
    struct chp_shell_config config;
    struct chp_buf payload;
    unsigned finished;
    struct result result;
};

static const char *const allow_any[] = {"*"};

static struct chp_driver *new_driver(struct fixture *fixture)
{
    struct chp_error error = {0};
    struct chp_driver *driver = chp_shell_driver_new(&fixture->config, &error);
    assert_string_equal(error.text, "");
    assert_non_null(driver);
    return driver;
}

static int set_up(void **state)
{
    struct fixture *fixture = chp_alloc(sizeof *fixture);
    (void)snprintf(fixture->directory, sizeof fixture->directory, "/tmp/cheops-test-shell-XXXXXX");
    assert_non_null(mkdtemp(fixture->directory));
    (void)snprintf(fixture->spool, sizeof fixture->spool, "%s/spool", fixture->directory);
    const char *binaries = getenv("CHEOPS_BINARY_DIR");
    (void)snprintf(fixture->runner, sizeof fixture->runner, "%s/bin/cheops-runner",
                   binaries == NULL ? "." : binaries);
    fixture->base = event_base_new();
    fixture->config = (struct chp_shell_config){
        .base = fixture->base,
        .runner = fixture->runner,
        .spool = fixture->spool,
        .allow = allow_any,
        .allow_count = 1,
        .concurrency_max = 4,
    };
    fixture->driver = new_driver(fixture);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    if (fixture->driver != NULL) {
        fixture->driver->vtable->free(fixture->driver);
    }
    event_base_free(fixture->base);
    chp_buf_deinit(&fixture->payload);
    chp_spool_remove_tree(fixture->directory);
    assert_int_not_equal(access(fixture->directory, F_OK), 0);
    free(fixture);
    return 0;
}

struct waiting {
    struct fixture *fixture;
    struct result *result;
};

static void on_done(void *user, const struct chp_completion *completion)
{
    struct waiting *waiting = user;
    struct result *result = waiting->result;
    result->calls++;
    result->state = completion->state;
    result->exit_code = completion->exit_code;
    (void)snprintf(result->reason, sizeof result->reason, "%s",
                   completion->reason == NULL ? "" : completion->reason);
    assert_true(completion->output.len <= CHP_OUTPUT_MAX_BYTES);
    if (completion->output.len > 0) {
        memcpy(result->output, completion->output.data, completion->output.len);
    }
    result->output[completion->output.len] = 0;
    result->output_bytes = completion->output.len;
    result->output_cut = completion->output_cut;
    result->started_ms = completion->started_ms;
    result->duration_ms = completion->duration_ms;
    result->order = ++waiting->fixture->finished;
}

/* Turns the loop until the result is there. */
static void wait_for(struct fixture *fixture, const struct result *result)
{
    uint64_t until_ms = chp_clock_mono_ms() + WAIT_MS;
    while (result->calls == 0) {
        struct timeval tick = {.tv_usec = 50000};
        assert_true(chp_clock_mono_ms() < until_ms);
        (void)event_base_loopexit(fixture->base, &tick);
        (void)event_base_loop(fixture->base, EVLOOP_ONCE);
    }
    assert_int_equal(result->calls, 1);
}

/* A run of argv (NULL-terminated) with an id of its own. */
static struct chp_run order(struct fixture *fixture, const char *const *argv)
{
    struct chp_command command = {.argv = (const char **)argv};
    struct chp_error error = {0};
    while (argv[command.argc] != NULL) {
        command.argc++;
    }
    chp_buf_clear(&fixture->payload);
    assert_int_equal(chp_command_encode(&command, &fixture->payload, &error), 0);
    return (struct chp_run){
        .operation = chp_uuid_new(),
        .run = 1,
        .site = "Nantes",
        .resource = "greeting",
        .type = "set",
        .payload = chp_buf_bytes(&fixture->payload),
        .deadline_ms = DEADLINE_MS,
    };
}

static struct result *perform(struct fixture *fixture, const struct chp_run *run)
{
    struct waiting waiting = {.fixture = fixture, .result = &fixture->result};
    fixture->result = (struct result){0};
    fixture->driver->vtable->start(fixture->driver, run, on_done, &waiting);
    assert_int_equal(fixture->result.calls, 0); /* never from inside */
    wait_for(fixture, &fixture->result);
    return &fixture->result;
}

static struct result *shell(struct fixture *fixture, const char *script)
{
    struct chp_run run = order(fixture, (const char *const[]){"sh", "-c", script, NULL});
    return perform(fixture, &run);
}

static bool exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

static char *read_text(const char *path)
{
    char *text = chp_alloc(4096);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        (void)!read(fd, text, 4095);
        (void)close(fd);
    }
    return text;
}

/* Neither gone nor a zombie that nobody has reaped. */
static bool alive(pid_t pid)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    char *text = read_text(path);
    const char *end = strrchr(text, ')');
    bool lives = end != NULL && end[1] == ' ' && end[2] != 'Z';
    free(text);
    return lives;
}

static pid_t read_pid(const char *path)
{
    char *text = read_text(path);
    pid_t pid = (pid_t)strtol(text, NULL, 10);
    free(text);
    return pid;
}

static void wait_for_file(const char *path)
{
    uint64_t until_ms = chp_clock_mono_ms() + WAIT_MS;
    while (!exists(path)) {
        assert_true(chp_clock_mono_ms() < until_ms);
        (void)usleep(2000);
    }
}

static void output_and_status(void **state)
{
    struct fixture *fixture = *state;
    struct result *result = shell(fixture, "echo one; echo two >&2; printf three");
    assert_int_equal(result->state, CHP_STATE_DONE);
    assert_int_equal(result->exit_code, 0);
    assert_string_equal(result->output, "one\ntwo\nthree");
    assert_string_equal(result->reason, "");
    assert_false(result->output_cut);
    assert_true(result->started_ms > 1600000000000);
    assert_true(result->duration_ms < 5000);

    result = shell(fixture, "echo bad; exit 3");
    assert_int_equal(result->state, CHP_STATE_FAILED);
    assert_int_equal(result->exit_code, 3);
    assert_string_equal(result->output, "bad\n");
    assert_string_equal(result->reason, "exited with status 3");

    result = shell(fixture, "exit 137");
    assert_int_equal(result->exit_code, 137);
    assert_string_equal(result->reason, "exited with status 137");

    result = shell(fixture, "kill -9 $$");
    assert_int_equal(result->state, CHP_STATE_FAILED);
    assert_int_equal(result->exit_code, 137);
    assert_non_null(strstr(result->reason, "signal 9"));

    result = shell(fixture, "read line && echo $line || echo nothing to read");
    assert_string_equal(result->output, "nothing to read\n");
}

static void missing_program(void **state)
{
    struct fixture *fixture = *state;
    struct chp_run run = order(fixture, (const char *const[]){"no-such-program", NULL});
    struct result *result = perform(fixture, &run);
    assert_int_equal(result->state, CHP_STATE_FAILED);
    assert_int_equal(result->exit_code, 127);
    assert_non_null(strstr(result->reason, "program 'no-such-program' was not found in PATH (/"));

    run = order(fixture, (const char *const[]){"/no/such/program", NULL});
    result = perform(fixture, &run);
    assert_int_equal(result->exit_code, 127);
    assert_non_null(strstr(result->reason, "does not exist"));

    run = order(fixture, (const char *const[]){"/etc/passwd", NULL});
    result = perform(fixture, &run);
    assert_int_equal(result->exit_code, 126);
    assert_non_null(strstr(result->reason, "cannot be run"));
}

static void output_is_bounded(void **state)
{
    struct fixture *fixture = *state;
    struct result *result = shell(fixture, "head -c 3000000 /dev/zero | tr '\\0' x; echo end");
    assert_int_equal(result->state, CHP_STATE_DONE);
    assert_int_equal(result->output_bytes, CHP_OUTPUT_MAX_BYTES);
    assert_true(result->output_cut);
    assert_int_equal(result->output[0], 'x');

    result = shell(fixture, "head -c 65536 /dev/zero");
    assert_int_equal(result->output_bytes, CHP_OUTPUT_MAX_BYTES);
    assert_false(result->output_cut);
}

static void flood_until_deadline(void **state)
{
    struct fixture *fixture = *state;
    struct chp_run run = order(fixture, (const char *const[]){"yes", NULL});
    run.deadline_ms = 300;
    struct result *result = perform(fixture, &run);
    assert_int_equal(result->state, CHP_STATE_FAILED);
    assert_string_equal(result->reason, "timed out after 300 ms");
    assert_int_equal(result->output_bytes, CHP_OUTPUT_MAX_BYTES);
    assert_true(result->output_cut);
}

/* A command that ignores SIGTERM, a child of its group and one that left its session: all are gone
 * afterwards. */
static void deadline_ends_the_tree(void **state)
{
    struct fixture *fixture = *state;
    char script[512];
    (void)snprintf(
        script, sizeof script,
        "trap '' TERM; cd %s; sleep 600 & echo $! > group; "
        "setsid sh -c 'trap \"\" TERM; echo $$ > session; sleep 600; sleep 600' & "
        "while ! test -s session; do sleep 0.01; done; echo waiting; sleep 600; sleep 600",
        fixture->directory);
    struct chp_run run = order(fixture, (const char *const[]){"sh", "-c", script, NULL});
    run.deadline_ms = 1500;
    struct result *result = perform(fixture, &run);
    assert_int_equal(result->state, CHP_STATE_FAILED);
    assert_string_equal(result->reason, "timed out after 1500 ms");
    assert_int_equal(result->exit_code, 137);
    assert_string_equal(result->output, "waiting\n");
    assert_true(result->duration_ms >= 3500); /* the grace after SIGTERM */
    assert_true(result->duration_ms < 20000);

    char path[128];
    (void)snprintf(path, sizeof path, "%s/group", fixture->directory);
    assert_true(read_pid(path) > 1);
    assert_false(alive(read_pid(path)));
    (void)snprintf(path, sizeof path, "%s/session", fixture->directory);
    assert_true(read_pid(path) > 1);
    assert_false(alive(read_pid(path)));
}

static void deadline_lets_a_command_tidy_up(void **state)
{
    struct fixture *fixture = *state;
    struct chp_run run = order(
        fixture,
        (const char *const[]){"sh", "-c", "trap 'echo tidy; exit 5' TERM; sleep 600 & wait", NULL});
    run.deadline_ms = 1500; /* enough to set the trap on a busy machine */
    struct result *result = perform(fixture, &run);
    assert_string_equal(result->output, "tidy\n");
    assert_int_equal(result->exit_code, 5);
    assert_int_equal(result->state, CHP_STATE_FAILED);
    assert_true(result->duration_ms < 3500); /* not the whole grace */
}

/* Children that hold the output open neither delay the result nor survive it. */
static void left_children_are_ended(void **state)
{
    struct fixture *fixture = *state;
    char script[512];
    (void)snprintf(script, sizeof script,
                   "setsid sh -c 'echo $$ > %s/left; exec sleep 600' & "
                   "while ! test -s %s/left; do sleep 0.01; done; echo over",
                   fixture->directory, fixture->directory);
    struct result *result = shell(fixture, script);
    assert_int_equal(result->state, CHP_STATE_DONE);
    assert_string_equal(result->output, "over\n");
    assert_true(result->duration_ms < 5000);
    char path[128];
    (void)snprintf(path, sizeof path, "%s/left", fixture->directory);
    assert_true(read_pid(path) > 1);
    assert_false(alive(read_pid(path)));
}

static void environment_is_clean(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(setenv("CHP_TEST_SECRET", "of the agent", 1), 0);
    const char *const further[] = {"COLOUR=red", "LANG=fr_FR.UTF-8"};
    fixture->config.path = "/usr/bin:/bin";
    fixture->config.environment = further;
    fixture->config.environment_count = 2;
    chp_shell_driver_reload(fixture->driver, &fixture->config);
    struct chp_run run = order(fixture, (const char *const[]){"env", NULL});
    char id[CHP_UUID_TEXT_BYTES];
    char expected[128];
    chp_uuid_format(&run.operation, id);
    struct result *result = perform(fixture, &run);
    (void)snprintf(expected, sizeof expected, "CHEOPS_OPERATION=%s\n", id);
    assert_non_null(strstr(result->output, expected));
    assert_non_null(strstr(result->output, "PATH=/usr/bin:/bin\n"));
    assert_non_null(strstr(result->output, "CHEOPS_SITE=Nantes\n"));
    assert_non_null(strstr(result->output, "CHEOPS_RESOURCE=greeting\n"));
    assert_non_null(strstr(result->output, "CHEOPS_TYPE=set\n"));
    assert_non_null(strstr(result->output, "HOME=/"));
    assert_non_null(strstr(result->output, "COLOUR=red\n"));
    assert_non_null(strstr(result->output, "LANG=fr_FR.UTF-8\n"));
    assert_null(strstr(result->output, "C.UTF-8"));
    assert_null(strstr(result->output, "SECRET"));
    size_t lines = 0;
    for (const char *at = result->output; (at = strchr(at, '\n')) != NULL; at++) {
        lines++;
    }
    assert_int_equal(lines, 8);

    /* Nothing of the agent is open but the three. */
    int leak = open("/dev/null", O_RDONLY); /* not close-on-exec */
    assert_true(leak >= 0);
    result = shell(fixture, "ls /proc/$$/fd | tr '\\n' ' '; ps -o sid= -p $$ | tr -d ' '; echo $$");
    char *rest = strstr(result->output, "0 1 2 ");
    assert_ptr_equal(rest, result->output);
    char *end = NULL;
    long session = strtol(result->output + 6, &end, 10);
    assert_int_equal(session, strtol(end, NULL, 10)); /* its own session */
    (void)close(leak);
}

static void wrong_environment_is_refused(void **state)
{
    struct fixture *fixture = *state;
    struct chp_error error = {0};
    const char *const wrong[] = {"1=secret"};
    fixture->config.environment = wrong;
    fixture->config.environment_count = 1;
    assert_null(chp_shell_driver_new(&fixture->config, &error));
    assert_int_equal(error.code, CHP_EINVAL);
    assert_non_null(strstr(error.text, "NAME=value"));
    assert_null(strstr(error.text, "secret"));
    const char *const own[] = {"CHEOPS_SITE=Rennes"};
    fixture->config.environment = own;
    assert_null(chp_shell_driver_new(&fixture->config, &error));
    assert_non_null(strstr(error.text, "set by the agent"));
}

static void expected_expansion(const char *argument, const char *expected)
{
    const struct chp_run_file files[] = {{.name = "a.yml"}, {.name = "b"}};
    struct chp_buf out = {0};
    shell__expand(argument, files, 2, "/w", &out);
    assert_string_equal(chp_buf_text(&out), expected);
    chp_buf_deinit(&out);
}

static void braces(void **state)
{
    (void)state;
    expected_expansion("", "");
    expected_expansion("plain", "plain");
    expected_expansion("{a.yml}", "/w/a.yml");
    expected_expansion("-f={a.yml},{b}!", "-f=/w/a.yml,/w/b!");
    expected_expansion("{c}", "{c}");
    expected_expansion("{", "{");
    expected_expansion("{b", "{b");
    expected_expansion("}}", "}}");
    expected_expansion("{{b}", "{b}");
    expected_expansion("{{{b}", "{/w/b");
    expected_expansion("{{{{", "{{");
    expected_expansion("{print $1}", "{print $1}");
    expected_expansion("{\"a\": {\"b\": 1}}", "{\"a\": {\"b\": 1}}");
    expected_expansion("{x{b}}", "{x/w/b}");
    expected_expansion("{}", "{}");
}

static void files_are_copies(void **state)
{
    struct fixture *fixture = *state;
    char original[128];
    (void)snprintf(original, sizeof original, "%s/original", fixture->directory);
    FILE *out = fopen(original, "w");
    assert_non_null(out);
    for (int i = 0; i < 100000; i++) {
        (void)fputs("0123456789", out);
    }
    (void)fclose(out);
    const struct chp_run_file files[] = {
        {.name = "run.sh",
         .content = chp_bytes_of("#!/bin/sh\ncat in.txt; wc -c < \"$1\"; pwd; "
                                 "stat -c %a .; echo changed > big.bin\n"
                                 "mkdir -p d/e/f; ln -s /etc d/etc; chmod 0 d/e\n")},
        {.name = "in.txt", .content = chp_bytes_of("content\n")},
        {.name = "big.bin", .path = original},
    };
    struct chp_run run = order(fixture, (const char *const[]){"{run.sh}", "{big.bin}", NULL});
    run.files = files;
    run.file_count = 3;
    struct result *result = perform(fixture, &run);
    char *directory = chp_spool_directory(fixture->spool, &run.operation, 1);
    char expected[512];
    (void)snprintf(expected, sizeof expected, "content\n1000000\n%s/work\n700\n", directory);
    assert_string_equal(result->output, expected);
    assert_int_equal(result->state, CHP_STATE_DONE);
    struct stat st;
    assert_int_equal(stat(original, &st), 0);
    assert_int_equal(st.st_size, 1000000);
    assert_true(exists("/etc/passwd"));

    char work[512];
    (void)snprintf(work, sizeof work, "%s/work", directory);
    assert_false(exists(work));
    assert_true(exists(directory));
    fixture->driver->vtable->forget(fixture->driver, &run.operation, 1);
    assert_false(exists(directory));
    *strrchr(directory, '/') = 0;
    assert_false(exists(directory)); /* of the operation */
    free(directory);

    const struct chp_run_file missing[] = {{.name = "gone", .path = "/no/such/file"}};
    run = order(fixture, (const char *const[]){"true", NULL});
    run.files = missing;
    run.file_count = 1;
    result = perform(fixture, &run);
    assert_int_equal(result->state, CHP_STATE_FAILED);
    assert_int_equal(result->exit_code, -1);
    assert_non_null(strstr(result->reason, "file 'gone' could not be written"));
}

static int checked(struct fixture *fixture, const char *program, struct chp_error *error)
{
    struct chp_run run = order(fixture, (const char *const[]){program, NULL});
    *error = (struct chp_error){0};
    return fixture->driver->vtable->check(fixture->driver, run.payload, NULL, 0, error);
}

static void allow_list(void **state)
{
    struct fixture *fixture = *state;
    struct chp_error error = {0};
    const char *const allow[] = {"true", "/bin/sh"};
    fixture->config.allow = allow;
    fixture->config.allow_count = 2;
    chp_shell_driver_reload(fixture->driver, &fixture->config);
    assert_int_equal(checked(fixture, "true", &error), 0);
    assert_int_equal(checked(fixture, "/bin/sh", &error), 0);
    assert_int_equal(checked(fixture, "/bin/true", &error), CHP_EREFUSED);
    assert_int_equal(checked(fixture, "sh", &error), CHP_EREFUSED);
    assert_non_null(strstr(error.text, "'sh' is not in the allow-list"));
    assert_non_null(strstr(error.text, "option allow in section [shell]"));

    struct result *result = shell(fixture, "true");
    assert_int_equal(result->state, CHP_STATE_REFUSED);
    assert_int_equal(result->exit_code, -1);
    assert_non_null(strstr(result->reason, "option allow"));

    fixture->config.allow_count = 0;
    chp_shell_driver_reload(fixture->driver, &fixture->config);
    assert_int_equal(checked(fixture, "true", &error), CHP_EREFUSED);
    assert_int_not_equal(
        fixture->driver->vtable->check(fixture->driver, chp_bytes("\xc1", 1), NULL, 0, &error), 0);
}

static void waits_in_order(void **state)
{
    struct fixture *fixture = *state;
    struct result results[6] = {0};
    struct waiting waiting[6];
    fixture->config.concurrency_max = 1;
    chp_shell_driver_reload(fixture->driver, &fixture->config);
    char script[256];
    (void)snprintf(script, sizeof script, "mkdir %s/alone && sleep 0.02 && rmdir %s/alone",
                   fixture->directory, fixture->directory);
    for (int i = 0; i < 6; i++) {
        struct chp_run run = order(fixture, (const char *const[]){"sh", "-c", script, NULL});
        waiting[i] = (struct waiting){.fixture = fixture, .result = &results[i]};
        fixture->driver->vtable->start(fixture->driver, &run, on_done, &waiting[i]);
    }
    for (unsigned i = 0; i < 6; i++) {
        wait_for(fixture, &results[i]);
        assert_int_equal(results[i].state, CHP_STATE_DONE);
        assert_int_equal(results[i].order, i + 1);
    }
}

static void cancel_ends_early(void **state)
{
    struct fixture *fixture = *state;
    struct result results[2] = {0};
    struct waiting waiting[2];
    struct chp_run runs[2];
    fixture->config.concurrency_max = 1;
    chp_shell_driver_reload(fixture->driver, &fixture->config);
    for (int i = 0; i < 2; i++) {
        runs[i] = order(fixture, (const char *const[]){"sleep", "600", NULL});
        waiting[i] = (struct waiting){.fixture = fixture, .result = &results[i]};
        fixture->driver->vtable->start(fixture->driver, &runs[i], on_done, &waiting[i]);
    }
    fixture->driver->vtable->cancel(fixture->driver, &runs[1].operation, 1);
    wait_for(fixture, &results[1]);
    assert_int_equal(results[1].state, CHP_STATE_FAILED);
    assert_string_equal(results[1].reason, "canceled");
    assert_int_equal(results[0].calls, 0);
    fixture->driver->vtable->cancel(fixture->driver, &runs[0].operation, 1);
    fixture->driver->vtable->cancel(fixture->driver, &runs[0].operation, 2); /* unknown */
    wait_for(fixture, &results[0]);
    assert_int_equal(results[0].state, CHP_STATE_FAILED);
    assert_string_equal(results[0].reason, "canceled");
}

static void shows_leave_nothing(void **state)
{
    struct fixture *fixture = *state;
    char path[256];
    char id[CHP_UUID_TEXT_BYTES];
    struct chp_run run = order(fixture, (const char *const[]){"echo", "seen", NULL});
    run.is_show = true;
    struct result *result = perform(fixture, &run);
    assert_int_equal(result->state, CHP_STATE_DONE);
    assert_string_equal(result->output, "seen\n");
    chp_uuid_format(&run.operation, id);
    (void)snprintf(path, sizeof path, "%s/shows/%s", fixture->spool, id);
    assert_false(exists(path));
    (void)snprintf(path, sizeof path, "%s/%s", fixture->spool, id);
    assert_false(exists(path));
}

/* Another process plays an agent that starts run and is killed with -9, its whole process group,
 * once marker exists (NULL: after the run ended; its completion is then never taken). */
static void agent_dies(struct fixture *fixture, const struct chp_run *run, const char *marker)
{
    fixture->driver->vtable->free(fixture->driver); /* a spool is one agent's */
    fixture->driver = NULL;
    pid_t agent = fork();
    assert_true(agent >= 0);
    if (agent == 0) {
        (void)setpgid(0, 0);
        fixture->config.base = event_base_new();
        fixture->driver = new_driver(fixture);
        struct waiting waiting = {.fixture = fixture, .result = &fixture->result};
        fixture->driver->vtable->start(fixture->driver, run, on_done, &waiting);
        if (marker != NULL) {
            (void)event_base_dispatch(fixture->config.base);
        }
        for (;;) {
            (void)pause();
        }
    }
    if (marker != NULL) {
        wait_for_file(marker);
    } else {
        char path[256];
        char *directory = chp_spool_directory(fixture->spool, &run->operation, run->run);
        (void)snprintf(path, sizeof path, "%s/status", directory);
        wait_for_file(path);
        free(directory);
    }
    (void)kill(-agent, SIGKILL);
    assert_int_equal(waitpid(agent, NULL, 0), agent);
    fixture->driver = new_driver(fixture);
}

static void resume_attaches_to_a_living_runner(void **state)
{
    struct fixture *fixture = *state;
    char script[512];
    char marker[128];
    (void)snprintf(marker, sizeof marker, "%s/started", fixture->directory);
    (void)snprintf(
        script, sizeof script,
        "echo once >> %s/runs; echo begin; touch %s; while ! test -e %s/go; do sleep 0.01; "
        "done; echo end",
        fixture->directory, marker, fixture->directory);
    struct chp_run run = order(fixture, (const char *const[]){"sh", "-c", script, NULL});
    agent_dies(fixture, &run, marker);

    run.resume = true;
    struct waiting waiting = {.fixture = fixture, .result = &fixture->result};
    fixture->driver->vtable->start(fixture->driver, &run, on_done, &waiting);
    struct timeval tick = {.tv_usec = 100000};
    (void)event_base_loopexit(fixture->base, &tick);
    (void)event_base_dispatch(fixture->base);
    assert_int_equal(fixture->result.calls, 0); /* still running */
    char go[128];
    (void)snprintf(go, sizeof go, "%s/go", fixture->directory);
    (void)close(open(go, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    wait_for(fixture, &fixture->result);
    assert_int_equal(fixture->result.state, CHP_STATE_DONE);
    assert_string_equal(fixture->result.output, "begin\nend\n");
    (void)snprintf(go, sizeof go, "%s/runs", fixture->directory);
    char *runs = read_text(go);
    assert_string_equal(runs, "once\n");
    free(runs);
}

static void resume_cancels_a_living_runner(void **state)
{
    struct fixture *fixture = *state;
    char script[512];
    char marker[128];
    (void)snprintf(marker, sizeof marker, "%s/started", fixture->directory);
    (void)snprintf(script, sizeof script, "touch %s; exec sleep 600", marker);
    struct chp_run run = order(fixture, (const char *const[]){"sh", "-c", script, NULL});
    agent_dies(fixture, &run, marker);
    run.resume = true;
    struct waiting waiting = {.fixture = fixture, .result = &fixture->result};
    fixture->driver->vtable->start(fixture->driver, &run, on_done, &waiting);
    fixture->driver->vtable->cancel(fixture->driver, &run.operation, run.run);
    wait_for(fixture, &fixture->result);
    assert_string_equal(fixture->result.reason, "canceled");
}

static void resume_takes_a_status(void **state)
{
    struct fixture *fixture = *state;
    struct chp_run run =
        order(fixture, (const char *const[]){"sh", "-c", "echo was here; exit 4", NULL});
    agent_dies(fixture, &run, NULL);
    run.resume = true;
    /* What ran counts, even if it may not run any more. */
    fixture->config.allow_count = 0;
    chp_shell_driver_reload(fixture->driver, &fixture->config);
    struct result *result = perform(fixture, &run);
    assert_int_equal(result->state, CHP_STATE_FAILED);
    assert_int_equal(result->exit_code, 4);
    assert_string_equal(result->output, "was here\n");
}

static void resume_starts_what_was_never_claimed(void **state)
{
    struct fixture *fixture = *state;
    struct chp_run run = order(fixture, (const char *const[]){"echo", "now", NULL});
    run.resume = true;
    struct result *result = perform(fixture, &run);
    assert_int_equal(result->state, CHP_STATE_DONE);
    assert_string_equal(result->output, "now\n");
}

static void resume_without_runner_is_in_doubt(void **state)
{
    struct fixture *fixture = *state;
    struct chp_run run = order(fixture, (const char *const[]){"true", NULL});
    char *directory = chp_spool_directory(fixture->spool, &run.operation, run.run);
    int lock = -1;
    assert_int_equal(chp_spool_claim(directory, 0700, false, 0, &lock), 0);
    (void)close(lock); /* the machine crashed here */
    run.resume = true;
    struct result *result = perform(fixture, &run);
    assert_int_equal(result->state, CHP_STATE_IN_DOUBT);
    assert_int_equal(result->exit_code, -1);
    assert_non_null(strstr(result->reason, "whether it ran to its end is not known"));

    /* And a start that is no resume does not run it again either. */
    run.resume = false;
    result = perform(fixture, &run);
    assert_int_equal(result->state, CHP_STATE_IN_DOUBT);

    /* A status that cannot be read is doubt, too. */
    char path[256];
    (void)snprintf(path, sizeof path, "%s/status", directory);
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, "half", 4), 4);
    (void)close(fd);
    run.resume = true;
    result = perform(fixture, &run);
    assert_int_equal(result->state, CHP_STATE_IN_DOUBT);
    assert_non_null(strstr(result->reason, "cannot be read"));
    free(directory);
}

/* A runner that is slow to claim: its agent dies, another one runs the command and forgets it, and
 * only then does the first runner come. */
static void late_runner_runs_nothing(void **state)
{
    struct fixture *fixture = *state;
    char wrapper[128];
    char marker[128];
    char go[128];
    char script[512];
    const char *runner = fixture->config.runner;
    (void)snprintf(wrapper, sizeof wrapper, "%s/slow-runner", fixture->directory);
    (void)snprintf(marker, sizeof marker, "%s/pid", fixture->directory);
    (void)snprintf(go, sizeof go, "%s/go", fixture->directory);
    FILE *out = fopen(wrapper, "w");
    assert_non_null(out);
    (void)fprintf(out,
                  "#!/bin/sh\nexport PATH=/usr/bin:/bin\necho $$ > %s.new; mv %s.new %s\n"
                  "while ! test -e %s; do sleep 0.01; done\nexec %s\n",
                  marker, marker, marker, go, runner);
    (void)fclose(out);
    assert_int_equal(chmod(wrapper, 0700), 0);
    (void)snprintf(script, sizeof script, "echo once >> %s/runs", fixture->directory);
    struct chp_run run = order(fixture, (const char *const[]){"sh", "-c", script, NULL});
    fixture->config.runner = wrapper;
    agent_dies(fixture, &run, marker);
    pid_t late = read_pid(marker);
    assert_true(alive(late));

    fixture->driver->vtable->free(fixture->driver);
    fixture->config.runner = runner;
    fixture->driver = new_driver(fixture);
    run.resume = true;
    assert_int_equal(perform(fixture, &run)->state, CHP_STATE_DONE);
    fixture->driver->vtable->forget(fixture->driver, &run.operation, run.run);

    (void)close(open(go, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    for (int i = 0; i < WAIT_MS / 2 && alive(late); i++) {
        (void)usleep(2000);
    }
    assert_false(alive(late));
    (void)snprintf(script, sizeof script, "%s/runs", fixture->directory);
    char *runs = read_text(script);
    assert_string_equal(runs, "once\n");
    free(runs);
    struct chp_run_id kept[2]; /* nor does it leave anything */
    assert_int_equal(fixture->driver->vtable->kept(fixture->driver, kept, 2), 0);
}

/* The runner is killed: its command does not go on without it. */
static void killed_runner_is_in_doubt(void **state)
{
    struct fixture *fixture = *state;
    char script[512];
    char marker[128];
    (void)snprintf(marker, sizeof marker, "%s/pids", fixture->directory);
    (void)snprintf(script, sizeof script,
                   "echo $$ > %s/pids.new; mv %s/pids.new %s; exec sleep 600", fixture->directory,
                   fixture->directory, marker);
    struct chp_run run = order(fixture, (const char *const[]){"sh", "-c", script, NULL});
    struct waiting waiting = {.fixture = fixture, .result = &fixture->result};
    fixture->driver->vtable->start(fixture->driver, &run, on_done, &waiting);
    wait_for_file(marker);
    pid_t command = read_pid(marker);
    pid_t runner = 0;
    char *directory = chp_spool_directory(fixture->spool, &run.operation, run.run);
    assert_int_equal(chp_spool_look(directory, &runner), CHP_SPOOL_ALIVE);
    assert_true(runner > 1);
    assert_int_equal(kill(runner, SIGKILL), 0);
    wait_for(fixture, &fixture->result);
    assert_int_equal(fixture->result.state, CHP_STATE_IN_DOUBT);
    for (int i = 0; i < 500 && alive(command); i++) {
        (void)usleep(2000);
    }
    assert_false(alive(command));
    free(directory);
}

static void show_ends_with_its_agent(void **state)
{
    struct fixture *fixture = *state;
    char script[512];
    char marker[128];
    (void)snprintf(marker, sizeof marker, "%s/pids", fixture->directory);
    (void)snprintf(script, sizeof script,
                   "echo $$ > %s/pids.new; mv %s/pids.new %s; exec sleep 600", fixture->directory,
                   fixture->directory, marker);
    struct chp_run run = order(fixture, (const char *const[]){"sh", "-c", script, NULL});
    run.is_show = true;
    agent_dies(fixture, &run, marker);
    pid_t command = read_pid(marker);
    for (int i = 0; i < 1000 && alive(command); i++) {
        (void)usleep(2000);
    }
    assert_false(alive(command));
}

static void missing_runner(void **state)
{
    struct fixture *fixture = *state;
    fixture->driver->vtable->free(fixture->driver);
    fixture->config.runner = "/no/such/cheops-runner";
    fixture->driver = new_driver(fixture);
    struct result *result = shell(fixture, "true");
    assert_int_equal(result->state, CHP_STATE_FAILED);
    assert_non_null(strstr(result->reason, "/no/such/cheops-runner"));
    assert_non_null(strstr(result->reason, "option runner"));
}

static void runs_as_configured_user(void **state)
{
    struct fixture *fixture = *state;
    struct chp_error error = {0};
    fixture->config.user = "no-such-user-here";
    assert_null(chp_shell_driver_new(&fixture->config, &error));
    assert_non_null(strstr(error.text, "option user in section [shell]"));
    if (geteuid() != 0) {
        skip();
    }
    fixture->driver->vtable->free(fixture->driver);
    fixture->config.user = "nobody";
    assert_int_equal(chmod(fixture->directory, 0711), 0);
    fixture->driver = new_driver(fixture);
    const struct chp_run_file files[] = {{.name = "f", .content = chp_bytes_of("mine\n")}};
    struct chp_run run = order(
        fixture,
        (const char *const[]){"sh", "-c", "id -un; id -Gn; cat {f}; echo more >> f; cat f", NULL});
    run.files = files;
    run.file_count = 1;
    struct result *result = perform(fixture, &run);
    assert_string_equal(result->output, "nobody\nnogroup\nmine\nmine\nmore\n");

    assert_int_equal(chmod(fixture->directory, 0700), 0);
    result = shell(fixture, "true");
    assert_int_equal(result->state, CHP_STATE_FAILED);
    assert_non_null(strstr(result->reason, "execute permission"));
}

static void limits_hold(void **state)
{
    struct fixture *fixture = *state;
    fixture->config.memory_max_bytes = 64 * 1024 * 1024;
    chp_shell_driver_reload(fixture->driver, &fixture->config);
    struct result *result =
        shell(fixture,
              "ulimit -v; ulimit -c; head -c 200000000 /dev/zero | tail -c 200000000 > /dev/null");
    assert_non_null(strstr(result->output, "65536\n0\n"));
    assert_int_equal(result->state, CHP_STATE_FAILED);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(output_and_status),
        TEST(missing_program),
        TEST(output_is_bounded),
        TEST(flood_until_deadline),
        TEST(deadline_ends_the_tree),
        TEST(deadline_lets_a_command_tidy_up),
        TEST(left_children_are_ended),
        TEST(environment_is_clean),
        TEST(wrong_environment_is_refused),
        cmocka_unit_test(braces),
        TEST(files_are_copies),
        TEST(allow_list),
        TEST(waits_in_order),
        TEST(cancel_ends_early),
        TEST(shows_leave_nothing),
        TEST(resume_attaches_to_a_living_runner),
        TEST(resume_cancels_a_living_runner),
        TEST(resume_takes_a_status),
        TEST(resume_starts_what_was_never_claimed),
        TEST(resume_without_runner_is_in_doubt),
        TEST(late_runner_runs_nothing),
        TEST(killed_runner_is_in_doubt),
        TEST(show_ends_with_its_agent),
        TEST(missing_runner),
        TEST(runs_as_configured_user),
        TEST(limits_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
