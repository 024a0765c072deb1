/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * What every verb of `cheops` shares: the invocation, exit codes, and how it speaks to people.
 *
 * The program is an HTTP client of one agent and nothing else: no socket to a broker, no database,
 * no state of its own. Names that only this folder uses begin with cli__.
 */
#ifndef CHP_CLI_CLI_H
#define CHP_CLI_CLI_H

#include "cli/args.h"
#include "cli/client.h"

#include <jansson.h>
#include <stdio.h>

/* Documented in help.c and in cheops(1). */
enum cli_exit {
    CLI_OK = 0,
    CLI_FAILED = 1,
    CLI_USAGE = 2,
    CLI_REFUSED = 3,
    CLI_TIMEOUT = 4,
    CLI_UNREACHABLE = 5,
    CLI_UNAVAILABLE = 6,
    CLI_INTERRUPTED = 130,
};

enum cli_color { CLI_PLAIN, CLI_BOLD, CLI_DIM, CLI_RED, CLI_GREEN, CLI_YELLOW };

/* One invocation. */
struct cli {
    struct chp_arena arena; /* lives as long as the invocation */
    struct cli_args args;
    struct cli_client *client; /* NULL for verbs that need no agent */
    bool tty;                  /* standard output is a terminal */
    bool live;                 /* ... on which lines can be updated in place */
    bool color;
    bool json; /* -o json */
};

/* Escape sequence, "" where there is no colour. CLI_PLAIN ends a colour. */
const char *cli__color(const struct cli *cli, enum cli_color color);
/* Colour of a state: green done, red failed and its like, none on the way. */
enum cli_color cli__state_color(const char *state);
/* Width of the terminal in columns; 80 when unknown. *rows may be NULL. */
size_t cli__columns(size_t *rows);

/* "cheops: <sentence>" on standard error; returns exit_code. */
int cli__fail(int exit_code, const char *format, ...) CHP_PRINTF(2, 3);
void cli__warn(const char *format, ...) CHP_PRINTF(1, 2);

/* Calls the agent and reads the answer's JSON (new reference, may be NULL for none). Anything but a
 * 2xx is told on standard error and becomes the exit code. */
int cli__call(struct cli *cli, const struct cli_request *request, json_t **answer) CHP_MUST_CHECK;
/* cli__call for a GET of a formatted path. */
int cli__get(struct cli *cli, json_t **answer, const char *format, ...)
    CHP_PRINTF(3, 4) CHP_MUST_CHECK;
/* Tells why a response is not a 2xx, or why there is none (code < 0); returns the exit code. */
int cli__explain(struct cli *cli, const struct cli_request *request, int code,
                 const struct cli_response *response, const struct chp_error *error);

/* Percent-encoded for a path or query, in the invocation's arena. */
const char *cli__url(struct cli *cli, const char *text);
/* Text member of an object; NULL when it is absent, null, or not a string. */
const char *cli__text(const json_t *object, const char *key);
/* Number as text in the arena, NULL when absent. */
const char *cli__number(struct cli *cli, const json_t *object, const char *key);
/* Strings of an array joined by separator, in the arena; NULL when there are none. */
const char *cli__joined(struct cli *cli, const json_t *array, const char *separator);
/* On a terminal "3 s ago", elsewhere as it came; NULL stays NULL. */
const char *cli__when(struct cli *cli, const char *rfc3339);
/* One JSON value on one line. */
void cli__print_json(const json_t *value);
/* One per line. */
void cli__print_json_array(const json_t *array);
/* Output of a command, each line indented by four columns; bounded and escaped on a terminal. cut:
 * the site cut it. */
void cli__print_output(const struct cli *cli, const char *output, bool cut);
/* What a reason says beside an exit code that is shown already; NULL for nothing. Points into
 * reason. */
const char *cli__reason_beyond(const char *reason, int64_t exit_code);
/* For text that is printed within a line: control characters escaped, in the arena; NULL stays
 * NULL. */
const char *cli__clean(struct cli *cli, const char *text);
/* Value of an option that is a duration; fallback_ms when not given. CLI_USAGE when it is bad. */
int cli__duration(struct cli *cli, enum cli_opt option, uint64_t fallback_ms,
                  uint64_t *ms) CHP_MUST_CHECK;
/* The same for a whole number up to 2^53. */
int cli__integer(struct cli *cli, enum cli_opt option, uint64_t fallback,
                 uint64_t *number) CHP_MUST_CHECK;

/* The verbs, in their files; each returns an exit code. */
int cli__cmd_exec(struct cli *cli);
int cli__cmd_http(struct cli *cli);
int cli__cmd_show(struct cli *cli);
int cli__cmd_op_show(struct cli *cli);
int cli__cmd_op_list(struct cli *cli);
int cli__cmd_op_watch(struct cli *cli);
int cli__cmd_op_resolve(struct cli *cli);
int cli__cmd_resource_list(struct cli *cli);
int cli__cmd_resource_show(struct cli *cli);
int cli__cmd_resource_history(struct cli *cli);
int cli__cmd_resource_plan(struct cli *cli);
int cli__cmd_resource_diff(struct cli *cli);
int cli__cmd_resource_rebuild(struct cli *cli);
int cli__cmd_site_list(struct cli *cli);
int cli__cmd_events(struct cli *cli);
int cli__cmd_scope_explain(struct cli *cli);
int cli__cmd_matrix_check(struct cli *cli);
int cli__cmd_dead_list(struct cli *cli);
int cli__cmd_dead_show(struct cli *cli);
int cli__cmd_dead_requeue(struct cli *cli);
int cli__cmd_dead_drop(struct cli *cli);
int cli__cmd_doctor(struct cli *cli);
int cli__cmd_completion(struct cli *cli);
int cli__cmd_complete_ids(struct cli *cli);
int cli__cmd_version(struct cli *cli);
int cli__cmd_help(struct cli *cli);

#endif
