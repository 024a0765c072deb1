/* SPDX-License-Identifier: AGPL-3.0-only */
#include "base/clock.h"
#include "cli/table.h"
#include "cli/text.h"
#include "cli/views.h"
#include "cli/wait.h"

#include <string.h>

static const char *took(struct cli *cli, const json_t *result)
{
    const json_t *duration = json_object_get(result, "duration_ms");
    if (!json_is_integer(duration)) {
        return NULL;
    }
    struct chp_buf text = {0};
    cli__duration_format((uint64_t)json_integer_value(duration), &text);
    const char *copy = chp_arena_strdup(&cli->arena, chp_buf_text(&text));
    chp_buf_deinit(&text);
    return copy;
}

static const char *exit_text(struct cli *cli, const json_t *result)
{
    return json_integer_value(json_object_get(result, "exit_code")) < 0
               ? NULL
               : cli__number(cli, result, "exit_code");
}

static void print_sites(struct cli *cli, const json_t *sites)
{
    struct cli_table table;
    cli__table_init(&table, cli, "SITE|STATE|>EXIT|>TOOK|STARTED|REASON");
    size_t i;
    json_t *site;
    json_array_foreach(sites, i, site)
    {
        bool unverified = json_is_true(json_object_get(site, "unverified"));
        const char *state = cli__text(site, "state");
        cli__table_add(&table, cli__text(site, "site"));
        cli__table_add(&table, unverified && state != NULL
                                   ? chp_arena_printf(&cli->arena, "%s, unverified", state)
                                   : state);
        cli__table_add(&table, exit_text(cli, site));
        cli__table_add(&table, took(cli, site));
        cli__table_add(&table, cli__when(cli, cli__text(site, "started_at")));
        cli__table_add(&table, cli__text(site, "reason"));
    }
    (void)printf("\n");
    cli__table_print(&table);
    json_array_foreach(sites, i, site)
    {
        const char *output = cli__text(site, "output");
        if (output != NULL && output[0] != 0) {
            (void)printf("\n%s%s:%s\n", cli__color(cli, CLI_BOLD),
                         cli__clean(cli, cli__text(site, "site")), cli__color(cli, CLI_PLAIN));
            cli__print_output(cli, output, json_is_true(json_object_get(site, "output_cut")));
        }
    }
}

static const char *files_text(struct cli *cli, const json_t *files)
{
    struct chp_buf text = {0};
    size_t i;
    json_t *file;
    json_array_foreach(files, i, file)
    {
        const char *name = cli__text(file, "name");
        chp_buf_printf(&text, "%s%s ", i == 0 ? "" : ", ", name == NULL ? "?" : name);
        cli__size_format((uint64_t)json_integer_value(json_object_get(file, "size")), &text);
    }
    const char *copy = text.len == 0 ? NULL : chp_arena_strdup(&cli->arena, chp_buf_text(&text));
    chp_buf_deinit(&text);
    return copy;
}

/* Each site says it of its own clock: so does the one that was asked. */
static void print_suspicion(struct cli *cli, const json_t *operation)
{
    const json_t *ms = json_object_get(json_object_get(operation, "stamp"), "ms");
    char stamp[CHP_TIME_TEXT_BYTES];
    if (json_is_true(json_object_get(operation, "clock_suspect"))) {
        chp_clock_format((uint64_t)json_integer_value(ms), stamp);
        cli__view_line(cli, "clock",
                       chp_arena_printf(&cli->arena,
                                        "clock-suspect: its stamp, %s, led the clock of the site "
                                        "that was asked when it came there",
                                        stamp));
    }
}

int cli__cmd_op_show(struct cli *cli)
{
    json_t *operation = NULL;
    int exit_code =
        cli__get(cli, &operation, "/v1/operations/%s", cli__url(cli, cli->args.operands[0]));
    if (exit_code != CLI_OK) {
        return exit_code;
    }
    if (cli->json) {
        cli__print_json(operation);
    } else {
        static const struct cli_field fields[] = {
            {"operation", "id"}, {"resource", "resource"}, {"type", "type"},
            {"level", "level"},  {"scope", "scope"},       {"origin", "origin"},
            {"by", "principal"}, {"driver", "driver"},     {"does", "summary"},
            {"state", "state"},
        };
        cli__view_fields(cli, operation, fields, sizeof fields / sizeof fields[0]);
        cli__view_line(cli, "entered", cli__when(cli, cli__text(operation, "entered_at")));
        print_suspicion(cli, operation);
        cli__view_line(cli, "files", files_text(cli, json_object_get(operation, "files")));
        print_sites(cli, json_object_get(operation, "sites"));
        cli__view_doubts(cli, operation);
    }
    json_decref(operation);
    return CLI_OK;
}

void cli__view_operations(struct cli *cli, const json_t *operations)
{
    struct cli_table table;
    cli__table_init(&table, cli, "OPERATION|RESOURCE|TYPE|STATE|ORIGIN|ENTERED|DOES");
    size_t i;
    json_t *operation;
    json_array_foreach(operations, i, operation)
    {
        cli__table_add(&table, cli__text(operation, "id"));
        cli__table_add(&table, cli__text(operation, "resource"));
        cli__table_add(&table, cli__text(operation, "type"));
        bool suspect = json_is_true(json_object_get(operation, "clock_suspect"));
        const char *state = cli__text(operation, "state");
        cli__table_add(&table, suspect && state != NULL
                                   ? chp_arena_printf(&cli->arena, "%s, clock-suspect", state)
                                   : state);
        cli__table_add(&table, cli__text(operation, "origin"));
        cli__table_add(&table, cli__when(cli, cli__text(operation, "entered_at")));
        cli__table_add(&table, cli__text(operation, "summary"));
    }
    cli__table_print(&table);
}

int cli__cmd_op_list(struct cli *cli)
{
    static const enum cli_opt filters[] = {OPT_RESOURCE, OPT_STATE, OPT_BEFORE};
    uint64_t limit;
    int exit_code = cli__integer(cli, OPT_LIMIT, 20, &limit);
    if (exit_code != CLI_OK) {
        return exit_code;
    }
    const char *query = "";
    for (size_t i = 0; i < sizeof filters / sizeof filters[0]; i++) {
        const char *value = cli__arg(&cli->args, filters[i]);
        if (value != NULL) {
            query = chp_arena_printf(&cli->arena, "%s&%s=%s", query, cli__options[filters[i]].name,
                                     cli__url(cli, value));
        }
    }
    json_t *list = NULL;
    exit_code =
        cli__get(cli, &list, "/v1/operations?limit=%llu%s", (unsigned long long)limit, query);
    if (exit_code == CLI_OK && cli->json) {
        cli__print_json_array(json_object_get(list, "operations"));
    } else if (exit_code == CLI_OK) {
        cli__view_operations(cli, json_object_get(list, "operations"));
    }
    json_decref(list);
    return exit_code;
}

int cli__cmd_op_watch(struct cli *cli)
{
    uint64_t timeout_ms;
    int exit_code = cli__duration(cli, OPT_TIMEOUT, 0, &timeout_ms);
    return exit_code != CLI_OK ? exit_code : cli__watch(cli, cli->args.operands[0], timeout_ms);
}
