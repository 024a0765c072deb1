/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * The spool: what the shell driver and its runner know of each other (design section 4.5, README.md
 * here).
 *
 * A run has one directory, <spool>/<operation>/<run>. Creating it is the claim; `status` in it is
 * the result; the lock beside it, <run>.lock, is held by the runner for as long as it lives. The
 * lock is a POSIX record lock rather than flock(): it can be asked about without taking it, and the
 * kernel names the holder, which is what an agent that came back needs to wait for it.
 *
 * The agent holds such a lock on the whole spool, agent.lock: one agent at a time, and a runner
 * that was started by an agent that is gone since claims nothing (chp_spool_claim).
 *
 * Jobs and statuses are a magic line and fields of tag (1 byte), length (4 bytes, little endian),
 * value. Both sides come from one build of one machine, so there is one version and no skipping of
 * what is unknown.
 */
#ifndef CHP_SHELL_SPOOL_H
#define CHP_SHELL_SPOOL_H

#include "base/arena.h"
#include "base/limits.h"
#include "base/uuid.h"

#include <dirent.h>
#include <sys/types.h>

enum {
    CHP_SPOOL_PATH_BYTES = 4096,
    /* A payload of 64 KiB whose every three bytes are a file's name in braces grows by about fifty
       times. */
    CHP_SPOOL_JOB_MAX_BYTES = 16 * 1024 * 1024,
    CHP_SPOOL_STATUS_MAX_BYTES = CHP_OUTPUT_MAX_BYTES + 4096,
    CHP_SPOOL_LIST_MAX = 4096, /* of one kind: arguments, variables, files, groups */
};

/* Exit codes of cheops-runner; any other one is the errno that kept it from claiming the run. */
enum chp_runner_exit {
    CHP_RUNNER_OK = 0,          /* the status is in the spool */
    CHP_RUNNER_TAKEN = 200,     /* another runner has or had this run */
    CHP_RUNNER_UNWRITTEN = 201, /* the command ran, the status could not be written */
    CHP_RUNNER_BAD_JOB = 202,
};

struct chp_spool_file {
    const char *name;
    const char *path; /* to copy from; NULL: content */
    struct chp_bytes content;
};

/* All that a runner needs: it asks nobody after it has read this. */
struct chp_spool_job {
    const char *directory;     /* of the run, absolute */
    bool durable;              /* claim and status survive a crash of the machine */
    pid_t parent;              /* the run ends when this process does; 0: it outlives it */
    pid_t agent;               /* must have the spool when the run is claimed; 0: nobody needs to */
    uint64_t deadline_ms;      /* duration */
    uint64_t memory_max_bytes; /* 0: no limit, as the next */
    uint64_t processes_max;
    bool switch_user; /* to uid, gid and groups */
    uid_t uid;
    gid_t gid;
    gid_t *groups;
    size_t group_count;
    const char **argv; /* NULL-terminated behind argc, at least one */
    size_t argc;
    const char **environment; /* NULL-terminated behind environment_count */
    size_t environment_count;
    struct chp_spool_file *files;
    size_t file_count;
};

struct chp_spool_status {
    bool done;           /* the command exited with 0 within its deadline */
    int32_t exit_code;   /* 128 + signal; -1: it never started */
    const char *reason;  /* sentence, NULL when done */
    uint64_t started_ms; /* wall clock */
    uint64_t duration_ms;
    bool output_cut;
    struct chp_bytes output;
};

void chp_spool_job_encode(const struct chp_spool_job *job, struct chp_buf *out);
/* Borrows from bytes and arena. CHP_EMALFORMED or CHP_ETOOBIG. */
int chp_spool_job_decode(struct chp_bytes bytes, struct chp_arena *arena, struct chp_spool_job *job,
                         struct chp_error *error) CHP_MUST_CHECK;
void chp_spool_status_encode(const struct chp_spool_status *status, struct chp_buf *out);
int chp_spool_status_decode(struct chp_bytes bytes, struct chp_arena *arena,
                            struct chp_spool_status *status,
                            struct chp_error *error) CHP_MUST_CHECK;

/* <spool>/<operation>/<run>; released with free(). */
char *chp_spool_directory(const char *spool, const struct chp_uuid *operation, uint32_t run);

enum chp_spool_found {
    CHP_SPOOL_NOTHING, /* never claimed */
    CHP_SPOOL_ALIVE,   /* a runner has it */
    CHP_SPOOL_ENDED,   /* its status is there */
    CHP_SPOOL_DOUBT,   /* claimed, no status, no runner: only a crash leaves this */
};

/* What became of a run. runner: the process, when alive. */
enum chp_spool_found chp_spool_look(const char *directory, pid_t *runner);

/* Takes the spool for this process, an agent: *lock is a descriptor, which is closed to give it
 * back. 0, CHP_ECONFLICT with the agent that has it, or CHP_EIO with errno. */
int chp_spool_take(const char *spool, int *lock, pid_t *holder) CHP_MUST_CHECK;

/* Takes the run's lock (held until the process ends; *lock is its descriptor) and creates the
 * directory, which must not exist. mode is that of the directories made. 0, CHP_ECONFLICT when
 * somebody else has or had the run, or CHP_EIO with errno.
 * agent, unless 0, must have the spool once the claim is there, else the claim is taken back
 * (CHP_ECONFLICT): an agent that came after it may have found nothing, started another runner, and
 * forgotten the run by now. As long as it has the spool, nobody else looks. */
int chp_spool_claim(const char *directory, mode_t mode, bool durable, pid_t agent,
                    int *lock) CHP_MUST_CHECK;

/* Writes the status so that it is there whole or not at all. 0, or CHP_EIO with errno. */
int chp_spool_status_write(const char *directory, const struct chp_spool_status *status,
                           bool durable) CHP_MUST_CHECK;
/* Borrows from arena. CHP_EIO, CHP_EMALFORMED or CHP_ETOOBIG. */
int chp_spool_status_read(const char *directory, struct chp_arena *arena,
                          struct chp_spool_status *status, struct chp_error *error) CHP_MUST_CHECK;

/* Removes a directory with everything below it, never following a link; what cannot be removed
 * stays. */
void chp_spool_remove_tree(const char *directory);
/* Removes all of a run, unless its runner lives. */
void chp_spool_forget(const char *directory);

/* Goes over the runs in a spool, whatever is there of them. Zeroed: at the beginning. */
struct chp_spool_cursor {
    DIR *spool;
    DIR *operation; /* or NULL: the next one */
    struct chp_uuid id;
};

/* The next run, possibly told twice. false at the end, or when the spool cannot be read; the cursor
 * is then at the beginning again. */
bool chp_spool_next(struct chp_spool_cursor *cursor, const char *spool, struct chp_uuid *operation,
                    uint32_t *run);
/* Back to the beginning, holding nothing open. */
void chp_spool_rewind(struct chp_spool_cursor *cursor);

#endif
