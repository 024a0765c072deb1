/* SPDX-License-Identifier: AGPL-3.0-only */
/* The shell driver (design sections 4.5 and 7): commands under a runner that outlives the agent. */
#ifndef CHP_SHELL_DRIVER_H
#define CHP_SHELL_DRIVER_H

#include "port/driver.h"

#include <event2/event.h>

/* Copied by whoever takes it. */
struct chp_shell_config {
    struct event_base *base;
    const char *runner; /* path of cheops-runner */
    const char *spool;  /* directory, made if absent, mode 0700 (0711 when user is another one) */
    const char *const *allow; /* argv[0] as given, or "*" for any; empty: nothing runs */
    size_t allow_count;
    const char *user;               /* run as; NULL: as the agent does */
    const char *path;               /* PATH of commands; NULL: the system's usual one */
    const char *const *environment; /* further NAME=value */
    size_t environment_count;
    unsigned concurrency_max;  /* at least 1; shows and operations together */
    uint64_t memory_max_bytes; /* RLIMIT_AS of a command; 0: none */
    unsigned processes_max;    /* RLIMIT_NPROC, counted over all processes of its user; 0: none */
};

/* NULL with *error (may not be NULL) when the spool cannot be used, the user is unknown or cannot
 * be taken, or an environment entry is not NAME=value. Freeing the driver leaves running commands
 * alone; their results are found by `resume` later. Shows end with it. */
struct chp_driver *chp_shell_driver_new(const struct chp_shell_config *config,
                                        struct chp_error *error);
/* Replaces allow, path, environment, the limits and concurrency_max for runs that start from now on
 * (SIGHUP). What is wrong in environment is left out with a log line. */
void chp_shell_driver_reload(struct chp_driver *driver, const struct chp_shell_config *config);

#endif
