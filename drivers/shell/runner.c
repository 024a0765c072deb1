/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * cheops-runner: runs one command and outlives the agent that started it (design section 4.5).
 *
 * The agent starts it in a session of its own with the job as standard input (a memory file, read
 * at once) and nothing else. It claims the run in the spool, runs the command in a private
 * directory, ends everything that the command leaves behind, writes status and output into the
 * spool and exits, which is what the agent waits for. SIGTERM cancels.
 *
 * Why a process between agent and command: somebody has to wait for the command while no agent
 * runs, and the exit status goes to the parent only. Why it writes one file instead of streaming
 * the output: a result is there whole or not at all, and the output is bounded.
 */
#include "runner.h"

#include "base/boundary.h"
#include "base/clock.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    GRACE_MS = 2000, /* between SIGTERM and SIGKILL */
    GIVE_UP_MS =
        5000, /* for processes that SIGKILL does not end: stuck in the kernel, or another user's */
    SWEEP_MS = 20,   /* between two sweeps over what was left behind */
    LAST_READS = 32, /* of 64 KiB: more than a pipe can hold */
    NOT_STARTED = -1,
    NOT_EXECUTABLE = 126, /* as shells say it */
    NOT_FOUND = 127,
};

enum phase { PHASE_RUNNING, PHASE_ENDING, PHASE_KILLING };

struct runner {
    struct chp_arena arena;
    struct chp_spool_job job;
    char work[CHP_SPOOL_PATH_BYTES];
    int lock;
    int signals; /* signalfd */
    int output;  /* read ends; -1 when closed */
    int report;
    pid_t command;
    enum phase phase;
    uint64_t phase_until_ms; /* monotonic */
    bool canceled;
    bool timed_out;
    bool exited;
    int wait_status;
    bool failed_to_start;
    struct runner_failure failure;
    struct chp_buf captured;
    bool cut;
    struct chp_error error; /* of what went wrong before the command started */
    uint64_t started_ms;
    uint64_t started_mono_ms;
};

static int read_job(struct runner *runner)
{
    struct stat st;
    if (fstat(STDIN_FILENO, &st) != 0 || st.st_size <= 0 || st.st_size > CHP_SPOOL_JOB_MAX_BYTES) {
        return CHP_EMALFORMED;
    }
    size_t len = (size_t)st.st_size;
    uint8_t *data = chp_arena_alloc(&runner->arena, len);
    size_t done = 0;
    while (done < len) {
        ssize_t got = read(STDIN_FILENO, data + done, len - done);
        if (got <= 0) {
            return CHP_EMALFORMED;
        }
        done += (size_t)got;
    }
    int code = chp_spool_job_decode(chp_bytes(data, len), &runner->arena, &runner->job, NULL);
    if (code == 0 && snprintf(runner->work, sizeof runner->work, "%s/work",
                              runner->job.directory) >= (int)sizeof runner->work) {
        code = CHP_ETOOBIG;
    }
    return code;
}

/* From here on the agent may go: nothing of it is kept open, no signal of its group or terminal
 * comes. */
static int detach(struct runner *runner)
{
    sigset_t handled;
    (void)sigemptyset(&handled);
    (void)sigaddset(&handled, SIGCHLD);
    (void)sigaddset(&handled, SIGTERM);
    (void)signal(SIGHUP, SIG_IGN);
    (void)signal(SIGINT, SIG_IGN);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)umask(0);
    if (close_range(3, ~0U, 0) != 0 || sigprocmask(SIG_BLOCK, &handled, NULL) != 0 ||
        prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) {
        return -1;
    }
    if (runner->job.parent != 0 &&
        (prctl(PR_SET_PDEATHSIG, SIGTERM) != 0 || getppid() != runner->job.parent)) {
        errno = ESRCH;
        return -1;
    }
    runner->signals = signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK);
    return runner->signals < 0 ? -1 : 0;
}

static int start(struct runner *runner)
{
    int output[2];
    int report[2];
    pid_t self = getpid();
    runner->started_ms = chp_clock_wall_ms();
    runner->started_mono_ms = chp_clock_mono_ms();
    if (runner__prepare(&runner->job, runner->work, &runner->error) != 0) {
        return -1;
    }
    if (pipe2(output, O_CLOEXEC) != 0 || pipe2(report, O_CLOEXEC) != 0 ||
        fcntl(output[0], F_SETFL, O_NONBLOCK) != 0 || (runner->command = fork()) < 0) {
        return chp_error_set(&runner->error, CHP_EIO, "no process could be started: %s",
                             strerror(errno));
    }
    if (runner->command == 0) {
        runner__become(&runner->job, runner->work, self, output[1], report[1]);
    }
    (void)close(output[1]);
    (void)close(report[1]);
    runner->output = output[0];
    runner->report = report[0];
    runner->phase_until_ms = runner->started_mono_ms + runner->job.deadline_ms;
    return 0;
}

static void close_end(int *fd)
{
    (void)close(*fd);
    *fd = -1;
}

/* Takes what is in the pipe now: keeps the beginning, drops the rest, so that the command never
 * waits. false: not more at present. */
static bool take_output(struct runner *runner)
{
    uint8_t buffer[65536];
    ssize_t got = read(runner->output, buffer, sizeof buffer);
    if (got <= 0) {
        if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
            close_end(&runner->output);
        }
        return false;
    }
    size_t room = CHP_OUTPUT_MAX_BYTES - runner->captured.len;
    size_t kept = (size_t)got < room ? (size_t)got : room;
    chp_buf_add(&runner->captured, buffer, kept);
    runner->cut = runner->cut || kept < (size_t)got;
    return true;
}

static void take_report(struct runner *runner)
{
    ssize_t got = read(runner->report, &runner->failure, sizeof runner->failure);
    runner->failed_to_start = got == (ssize_t)sizeof runner->failure;
    close_end(&runner->report);
}

/* false: no child is left, and so no descendant, since orphans become children. */
static bool reap(struct runner *runner)
{
    int status = 0;
    pid_t pid = 0;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == runner->command) {
            runner->exited = true;
            runner->wait_status = status;
        }
    }
    return pid == 0;
}

static void begin_ending(struct runner *runner, uint64_t now_ms)
{
    if (runner->phase == PHASE_RUNNING) {
        runner->phase = PHASE_ENDING;
        runner->phase_until_ms = now_ms + GRACE_MS;
        runner__signal_tree(SIGTERM);
    }
}

static void take_signals(struct runner *runner)
{
    struct signalfd_siginfo info;
    while (read(runner->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGTERM && runner->phase == PHASE_RUNNING) {
            runner->canceled = true;
            begin_ending(runner, chp_clock_mono_ms());
        }
    }
    (void)reap(runner);
}

/* The phase's time is over. false: nothing more can be done. */
static bool next_phase(struct runner *runner, uint64_t now_ms)
{
    switch (runner->phase) {
    case PHASE_RUNNING:
        runner->timed_out = true;
        begin_ending(runner, now_ms);
        return true;
    case PHASE_ENDING:
        runner->phase = PHASE_KILLING;
        runner->phase_until_ms = now_ms + GIVE_UP_MS;
        runner__signal_tree(SIGKILL);
        return true;
    case PHASE_KILLING:
        break;
    }
    return false;
}

/* Until the command has exited, or cannot be ended. */
static void supervise(struct runner *runner)
{
    while (!runner->exited) {
        uint64_t now_ms = chp_clock_mono_ms();
        if (now_ms >= runner->phase_until_ms && !next_phase(runner, now_ms)) {
            return;
        }
        struct pollfd ends[] = {{.fd = runner->signals, .events = POLLIN},
                                {.fd = runner->output, .events = POLLIN},
                                {.fd = runner->report, .events = POLLIN}};
        int64_t left_ms = (int64_t)(runner->phase_until_ms - now_ms);
        (void)poll(ends, 3, left_ms > 3600000 ? 3600000 : left_ms < 0 ? 0 : (int)left_ms);
        if (ends[2].revents != 0) {
            take_report(runner);
        }
        if (ends[1].revents != 0) {
            (void)take_output(runner);
        }
        if (ends[0].revents != 0) {
            take_signals(runner);
        }
    }
}

/* Ends what the command left behind, at once: the result waits for it. false when something does
 * not end. */
static bool sweep(struct runner *runner)
{
    uint64_t until_ms = chp_clock_mono_ms() + GIVE_UP_MS;
    while (reap(runner)) {
        if (chp_clock_mono_ms() >= until_ms) {
            return false;
        }
        runner__signal_tree(SIGKILL);
        struct pollfd end = {.fd = runner->signals, .events = POLLIN};
        (void)poll(&end, 1, SWEEP_MS);
        take_signals(runner);
    }
    return true;
}

static int32_t exit_code(const struct runner *runner)
{
    if (!runner->exited) {
        return NOT_STARTED;
    }
    if (runner->failed_to_start) {
        return runner->failure.step != RUNNER_STEP_EXEC ? NOT_STARTED
               : runner->failure.number == ENOENT       ? NOT_FOUND
                                                        : NOT_EXECUTABLE;
    }
    return WIFSIGNALED(runner->wait_status) ? 128 + WTERMSIG(runner->wait_status)
                                            : WEXITSTATUS(runner->wait_status);
}

static const char *path_of(const struct chp_spool_job *job)
{
    for (size_t i = 0; i < job->environment_count; i++) {
        if (strncmp(job->environment[i], "PATH=", 5) == 0) {
            return job->environment[i] + 5;
        }
    }
    return "";
}

static void explain_failure(const struct runner *runner, struct chp_buf *reason)
{
    const char *program = runner->job.argv[0];
    const char *why = strerror(runner->failure.number);
    switch (runner->failure.step) {
    case RUNNER_STEP_SET_UP:
        chp_buf_printf(reason, "the command could not be set up: %s", why);
        return;
    case RUNNER_STEP_USER:
        chp_buf_printf(reason, "the command could not become user %u: %s",
                       (unsigned)runner->job.uid, why);
        return;
    case RUNNER_STEP_DIRECTORY:
        chp_buf_printf(reason,
                       "the command's directory %s cannot be entered (%s): the user that commands "
                       "run as needs execute permission on every directory above it",
                       runner->work, why);
        return;
    case RUNNER_STEP_EXEC:
        break;
    }
    if (runner->failure.number != ENOENT) {
        chp_buf_printf(reason, "program '%.100s' cannot be run: %s", program, why);
    } else if (strchr(program, '/') != NULL) {
        chp_buf_printf(reason, "program '%.100s' (or its interpreter) does not exist", program);
    } else {
        chp_buf_printf(reason, "program '%.100s' was not found in PATH (%.200s)", program,
                       path_of(&runner->job));
    }
}

/* Appends the sentence that says why the run is not done; nothing when it is. */
static void explain(const struct runner *runner, bool started, bool swept, struct chp_buf *reason)
{
    if (!started) {
        chp_buf_add_text(reason, runner->error.text);
    } else if (runner->canceled) {
        chp_buf_add_text(reason, "canceled");
    } else if (runner->timed_out) {
        chp_buf_printf(reason, "timed out after %llu ms",
                       (unsigned long long)runner->job.deadline_ms);
    } else if (runner->failed_to_start) {
        explain_failure(runner, reason);
    } else if (WIFSIGNALED(runner->wait_status)) {
        chp_buf_printf(reason, "ended by signal %d (%s)", WTERMSIG(runner->wait_status),
                       strsignal(WTERMSIG(runner->wait_status)));
    } else if (WEXITSTATUS(runner->wait_status) != 0) {
        chp_buf_printf(reason, "exited with status %d", WEXITSTATUS(runner->wait_status));
    }
    if (started && !swept) {
        chp_buf_add_text(reason, reason->len > 0 ? "; " : "");
        chp_buf_add_text(reason, "some of its processes could not be ended");
    }
}

static int write_status(struct runner *runner, bool started, bool swept)
{
    struct chp_buf reason = {0};
    struct chp_buf text = {0};
    explain(runner, started, swept, &reason);
    chp_buf_add_utf8_lossy(&text, reason.data, reason.len < 400 ? reason.len : 400);
    if (text.len > CHP_REASON_MAX_BYTES) {
        text.len = 0;
        chp_buf_add_text(&text, "failed for a reason that cannot be written");
    }
    struct chp_spool_status status = {
        .done = text.len == 0,
        .exit_code = exit_code(runner),
        .reason = text.len == 0 ? NULL : chp_buf_text(&text),
        .started_ms = runner->started_ms,
        .duration_ms = chp_clock_mono_ms() - runner->started_mono_ms,
        .output_cut = runner->cut,
        .output = chp_buf_bytes(&runner->captured),
    };
    int code = chp_spool_status_write(runner->job.directory, &status, runner->job.durable);
    if (code != 0 && status.output.len > 0) {
        /* A full disk may still take the exit code. */
        status.output = chp_bytes(NULL, 0);
        status.output_cut = true;
        code = chp_spool_status_write(runner->job.directory, &status, runner->job.durable);
    }
    chp_buf_deinit(&reason);
    chp_buf_deinit(&text);
    return code;
}

static enum chp_runner_exit run(struct runner *runner)
{
    chp_boundary("runner.durable");
    bool started = start(runner) == 0;
    bool swept = true;
    if (started) {
        chp_boundary("runner.started");
        supervise(runner);
        chp_boundary("runner.exited");
        swept = sweep(runner);
        if (runner->exited && runner->report >= 0) {
            take_report(runner);
        }
        /* Bounded, should a process that could not be ended go on writing. */
        for (int i = 0; i < LAST_READS && runner->output >= 0 && take_output(runner); i++) {
        }
    }
    chp_boundary("runner.swept");
    int code = write_status(runner, started, swept);
    chp_boundary("runner.answered");
    chp_spool_remove_tree(runner->work);
    chp_boundary("runner.tidied");
    return code == 0 ? CHP_RUNNER_OK : CHP_RUNNER_UNWRITTEN;
}

/* Never CHP_RUNNER_OK. */
static int exit_of_errno(void)
{
    return errno > 0 && errno < CHP_RUNNER_TAKEN ? errno : EIO;
}

static int claim_and_run(struct runner *runner)
{
    if (read_job(runner) != 0) {
        return CHP_RUNNER_BAD_JOB;
    }
    if (detach(runner) != 0) {
        return exit_of_errno();
    }
    /* The command's user must be able to pass through to its own directory. */
    mode_t mode = runner->job.switch_user ? 0711 : 0700;
    chp_boundary("runner.detached");
    int code = chp_spool_claim(runner->job.directory, mode, runner->job.durable, runner->job.agent,
                               &runner->lock);
    if (code != 0) {
        return code == CHP_ECONFLICT ? CHP_RUNNER_TAKEN : exit_of_errno();
    }
    return (int)run(runner);
}

int main(void)
{
    struct runner runner = {.signals = -1, .output = -1, .report = -1};
    int result = claim_and_run(&runner);
    chp_buf_deinit(&runner.captured);
    chp_arena_deinit(&runner.arena);
    return result;
}
