/* SPDX-License-Identifier: AGPL-3.0-only */
/* From a job to a running command: its directory, its files, its process. */
#include "runner.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static int copy_content(int to, struct chp_bytes content)
{
    while (content.len > 0) {
        ssize_t written = write(to, content.data, content.len);
        if (written <= 0) {
            return -1;
        }
        content = chp_bytes(content.data + written, content.len - (size_t)written);
    }
    return 0;
}

static int copy_stream(int to, int from)
{
    uint8_t buffer[65536];
    ssize_t got = 0;
    while ((got = read(from, buffer, sizeof buffer)) > 0) {
        if (copy_content(to, chp_bytes(buffer, (size_t)got)) != 0) {
            return -1;
        }
    }
    return (int)got;
}

/* A copy, since the command may change its file; one that shares blocks where the file system can.
 */
static int copy_path(int to, const char *path)
{
    int from = open(path, O_RDONLY | O_CLOEXEC);
    if (from < 0) {
        return -1;
    }
    ssize_t copied = 0;
    do {
        copied = copy_file_range(from, NULL, to, NULL, 1 << 24, 0);
    } while (copied > 0);
    int result = (int)copied;
    if (copied < 0 && (errno == EXDEV || errno == EINVAL || errno == ENOSYS)) {
        result = copy_stream(to, from);
    }
    int saved = errno;
    (void)close(from);
    errno = saved;
    return result;
}

static int prepare_file(const struct chp_spool_job *job, int directory,
                        const struct chp_spool_file *file)
{
    /* Executable, since a script may be sent along. */
    int fd =
        openat(directory, file->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0700);
    if (fd < 0) {
        return -1;
    }
    int result = file->path != NULL ? copy_path(fd, file->path) : copy_content(fd, file->content);
    if (result == 0 && job->switch_user) {
        result = fchown(fd, job->uid, job->gid);
    }
    int saved = errno;
    (void)close(fd);
    errno = saved;
    return result;
}

int runner__prepare(const struct chp_spool_job *job, const char *work, struct chp_error *error)
{
    int directory = -1;
    if (mkdir(work, 0700) == 0) {
        directory = open(work, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    }
    if (directory < 0) {
        return chp_error_set(error, CHP_EIO, "the command's directory could not be made: %s",
                             strerror(errno));
    }
    int code = 0;
    for (size_t i = 0; i < job->file_count && code == 0; i++) {
        if (prepare_file(job, directory, &job->files[i]) != 0) {
            code = chp_error_set(error, CHP_EIO, "file '%s' could not be written: %s",
                                 job->files[i].name, strerror(errno));
        }
    }
    if (code == 0 && job->switch_user && fchown(directory, job->uid, job->gid) != 0) {
        code = chp_error_set(error, CHP_EIO, "the command's directory could not be given away: %s",
                             strerror(errno));
    }
    (void)close(directory);
    return code;
}

static int limit(int resource, uint64_t most)
{
    struct rlimit value = {.rlim_cur = most, .rlim_max = most};
    struct rlimit now;
    if (getrlimit((__rlimit_resource_t)resource, &now) == 0 && now.rlim_max < most) {
        return 0; /* stricter already */
    }
    return setrlimit((__rlimit_resource_t)resource, &value);
}

static int set_up(const struct chp_spool_job *job, int output)
{
    sigset_t none;
    (void)sigemptyset(&none);
    /* What the runner ignores would stay ignored in the command; the agent's own were reset before
     * the runner. */
    (void)signal(SIGHUP, SIG_DFL);
    (void)signal(SIGINT, SIG_DFL);
    (void)signal(SIGPIPE, SIG_DFL);
    if (setsid() < 0 || sigprocmask(SIG_SETMASK, &none, NULL) != 0) {
        return -1;
    }
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0 ||
        dup2(output, STDERR_FILENO) < 0) {
        return -1;
    }
    if (limit(RLIMIT_CORE, 0) != 0 ||
        (job->memory_max_bytes > 0 && limit(RLIMIT_AS, job->memory_max_bytes) != 0) ||
        (job->processes_max > 0 && limit(RLIMIT_NPROC, job->processes_max) != 0)) {
        return -1;
    }
    (void)umask(022);
    return 0;
}

static int become_user(const struct chp_spool_job *job)
{
    if (!job->switch_user) {
        return 0;
    }
    return setgroups(job->group_count, job->groups) == 0 &&
                   setresgid(job->gid, job->gid, job->gid) == 0 &&
                   setresuid(job->uid, job->uid, job->uid) == 0
               ? 0
               : -1;
}

/* By its path, not by a descriptor: the paths of files in the command's arguments must work, too.
 */
static int enter(const char *work)
{
    /* A change of user clears this. A command without its runner would go on unwatched, its result
     * lost. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) {
        return -1;
    }
    return chdir(work);
}

_Noreturn void runner__become(const struct chp_spool_job *job, const char *work, pid_t runner,
                              int output, int report)
{
    struct runner_failure failure = {.step = RUNNER_STEP_SET_UP};
    if (set_up(job, output) == 0) {
        failure.step = RUNNER_STEP_USER;
        if (become_user(job) == 0) {
            failure.step = RUNNER_STEP_DIRECTORY;
            if (enter(work) == 0 && getppid() == runner) {
                failure.step = RUNNER_STEP_EXEC;
                environ = (char **)job->environment; /* execvp searches its PATH */
                (void)execvp(job->argv[0], (char **)job->argv);
            }
        }
    }
    failure.number = errno;
    (void)!write(report, &failure, sizeof failure);
    _exit(127);
}
