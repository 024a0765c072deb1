/* SPDX-License-Identifier: AGPL-3.0-only */
#include "shell_job.h"

#include "spool.h"

#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char path_default[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

enum { GROUPS_MAX = 1024 };

struct shell_settings {
    struct chp_arena arena;
    const char **allow;
    size_t allow_count;
    const char *path;
    const char **environment;
    size_t environment_count;
    unsigned concurrency_max;
    uint64_t memory_max_bytes;
    unsigned processes_max;
};

static int find_groups(const struct passwd *entry, struct shell_identity *identity,
                       struct chp_error *error)
{
    int count = GROUPS_MAX;
    identity->groups = chp_calloc(GROUPS_MAX, sizeof *identity->groups);
    if (getgrouplist(entry->pw_name, entry->pw_gid, identity->groups, &count) < 0) {
        return chp_error_set(error, CHP_EINVAL, "user '%s' is in more than %d groups",
                             entry->pw_name, GROUPS_MAX);
    }
    identity->group_count = (size_t)count;
    return 0;
}

int shell__identity_find(const char *name, struct shell_identity *identity, struct chp_error *error)
{
    *identity = (struct shell_identity){0};
    errno = 0;
    const struct passwd *entry = name == NULL ? getpwuid(geteuid()) : getpwnam(name);
    if (entry == NULL && name != NULL) {
        return chp_error_set(error, CHP_EINVAL,
                             "user '%.100s' (option user in section [shell]) "
                             "is not known on this machine",
                             name);
    }
    identity->home = chp_strdup(entry == NULL ? "/" : entry->pw_dir);
    if (name == NULL || entry->pw_uid == geteuid()) {
        return 0;
    }
    if (geteuid() != 0) {
        return chp_error_set(error, CHP_EINVAL,
                             "commands can run as '%.100s' (option user in "
                             "section [shell]) only when the agent runs as root",
                             name);
    }
    identity->switch_user = true;
    identity->uid = entry->pw_uid;
    identity->gid = entry->pw_gid;
    return find_groups(entry, identity, error);
}

void shell__identity_deinit(struct shell_identity *identity)
{
    free(identity->groups);
    free(identity->home);
    *identity = (struct shell_identity){0};
}

/* NAME=value, and not a name that the driver sets for every command. */
static int variable_check(const char *variable, struct chp_error *error)
{
    size_t len =
        strspn(variable, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_");
    if (len == 0 || variable[len] != '=' || (variable[0] >= '0' && variable[0] <= '9')) {
        /* Without the value, which may be a secret. */
        return chp_error_set(error, CHP_EINVAL,
                             "'%.*s' in option environment of section [shell] "
                             "is not NAME=value",
                             (int)len, variable);
    }
    if (strncmp(variable, "CHEOPS_", 7) == 0 || strncmp(variable, "PATH=", 5) == 0) {
        return chp_error_set(error, CHP_EINVAL,
                             "'%.*s' in option environment of section [shell] "
                             "is set by the agent (PATH: option path)",
                             (int)len, variable);
    }
    return 0;
}

struct shell_settings *shell__settings_new(const struct chp_shell_config *config, bool strict,
                                           struct chp_error *error)
{
    struct shell_settings *settings = chp_alloc(sizeof *settings);
    struct chp_arena *arena = &settings->arena;
    settings->allow = chp_arena_calloc(arena, config->allow_count + 1, sizeof *settings->allow);
    for (size_t i = 0; i < config->allow_count; i++) {
        settings->allow[settings->allow_count++] = chp_arena_strdup(arena, config->allow[i]);
    }
    settings->environment =
        chp_arena_calloc(arena, config->environment_count + 1, sizeof *settings->environment);
    for (size_t i = 0; i < config->environment_count; i++) {
        if (variable_check(config->environment[i], error) == 0) {
            settings->environment[settings->environment_count++] =
                chp_arena_strdup(arena, config->environment[i]);
        } else if (strict) {
            shell__settings_free(settings);
            return NULL;
        } else {
            chp_log_warn("variable for commands left out", CHP_S("reason", error->text));
        }
    }
    settings->path = chp_arena_strdup(arena, config->path == NULL ? path_default : config->path);
    settings->concurrency_max = config->concurrency_max == 0 ? 1 : config->concurrency_max;
    settings->memory_max_bytes = config->memory_max_bytes;
    settings->processes_max = config->processes_max;
    return settings;
}

void shell__settings_free(struct shell_settings *settings)
{
    if (settings != NULL) {
        chp_arena_deinit(&settings->arena);
        free(settings);
    }
}

unsigned shell__settings_concurrency(const struct shell_settings *settings)
{
    return settings->concurrency_max;
}

int shell__command_check(const struct shell_settings *settings, struct chp_bytes payload,
                         struct chp_arena *arena, struct chp_command *command,
                         struct chp_error *error)
{
    int code = chp_command_decode(payload, arena, command, error);
    if (code != 0) {
        return code;
    }
    for (size_t i = 0; i < settings->allow_count; i++) {
        if (strcmp(settings->allow[i], "*") == 0 ||
            strcmp(settings->allow[i], command->argv[0]) == 0) {
            return 0;
        }
    }
    return chp_error_set(error, CHP_EREFUSED,
                         "program '%.100s' is not in the allow-list of this "
                         "site (option allow in section [shell])",
                         command->argv[0]);
}

void shell__expand(const char *argument, const struct chp_run_file *files, size_t file_count,
                   const char *work, struct chp_buf *out)
{
    while (*argument != 0) {
        size_t plain = strcspn(argument, "{");
        chp_buf_add(out, argument, plain);
        argument += plain;
        if (*argument == 0) {
            return;
        }
        const struct chp_run_file *file = NULL;
        size_t len = strcspn(argument + 1, "{}");
        for (size_t i = 0; i < file_count && argument[1 + len] == '}' && file == NULL; i++) {
            if (strlen(files[i].name) == len && memcmp(files[i].name, argument + 1, len) == 0) {
                file = &files[i];
            }
        }
        if (file != NULL) {
            chp_buf_printf(out, "%s/%s", work, file->name);
            argument += len + 2;
        } else {
            chp_buf_add_byte(out, '{');
            argument += argument[1] == '{' ? 2 : 1;
        }
    }
}

static const char *variable(struct chp_arena *arena, const char *name, const char *value)
{
    return chp_arena_printf(arena, "%s=%s", name, value);
}

static bool configured(const struct shell_settings *settings, const char *name)
{
    size_t len = strlen(name);
    for (size_t i = 0; i < settings->environment_count; i++) {
        if (strncmp(settings->environment[i], name, len) == 0 &&
            settings->environment[i][len] == '=') {
            return true;
        }
    }
    return false;
}

static void fill_environment(const struct shell_settings *settings,
                             const struct shell_identity *identity, const struct chp_run *run,
                             struct chp_arena *arena, struct chp_spool_job *job)
{
    enum { OWN_VARIABLES = 7 };
    char id[CHP_UUID_TEXT_BYTES];
    size_t n = 0;
    chp_uuid_format(&run->operation, id);
    const char **list =
        chp_arena_calloc(arena, settings->environment_count + OWN_VARIABLES + 1, sizeof *list);
    list[n++] = variable(arena, "PATH", settings->path);
    list[n++] = variable(arena, "CHEOPS_SITE", run->site);
    list[n++] = variable(arena, "CHEOPS_RESOURCE", run->resource);
    list[n++] = variable(arena, "CHEOPS_OPERATION", id);
    list[n++] = variable(arena, "CHEOPS_TYPE", run->type == NULL ? "" : run->type);
    if (!configured(settings, "HOME")) {
        list[n++] = variable(arena, "HOME", identity->home);
    }
    if (!configured(settings, "LANG")) {
        list[n++] = variable(arena, "LANG", "C.UTF-8");
    }
    for (size_t i = 0; i < settings->environment_count; i++) {
        list[n++] = settings->environment[i];
    }
    job->environment = list;
    job->environment_count = n;
}

static void fill_command(const struct chp_command *command, const struct chp_run *run,
                         const char *directory, struct chp_arena *arena, struct chp_spool_job *job)
{
    const char *work = chp_arena_printf(arena, "%s/work", directory);
    struct chp_buf argument = {0};
    job->argv = chp_arena_calloc(arena, command->argc + 1, sizeof *job->argv);
    for (size_t i = 0; i < command->argc; i++) {
        chp_buf_clear(&argument);
        shell__expand(command->argv[i], run->files, run->file_count, work, &argument);
        job->argv[job->argc++] = chp_arena_strdup(arena, chp_buf_text(&argument));
    }
    chp_buf_deinit(&argument);
    job->files = chp_arena_calloc(arena, run->file_count + 1, sizeof *job->files);
    for (size_t i = 0; i < run->file_count; i++) {
        const struct chp_run_file *file = &run->files[i];
        job->files[job->file_count++] = (struct chp_spool_file){
            .name = file->name, .path = file->path, .content = file->content};
    }
}

int shell__job_encode(const struct shell_settings *settings, const struct shell_identity *identity,
                      const struct chp_run *run, const char *directory, struct chp_buf *out,
                      struct chp_error *error)
{
    struct chp_arena arena = {0};
    struct chp_command command;
    int code = shell__command_check(settings, run->payload, &arena, &command, error);
    if (code == 0) {
        struct chp_spool_job job = {
            .directory = directory,
            .durable = !run->is_show,
            .parent = run->is_show ? getpid() : 0,
            .agent = run->is_show ? 0 : getpid(),
            .deadline_ms = run->deadline_ms == 0 ? CHP_DEADLINE_DEFAULT_MS : run->deadline_ms,
            .memory_max_bytes = settings->memory_max_bytes,
            .processes_max = settings->processes_max,
            .switch_user = identity->switch_user,
            .uid = identity->uid,
            .gid = identity->gid,
            .groups = identity->groups,
            .group_count = identity->group_count,
        };
        fill_environment(settings, identity, run, &arena, &job);
        fill_command(&command, run, directory, &arena, &job);
        chp_spool_job_encode(&job, out);
        if (out->len > CHP_SPOOL_JOB_MAX_BYTES) {
            code = chp_error_set(error, CHP_ETOOBIG,
                                 "the command with its files' paths is over %d bytes",
                                 CHP_SPOOL_JOB_MAX_BYTES);
        }
    }
    chp_arena_deinit(&arena);
    return code;
}
