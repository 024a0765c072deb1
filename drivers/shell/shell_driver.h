/* SPDX-License-Identifier: AGPL-3.0-only */
/* The shell driver (design sections 4.5 and 7): commands under a runner that outlives the agent. */
#ifndef CHP_SHELL_DRIVER_H
#define CHP_SHELL_DRIVER_H

#include "port/driver.h"

#include <event2/event.h>

struct chp_shell_config {
    struct event_base *base;
    const char *runner;    /* path of cheops-runner */
    const char *spool;     /* directory, made if absent, mode 0700 */
    const char *const *allow; /* argv[0] as given, or "*" for any; empty: nothing runs */
    size_t allow_count;
    const char *user;      /* run as; NULL: as the agent does */
    const char *path;      /* PATH of commands */
    const char *const *environment; /* further NAME=value */
    size_t environment_count;
    unsigned concurrency_max;
    uint64_t memory_max_bytes;     /* RLIMIT_AS of a command; 0: none */
    unsigned processes_max;        /* RLIMIT_NPROC; 0: none */
};

struct chp_driver *chp_shell_driver_new(const struct chp_shell_config *config, struct chp_error *error);
/* Replaces allow, path, environment and concurrency_max (SIGHUP). */
void chp_shell_driver_reload(struct chp_driver *driver, const struct chp_shell_config *config);

#endif
