/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * A driver turns a payload into calls on the local application (design section 7): start, cancel,
 * exactly one completion per start. Deadline, output bound and operation id are part of every call.
 * Files are given as paths of complete local copies that the driver must not change.
 */
#ifndef CHP_PORT_DRIVER_H
#define CHP_PORT_DRIVER_H

#include "wire/payload.h"

#include <string.h>

struct chp_run_file {
    const char *name;
    const char *path; /* of a complete copy, NULL when content is given */
    struct chp_bytes content;
};

/* One run of one operation (or of a show: is_show, which leaves nothing behind and is never
 * resumed). */
struct chp_run {
    struct chp_uuid operation;
    uint32_t run;
    bool is_show;
    bool resume; /* after a restart of the agent: the run may have started, ended, or neither. The
                    driver finds out. */
    const char *site;
    const char *resource;
    const char *type;
    struct chp_bytes payload;
    const struct chp_run_file *files;
    size_t file_count;
    uint64_t deadline_ms; /* duration from start */
};

/* How a run ended. Valid during the call only. */
struct chp_completion {
    struct chp_uuid operation;
    uint32_t run;
    enum chp_state state;    /* done, failed, refused (policy of this site), or in-doubt */
    int32_t exit_code;       /* exit status (128 + signal), HTTP status, or -1 */
    const char *reason;      /* sentence when not done, else NULL */
    struct chp_bytes output; /* at most CHP_OUTPUT_MAX_BYTES */
    bool output_cut;
    uint64_t started_ms; /* wall clock */
    uint64_t duration_ms;
};

/* One run of one operation as a key of a map; the bytes are key's. */
enum { CHP_RUN_KEY_BYTES = CHP_UUID_BYTES + sizeof(uint32_t) };
static inline struct chp_bytes chp_run_key(uint8_t key[CHP_RUN_KEY_BYTES],
                                           const struct chp_uuid *operation, uint32_t run)
{
    memcpy(key, operation->bytes, CHP_UUID_BYTES);
    memcpy(key + CHP_UUID_BYTES, &run, sizeof run);
    return chp_bytes(key, CHP_RUN_KEY_BYTES);
}

struct chp_run_id {
    struct chp_uuid operation;
    uint32_t run;
};

typedef void chp_completion_fn(void *user, const struct chp_completion *completion);

struct chp_driver;

struct chp_driver_vtable {
    const char *name; /* as in payloads' driver: "shell", "http" */
    /* Checks at the door what would be refused anyway: the payload's form, the allow-list, the
     * service. */
    int (*check)(struct chp_driver *driver, struct chp_bytes payload, const struct chp_file *files,
                 size_t file_count, struct chp_error *error);
    /* Copies what it needs of run. on_done is called exactly once, never from inside start. Runs
     * over the driver's concurrency bound wait inside the driver, in order. */
    void (*start)(struct chp_driver *driver, const struct chp_run *run, chp_completion_fn *on_done,
                  void *user);
    /* Ends the run early if it is known; on_done is still called (failed, "canceled"). */
    void (*cancel)(struct chp_driver *driver, const struct chp_uuid *operation, uint32_t run);
    /* The result has been committed: what the driver kept to survive a restart may go. */
    void (*forget)(struct chp_driver *driver, const struct chp_uuid *operation, uint32_t run);
    /* Runs of which something is kept, whether they go on or not, at most max from where the last
     * call stopped; fewer than max: that was all, and the next call begins anew. NULL: a driver
     * that keeps nothing. A crash between commit and forget leaves them. */
    size_t (*kept)(struct chp_driver *driver, struct chp_run_id *ids, size_t max);
    void (*free)(struct chp_driver *driver);
};

struct chp_driver {
    const struct chp_driver_vtable *vtable; /* first member of every implementation */
};

#endif
