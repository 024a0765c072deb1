/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * The agent's side of the shell driver: which commands may run, the job for the runner, waiting for
 * it, what became of a run after a restart.
 *
 * The agent waits for a runner by its pidfd, which works the same for a child and for a runner that
 * an earlier agent started, and needs no SIGCHLD. Whatever ended the wait, the spool alone says
 * what happened (settle()).
 *
 * A run moves waiting -> running -> finished; a resumed one may skip steps. Completions are
 * delivered from an event of their own, never from inside a call of the driver's user.
 */
#include "shell_driver.h"

#include "shell_job.h"
#include "spool.h"

#include "base/boundary.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    RUN_MAGIC = 0x5e115e11,
    /* Runners that gave way to another one for the same run, which then left nothing: something
       else is wrong. */
    ATTEMPTS_MAX = 3,
    LOOKS_MAX = 8, /* at a runner that changes while it is looked at */
};

enum phase { PHASE_NEW, PHASE_WAITING, PHASE_RUNNING, PHASE_FINISHED };

struct shell_driver {
    struct chp_driver driver; /* first: what the user of the driver holds */
    struct event_base *base;
    char *runner;
    char *spool; /* absolute */
    char *shows; /* below it: runs that nobody resumes */
    struct shell_settings *settings;
    struct shell_identity identity;
    struct chp_map *runs; /* by operation and run */
    struct chp_list waiting;
    struct chp_list running;
    struct chp_list finished;
    unsigned running_count;
    struct event *deliver;
    int lock; /* on the spool */
    struct chp_spool_cursor kept;
};

struct shell_run {
    unsigned magic;
    struct chp_list node;
    struct shell_driver *driver;
    enum phase phase;
    struct chp_uuid operation;
    uint32_t run;
    bool is_show;
    bool canceled;
    char *directory;
    struct chp_buf job; /* until the runner has it */
    chp_completion_fn *on_done;
    void *user;
    pid_t pid;     /* of the runner */
    bool is_child; /* to be reaped here */
    int pidfd;
    struct event *exited;
    unsigned attempts;
    /* The result. */
    struct chp_arena arena;
    struct chp_completion completion;
};

static void settle(struct shell_run *run);
static void cancel(struct shell_run *run);
static void launch_waiting(struct shell_driver *driver);

static struct shell_driver *driver_of(struct chp_driver *driver)
{
    return CHP_CONTAINER(driver, struct shell_driver, driver);
}

/* The only place that changes a run's phase. */
static void set_phase(struct shell_run *run, enum phase phase)
{
    static const bool allowed[][PHASE_FINISHED + 1] = {
        [PHASE_NEW] = {[PHASE_WAITING] = true, [PHASE_RUNNING] = true, [PHASE_FINISHED] = true},
        [PHASE_WAITING] = {[PHASE_RUNNING] = true, [PHASE_FINISHED] = true},
        [PHASE_RUNNING] = {[PHASE_WAITING] = true, [PHASE_FINISHED] = true},
        [PHASE_FINISHED] = {[PHASE_NEW] = false},
    };
    struct shell_driver *driver = run->driver;
    CHP_ASSERT(allowed[run->phase][phase]);
    chp_list_remove(&run->node);
    driver->running_count -= run->phase == PHASE_RUNNING ? 1 : 0;
    run->phase = phase;
    switch (phase) {
    case PHASE_NEW:
        break;
    case PHASE_WAITING:
        chp_list_append(&driver->waiting, &run->node);
        break;
    case PHASE_RUNNING:
        chp_list_append(&driver->running, &run->node);
        driver->running_count++;
        break;
    case PHASE_FINISHED:
        chp_list_append(&driver->finished, &run->node);
        event_active(driver->deliver, EV_TIMEOUT, 0);
        break;
    }
}

static void run_free(struct shell_run *run)
{
    uint8_t key[CHP_RUN_KEY_BYTES];
    chp_list_remove(&run->node);
    (void)chp_map_remove(run->driver->runs, chp_run_key(key, &run->operation, run->run));
    if (run->exited != NULL) {
        event_free(run->exited);
    }
    if (run->pidfd >= 0) {
        (void)close(run->pidfd);
    }
    chp_buf_deinit(&run->job);
    chp_arena_deinit(&run->arena);
    free(run->directory);
    run->magic = 0;
    free(run);
}

/* Finishes without a status: reason is copied. */
static void finish(struct shell_run *run, enum chp_state state, const char *reason)
{
    run->completion.state = state;
    run->completion.exit_code = -1;
    run->completion.reason = chp_arena_strdup(&run->arena, reason);
    set_phase(run, PHASE_FINISHED);
}

static void finish_from_status(struct shell_run *run)
{
    struct chp_spool_status status;
    struct chp_error error = {0};
    if (chp_spool_status_read(run->directory, &run->arena, &status, &error) != 0) {
        chp_log_error("unreadable status in the spool", CHP_S("directory", run->directory),
                      CHP_S("reason", error.text));
        finish(
            run, CHP_STATE_IN_DOUBT,
            "the command's status in the spool cannot be read: whether it succeeded is not known");
        return;
    }
    run->completion.state = status.done ? CHP_STATE_DONE : CHP_STATE_FAILED;
    run->completion.exit_code = status.exit_code;
    run->completion.reason = status.reason;
    run->completion.output = status.output;
    run->completion.output_cut = status.output_cut;
    run->completion.started_ms = status.started_ms;
    run->completion.duration_ms = status.duration_ms;
    set_phase(run, PHASE_FINISHED);
}

/* What the runner's own exit says beyond the spool; true when it settles the run. */
static bool settle_by_exit(struct shell_run *run, int wait_status)
{
    char reason[CHP_REASON_MAX_BYTES];
    int code = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : CHP_RUNNER_OK;
    if (code == CHP_RUNNER_OK || code == CHP_RUNNER_TAKEN) {
        return false;
    }
    if (code == CHP_RUNNER_UNWRITTEN) {
        finish(run, CHP_STATE_IN_DOUBT,
               "the command ran but its status could not be written to the spool (disk full?)");
        return true;
    }
    (void)snprintf(reason, sizeof reason, "the runner could not start the command: %s",
                   code == CHP_RUNNER_BAD_JOB ? "it could not read its job" : strerror(code));
    finish(run, CHP_STATE_FAILED, reason);
    return true;
}

/* The runner has ended. */
static void runner_on_exit(evutil_socket_t fd, short what, void *user)
{
    struct shell_run *run = user;
    struct shell_driver *driver = run->driver;
    int wait_status = 0;
    (void)fd;
    (void)what;
    CHP_ASSERT(run->magic == RUN_MAGIC);
    chp_boundary("agent.exited");
    event_free(run->exited);
    run->exited = NULL;
    (void)close(run->pidfd);
    run->pidfd = -1;
    if (!run->is_child || waitpid(run->pid, &wait_status, WNOHANG) != run->pid ||
        !settle_by_exit(run, wait_status)) {
        settle(run);
    }
    launch_waiting(driver);
}

/* Waits for a runner that lives; pidfd is taken. */
static void attach(struct shell_run *run, pid_t pid, int pidfd, bool is_child)
{
    run->pidfd = pidfd;
    run->pid = pid;
    run->is_child = is_child;
    run->exited = event_new(run->driver->base, pidfd, EV_READ, runner_on_exit, run);
    CHP_ASSERT(run->exited != NULL);
    CHP_ASSERT(event_add(run->exited, NULL) == 0);
    if (run->phase != PHASE_RUNNING) {
        set_phase(run, PHASE_RUNNING);
    }
    if (run->canceled) {
        cancel(run);
    }
}

/* The job in memory that a process can read without anybody writing: the runner never waits for the
 * agent. */
static int job_file(const struct chp_buf *job)
{
    int fd = memfd_create("cheops-job", MFD_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    size_t done = 0;
    while (done < job->len) {
        ssize_t written = write(fd, job->data + done, job->len - done);
        if (written <= 0) {
            (void)close(fd);
            return -1;
        }
        done += (size_t)written;
    }
    (void)lseek(fd, 0, SEEK_SET);
    return fd;
}

/* Starts the runner in its own session, with the job as its input and nothing of the agent's. 0 or
 * an errno. */
static int spawn_runner(const struct shell_run *run, int job, pid_t *pid)
{
    char id[CHP_UUID_TEXT_BYTES];
    char number[16];
    chp_uuid_format(&run->operation, id);
    (void)snprintf(number, sizeof number, "%u", run->run);
    /* The arguments are for people who look at the list of processes. */
    char *argv[] = {(char[]){"cheops-runner"}, id, number, NULL};
    char *environment[] = {NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t all;
    sigset_t none;
    (void)sigfillset(&all);
    (void)sigemptyset(&none);
    CHP_ASSERT(posix_spawn_file_actions_init(&actions) == 0);
    CHP_ASSERT(posix_spawnattr_init(&attributes) == 0);
    CHP_ASSERT(posix_spawn_file_actions_adddup2(&actions, job, STDIN_FILENO) == 0);
    CHP_ASSERT(posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_RDWR, 0) ==
               0);
    CHP_ASSERT(posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO) == 0);
    CHP_ASSERT(posix_spawnattr_setsigmask(&attributes, &none) == 0);
    CHP_ASSERT(posix_spawnattr_setsigdefault(&attributes, &all) == 0);
    CHP_ASSERT(posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK |
                                                         POSIX_SPAWN_SETSIGDEF) == 0);
    int result = posix_spawn(pid, run->driver->runner, &actions, &attributes, argv, environment);
    (void)posix_spawnattr_destroy(&attributes);
    (void)posix_spawn_file_actions_destroy(&actions);
    return result;
}

static void launch(struct shell_run *run)
{
    char reason[CHP_REASON_MAX_BYTES];
    pid_t pid = 0;
    int job = job_file(&run->job);
    chp_boundary("agent.spawn");
    int failure = job < 0 ? errno : spawn_runner(run, job, &pid);
    chp_boundary("agent.spawned");
    if (job >= 0) {
        (void)close(job);
    }
    if (failure != 0) {
        (void)snprintf(reason, sizeof reason,
                       "%.300s (option runner in section [shell]) cannot be started: %s",
                       run->driver->runner, strerror(failure));
        finish(run, CHP_STATE_FAILED, reason);
        return;
    }
    run->attempts++;
    run->completion.started_ms = chp_clock_wall_ms();
    int pidfd = pidfd_open(pid, 0);
    if (pidfd < 0) {
        /* The system is out of descriptors (the agent has the job's back): the runner goes on
         * alone. */
        finish(run, CHP_STATE_IN_DOUBT, "the command was started but could not be waited for");
        return;
    }
    attach(run, pid, pidfd, true);
}

static void launch_waiting(struct shell_driver *driver)
{
    struct chp_list *node;
    while (driver->running_count < shell__settings_concurrency(driver->settings) &&
           (node = chp_list_first(&driver->waiting)) != NULL) {
        launch(CHP_CONTAINER(node, struct shell_run, node));
    }
}

/* Opens the runner that holds the run's lock. The number in the lock may be another process's by
 * the time it is used, so the lock is asked again once the process cannot be mistaken any more. */
static enum chp_spool_found look(const struct shell_run *run, pid_t *runner, int *pidfd)
{
    *pidfd = -1;
    enum chp_spool_found found = chp_spool_look(run->directory, runner);
    for (int i = 0; i < LOOKS_MAX && found == CHP_SPOOL_ALIVE; i++) {
        pid_t before = *runner;
        int fd = pidfd_open(before, 0);
        found = chp_spool_look(run->directory, runner);
        if (fd >= 0 && found == CHP_SPOOL_ALIVE && *runner == before) {
            *pidfd = fd;
            return found;
        }
        if (fd >= 0) {
            (void)close(fd);
        }
    }
    return found;
}

/* Decides from the spool what became of the run (design section 4.5), and goes on from there. */
static void settle(struct shell_run *run)
{
    pid_t runner = 0;
    int pidfd = -1;
    switch (look(run, &runner, &pidfd)) {
    case CHP_SPOOL_ENDED:
        finish_from_status(run);
        return;
    case CHP_SPOOL_DOUBT:
        finish(run, CHP_STATE_IN_DOUBT,
               "the command was started, but neither its runner nor its status is there: "
               "whether it ran to its end is not known");
        return;
    case CHP_SPOOL_ALIVE:
        if (pidfd >= 0) {
            attach(run, runner, pidfd, false);
        } else {
            finish(run, CHP_STATE_IN_DOUBT, "the command's runner lives but cannot be waited for");
        }
        return;
    case CHP_SPOOL_NOTHING:
        break;
    }
    if (run->canceled) {
        finish(run, CHP_STATE_FAILED, "canceled");
    } else if (run->attempts >= ATTEMPTS_MAX) {
        finish(run, CHP_STATE_FAILED, "the runner ended without having started the command");
    } else {
        set_phase(run, PHASE_WAITING);
    }
}

static int shell_check(struct chp_driver *base, struct chp_bytes payload,
                       const struct chp_file *files, size_t file_count, struct chp_error *error)
{
    struct chp_arena arena = {0};
    struct chp_command command;
    (void)files;
    (void)file_count;
    int code = shell__command_check(driver_of(base)->settings, payload, &arena, &command, error);
    chp_arena_deinit(&arena);
    return code;
}

static void shell_start(struct chp_driver *base, const struct chp_run *order,
                        chp_completion_fn *on_done, void *user)
{
    struct shell_driver *driver = driver_of(base);
    struct chp_error error = {0};
    uint8_t key[CHP_RUN_KEY_BYTES];
    struct shell_run *run = chp_alloc(sizeof *run);
    run->magic = RUN_MAGIC;
    run->driver = driver;
    run->operation = order->operation;
    run->run = order->run;
    run->is_show = order->is_show;
    run->pidfd = -1;
    run->on_done = on_done;
    run->user = user;
    run->completion = (struct chp_completion){
        .operation = order->operation, .run = order->run, .started_ms = chp_clock_wall_ms()};
    run->directory = chp_spool_directory(order->is_show ? driver->shows : driver->spool,
                                         &order->operation, order->run);
    void *before = chp_map_put(driver->runs, chp_run_key(key, &run->operation, run->run), run);
    CHP_ASSERT(before == NULL); /* one start per run */
    /* A run that was resumed may have been started under another allow-list: what happened counts.
     */
    int code = shell__job_encode(driver->settings, &driver->identity, order, run->directory,
                                 &run->job, &error);
    pid_t runner = 0;
    if (code != 0 &&
        !(order->resume && chp_spool_look(run->directory, &runner) != CHP_SPOOL_NOTHING)) {
        finish(run, code == CHP_EREFUSED ? CHP_STATE_REFUSED : CHP_STATE_FAILED, error.text);
    } else if (order->resume) {
        settle(run);
    } else {
        set_phase(run, PHASE_WAITING);
    }
    launch_waiting(driver);
}

static void cancel(struct shell_run *run)
{
    run->canceled = true;
    switch (run->phase) {
    case PHASE_WAITING:
        finish(run, CHP_STATE_FAILED, "canceled");
        break;
    case PHASE_RUNNING:
        (void)pidfd_send_signal(run->pidfd, SIGTERM, NULL, 0);
        break;
    case PHASE_NEW:
    case PHASE_FINISHED:
        break;
    }
}

static void shell_cancel(struct chp_driver *base, const struct chp_uuid *operation, uint32_t number)
{
    uint8_t key[CHP_RUN_KEY_BYTES];
    struct shell_run *run = chp_map_get(driver_of(base)->runs, chp_run_key(key, operation, number));
    if (run != NULL) {
        cancel(run);
    }
}

static void shell_forget(struct chp_driver *base, const struct chp_uuid *operation, uint32_t number)
{
    char *directory = chp_spool_directory(driver_of(base)->spool, operation, number);
    chp_spool_forget(directory);
    free(directory);
}

static size_t shell_kept(struct chp_driver *base, struct chp_run_id *ids, size_t max)
{
    struct shell_driver *driver = driver_of(base);
    size_t count = 0;
    while (count < max &&
           chp_spool_next(&driver->kept, driver->spool, &ids[count].operation, &ids[count].run)) {
        count++;
    }
    return count;
}

static void driver_on_deliver(evutil_socket_t fd, short what, void *user)
{
    struct shell_driver *driver = user;
    struct chp_list *node;
    (void)fd;
    (void)what;
    while ((node = chp_list_pop(&driver->finished)) != NULL) {
        struct shell_run *run = CHP_CONTAINER(node, struct shell_run, node);
        if (run->is_show) {
            chp_spool_forget(run->directory);
        }
        /* Out of every list before the call, which may come back with another start. */
        uint8_t key[CHP_RUN_KEY_BYTES];
        (void)chp_map_remove(driver->runs, chp_run_key(key, &run->operation, run->run));
        run->on_done(run->user, &run->completion);
        run_free(run);
    }
}

static void free_runs(struct chp_list *list)
{
    struct chp_list *node;
    while ((node = chp_list_pop(list)) != NULL) {
        struct shell_run *run = CHP_CONTAINER(node, struct shell_run, node);
        if (run->is_show) {
            cancel(run);
        }
        run_free(run);
    }
}

static void shell_free(struct chp_driver *base)
{
    struct shell_driver *driver = driver_of(base);
    free_runs(&driver->finished);
    free_runs(&driver->running);
    free_runs(&driver->waiting);
    if (driver->deliver != NULL) {
        event_free(driver->deliver);
    }
    chp_spool_rewind(&driver->kept);
    if (driver->lock >= 0) {
        (void)close(driver->lock);
    }
    chp_map_free(driver->runs);
    shell__settings_free(driver->settings);
    shell__identity_deinit(&driver->identity);
    free(driver->shows);
    free(driver->spool);
    free(driver->runner);
    free(driver);
}

/* An agent that ended took its shows along; what they left is nobody's. */
static void clear_shows(const char *shows)
{
    chp_spool_remove_tree(shows);
    if (mkdir(shows, 0700) != 0 && errno != EEXIST) {
        chp_log_warn("directory for shows not made", CHP_S("directory", shows),
                     CHP_S("reason", strerror(errno)));
    }
}

/* One agent at a time: two would both find a run that nobody has claimed. */
static int take_spool(struct shell_driver *driver, struct chp_error *error)
{
    pid_t holder = 0;
    int code = chp_spool_take(driver->spool, &driver->lock, &holder);
    if (code == CHP_ECONFLICT) {
        return chp_error_set(error, code, "the spool %.200s is in use by another agent, process %d",
                             driver->spool, (int)holder);
    }
    return code == 0 ? 0
                     : chp_error_set(error, code, "the spool %.200s cannot be locked: %s",
                                     driver->spool, strerror(errno));
}

static int open_spool(struct shell_driver *driver, const char *spool, struct chp_error *error)
{
    mode_t mode = driver->identity.switch_user ? 0711 : 0700;
    if ((mkdir(spool, mode) != 0 && errno != EEXIST) || chmod(spool, mode) != 0 ||
        (driver->spool = realpath(spool, NULL)) == NULL) {
        return chp_error_set(error, CHP_EIO, "the spool %.200s cannot be used: %s", spool,
                             strerror(errno));
    }
    int code = take_spool(driver, error);
    if (code != 0) {
        return code;
    }
    struct chp_buf path = {0};
    chp_buf_printf(&path, "%s/shows", driver->spool);
    driver->shows = chp_buf_take(&path);
    clear_shows(driver->shows);
    if (chmod(driver->shows, mode) != 0) {
        return chp_error_set(error, CHP_EIO, "%.200s cannot be used: %s", driver->shows,
                             strerror(errno));
    }
    return 0;
}

struct chp_driver *chp_shell_driver_new(const struct chp_shell_config *config,
                                        struct chp_error *error)
{
    static const struct chp_driver_vtable vtable = {
        .name = "shell",
        .check = shell_check,
        .start = shell_start,
        .cancel = shell_cancel,
        .forget = shell_forget,
        .kept = shell_kept,
        .free = shell_free,
    };
    struct shell_driver *driver = chp_alloc(sizeof *driver);
    uint64_t seed = 0;
    chp_random(&seed, sizeof seed);
    driver->driver.vtable = &vtable;
    driver->base = config->base;
    driver->lock = -1;
    driver->runner = chp_strdup(config->runner);
    driver->runs = chp_map_new(seed);
    chp_list_init(&driver->waiting);
    chp_list_init(&driver->running);
    chp_list_init(&driver->finished);
    driver->deliver = event_new(config->base, -1, 0, driver_on_deliver, driver);
    CHP_ASSERT(driver->deliver != NULL);
    driver->settings = shell__settings_new(config, true, error);
    if (driver->settings == NULL ||
        shell__identity_find(config->user, &driver->identity, error) != 0 ||
        open_spool(driver, config->spool, error) != 0) {
        shell_free(&driver->driver);
        return NULL;
    }
    if (access(driver->runner, X_OK) != 0) {
        chp_log_warn("the runner of commands is not there: no command will run",
                     CHP_S("runner", driver->runner), CHP_S("reason", strerror(errno)));
    }
    return &driver->driver;
}

void chp_shell_driver_reload(struct chp_driver *base, const struct chp_shell_config *config)
{
    struct shell_driver *driver = driver_of(base);
    struct chp_error error = {0};
    struct shell_settings *settings = shell__settings_new(config, false, &error);
    shell__settings_free(driver->settings);
    driver->settings = settings;
    launch_waiting(driver);
}
