/* SPDX-License-Identifier: AGPL-3.0-only */
/* What the configuration makes of a run: may it run here, as whom, with which arguments and
 * environment. */
#ifndef CHP_SHELL_JOB_H
#define CHP_SHELL_JOB_H

#include "shell_driver.h"

#include <sys/types.h>

/* Whom commands run as; found once, since looking up users may block. */
struct shell_identity {
    bool switch_user;
    uid_t uid;
    gid_t gid;
    gid_t *groups;
    size_t group_count;
    char *home;
};

/* name NULL: the agent's own user. CHP_EINVAL with *error. */
int shell__identity_find(const char *name, struct shell_identity *identity,
                         struct chp_error *error) CHP_MUST_CHECK;
void shell__identity_deinit(struct shell_identity *identity);

/* The part of the configuration that can be replaced. */
struct shell_settings;

/* strict: CHP_EINVAL (NULL) for a wrong environment entry, which is otherwise left out with a log
 * line. */
struct shell_settings *shell__settings_new(const struct chp_shell_config *config, bool strict,
                                           struct chp_error *error);
void shell__settings_free(struct shell_settings *settings);
unsigned shell__settings_concurrency(const struct shell_settings *settings);

/* Decodes the payload and looks it up in the allow-list: CHP_EREFUSED when it is not on it. */
int shell__command_check(const struct shell_settings *settings, struct chp_bytes payload,
                         struct chp_arena *arena, struct chp_command *command,
                         struct chp_error *error) CHP_MUST_CHECK;

/* Appends one argument with {NAME} replaced by <work>/NAME where NAME is a file of the run, and
 * "{{" by "{"; any other brace stays. */
void shell__expand(const char *argument, const struct chp_run_file *files, size_t file_count,
                   const char *work, struct chp_buf *out);

/* Appends the job for the runner. */
int shell__job_encode(const struct shell_settings *settings, const struct shell_identity *identity,
                      const struct chp_run *run, const char *directory, struct chp_buf *out,
                      struct chp_error *error) CHP_MUST_CHECK;

#endif
