/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * The configuration file of an agent: read, checked, compared on reload, and documented from one
 * table (options.c).
 *
 *     [section]
 *     # a comment has a line of its own
 *     option = value
 *
 * Every option may stand once, and so may every [site.NAME] and [service.NAME]; the other sections
 * may be taken up again. What is not known, not valid or there twice is refused with file and line,
 * the reason, and what is allowed; nothing is ignored or cut. A value goes to the end of its line,
 * without the blanks around it. Numbers take the suffixes ms, s, m, h or k, M, G (of 1024); without
 * one they are in the unit that the option's name ends in. Lists are separated by commas. Relative
 * paths are relative to the file's directory.
 *
 * inih was rejected: it cuts section names at 49 bytes and lines at 200, drops what follows " ;",
 * takes ':' for '=', and does not report a section without options, which [site.NAME] may well be.
 */
#ifndef CHP_CONFIG_CONFIG_H
#define CHP_CONFIG_CONFIG_H

#include "base/arena.h"

#include <stdio.h>

enum {
    CHP_CONFIG_FILE_MAX_BYTES = 1024 * 1024,
    CHP_CONFIG_LINE_MAX_BYTES = 16 * 1024,
    CHP_CONFIG_LIST_MAX = 256,
    CHP_CONFIG_SERVICES_MAX = 64,
    CHP_CONFIG_TOKENS_MAX = 1024,
    CHP_CONFIG_TOKEN_MIN_BYTES = 16, /* shorter ones can be guessed */
    CHP_CONFIG_TOKEN_MAX_BYTES = 512,
};

struct chp_config_list {
    const char **items;
    size_t count;
};

enum chp_config_link {
    CHP_CONFIG_LINK_SHOVEL, /* the site has a broker of its own */
    CHP_CONFIG_LINK_LOCAL,  /* it shares this site's broker */
};

struct chp_config_site {
    const char *name;
    int link; /* enum chp_config_link */
};

struct chp_config_service {
    const char *name;
    const char *url;
    const char *success;
    const char *ca_file;
};

/* Strings that are not set are NULL. Paths are absolute. Everything lives in arena. */
struct chp_config {
    struct chp_arena arena;
    struct {
        const char *site;
        const char *state_dir;
        int log_level; /* enum chp_log_level */
        uint64_t down_after_ms;
        uint64_t beat_interval_ms;
        uint64_t max_skew_ms;
        uint64_t resources_max;
        uint64_t pending_max;
        uint64_t operations_kept;
        bool migrate;
    } agent;
    struct {
        const char *dsn;
        uint64_t queries_max;
        uint64_t retry_min_ms;
        uint64_t retry_max_ms;
        uint64_t requeue_after_ms;
        uint64_t events_kept_ms;
    } database;
    struct {
        const char *uri;
        const char *ca_file;
        const char *cert_file;
        const char *key_file;
        const char *server_name;
        uint64_t prefetch;    /* fits in 16 bits */
        uint64_t heartbeat_s; /* fits in 16 bits */
        uint64_t retry_min_ms;
        uint64_t retry_max_ms;
        uint64_t output_max_bytes;
        uint64_t unconfirmed_max;
    } broker;
    struct {
        const char *listen; /* "none": no TCP */
        const char *socket;
        struct chp_config_list socket_uids;
        const unsigned *socket_uid_numbers; /* the same as numbers */
        const char *token_file;
        struct chp_config_list hosts;
        uint64_t connections_max;
        uint64_t body_max_bytes;
        uint64_t json_max_bytes;
        uint64_t idle_timeout_ms;
    } http;
    struct {
        struct chp_config_list allow;
        const char *user;
        const char *path;
        struct chp_config_list environment;
        uint64_t concurrency_max;
        uint64_t memory_max_bytes;
        uint64_t processes_max;
        const char *runner; /* NULL: cheops-runner beside the agent's own program */
    } shell;
    struct {
        uint64_t concurrency_max;
        uint64_t connect_timeout_ms;
    } rest;
    struct {
        uint64_t blob_max_bytes;
        uint64_t fetch_timeout_ms;
    } files;
    struct chp_config_site *sites; /* in the file's order; own site not among them */
    size_t site_count;
    struct chp_config_service *services;
    size_t service_count;
};

/* Reads and checks the file (blocking). On error *config is empty and *error begins with
 * "path:line: ". CHP_ENOTFOUND, CHP_EIO: the file can't be read. CHP_EINVAL, CHP_EMALFORMED,
 * CHP_ETOOBIG: what is in it. */
int chp_config_load(const char *path, struct chp_config *config,
                    struct chp_error *error) CHP_MUST_CHECK;

/* The same from memory: path is what messages call it, directory (absolute) what relative paths
 * start from. */
int chp_config_parse(struct chp_bytes text, const char *path, const char *directory,
                     struct chp_config *config, struct chp_error *error) CHP_MUST_CHECK;

/* Safe on a zeroed one. */
void chp_config_deinit(struct chp_config *config);

/* What differs, by names for people: "[http] hosts", "[site.Lille]". Allocated in the arena given.
 */
struct chp_config_diff {
    const char **reload; /* may change while the agent runs */
    size_t reload_count;
    const char **restart; /* need a new start; the running agent keeps the old value */
    size_t restart_count;
};
void chp_config_diff(const struct chp_config *old_config, const struct chp_config *new_config,
                     struct chp_arena *arena, struct chp_config_diff *diff);

/* The documented sample configuration: every option with its default. */
void chp_config_print_help(FILE *out);

/* One line "principal:token" of the token file. */
struct chp_config_token {
    const char *principal;
    const char *token; /* secret */
};

/* Reads the token file (blocking) into arena. It must be a regular file that group and others can't
 * read; empty lines and lines that begin with '#' are skipped; a token stands once, a principal may
 * have several. *error never shows a token. CHP_EFORBIDDEN: the mode; else as chp_config_load. */
int chp_config_tokens_load(const char *path, struct chp_arena *arena,
                           struct chp_config_token **tokens, size_t *count,
                           struct chp_error *error) CHP_MUST_CHECK;

#endif
