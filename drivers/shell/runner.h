/* SPDX-License-Identifier: AGPL-3.0-only */
/* The parts of cheops-runner. */
#ifndef CHP_SHELL_RUNNER_H
#define CHP_SHELL_RUNNER_H

#include "spool.h"

/* Where the new process failed before it became the command. */
enum runner_step {
    RUNNER_STEP_SET_UP, /* session, descriptors, limits */
    RUNNER_STEP_USER,
    RUNNER_STEP_DIRECTORY,
    RUNNER_STEP_EXEC,
};

struct runner_failure {
    enum runner_step step;
    int number; /* errno */
};

/* Makes the private directory work and puts the job's files into it. 0, or -1 with a sentence in
 * *error. */
int runner__prepare(const struct chp_spool_job *job, const char *work,
                    struct chp_error *error) CHP_MUST_CHECK;

/* In the new process, a child of runner: becomes the job's command, its output going to output; on
 * failure writes a struct runner_failure to report and exits. */
_Noreturn void runner__become(const struct chp_spool_job *job, const char *work, pid_t runner,
                              int output, int report);

/* Sends signal to every descendant of this process. */
void runner__signal_tree(int signal);

#endif
