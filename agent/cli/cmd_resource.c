/* SPDX-License-Identifier: AGPL-3.0-only */
#include "cli/table.h"
#include "cli/views.h"

#include <stdlib.h>
#include <string.h>

enum { DOUBTS_MAX = 5 };

int cli__cmd_resource_list(struct cli *cli)
{
    uint64_t limit;
    int exit_code = cli__integer(cli, OPT_LIMIT, 100, &limit);
    if (exit_code != CLI_OK) {
        return exit_code;
    }
    const char *after = cli__arg(&cli->args, OPT_AFTER);
    json_t *list = NULL;
    exit_code = cli__get(cli, &list, "/v1/resources?limit=%llu%s%s", (unsigned long long)limit,
                         after == NULL ? "" : "&after=", after == NULL ? "" : cli__url(cli, after));
    const json_t *resources = json_object_get(list, "resources");
    if (exit_code == CLI_OK && cli->json) {
        cli__print_json_array(resources);
    } else if (exit_code == CLI_OK) {
        struct cli_table table;
        cli__table_init(&table, cli, "RESOURCE|STATE|LEVEL|>OPERATIONS|CREATED|ORIGIN|MEMBERS");
        size_t i;
        json_t *resource;
        json_array_foreach(resources, i, resource)
        {
            cli__table_add(&table, cli__text(resource, "id"));
            cli__table_add(&table, cli__text(resource, "state"));
            cli__table_add(&table, cli__text(resource, "level"));
            cli__table_add(&table, cli__number(cli, resource, "operations"));
            cli__table_add(&table, cli__when(cli, cli__text(resource, "created_at")));
            cli__table_add(&table, cli__text(json_object_get(resource, "created_by"), "origin"));
            cli__table_add(&table, cli__joined(cli, json_object_get(resource, "members"), " "));
        }
        cli__table_print(&table);
    }
    json_decref(list);
    return exit_code;
}

/* What of the resource is in doubt at the site that is asked. */
static int print_doubts(struct cli *cli, const char *id)
{
    json_t *status = NULL;
    json_t *list = NULL;
    int exit_code = cli__get(cli, &status, "/v1/status");
    const char *site = cli__text(status, "site");
    if (exit_code == CLI_OK && site != NULL) {
        exit_code =
            cli__get(cli, &list, "/v1/operations?state=in-doubt&limit=%d&site=%s&resource=%s",
                     DOUBTS_MAX, cli__url(cli, site), cli__url(cli, id));
    }
    size_t i;
    json_t *operation;
    json_array_foreach(json_object_get(list, "operations"), i, operation)
    {
        cli__view_doubts(cli, operation);
    }
    json_decref(list);
    json_decref(status);
    return exit_code;
}

int cli__cmd_resource_show(struct cli *cli)
{
    json_t *resource = NULL;
    int exit_code =
        cli__get(cli, &resource, "/v1/resources/%s", cli__url(cli, cli->args.operands[0]));
    if (exit_code == CLI_OK && cli->json) {
        cli__print_json(resource);
    } else if (exit_code == CLI_OK) {
        static const struct cli_field fields[] = {
            {"resource", "id"}, {"state", "state"},           {"level", "level"},
            {"scope", "scope"}, {"operations", "operations"},
        };
        const char *diverged = cli__text(resource, "diverged");
        const json_t *config = json_object_get(resource, "config");
        char *matrix =
            config == NULL || json_is_null(config) ? NULL : json_dumps(config, JSON_COMPACT);
        cli__view_fields(cli, resource, fields, sizeof fields / sizeof fields[0]);
        if (diverged != NULL) {
            cli__view_line(cli, "diverged", diverged);
        }
        cli__view_line(cli, "members",
                       cli__joined(cli, json_object_get(resource, "members"), ", "));
        cli__view_line(cli, "created", cli__when(cli, cli__text(resource, "created_at")));
        cli__view_line(cli, "origin", cli__text(json_object_get(resource, "created_by"), "origin"));
        cli__view_line(cli, "merged",
                       json_is_true(json_object_get(resource, "merged")) ? "yes" : "no");
        cli__view_line(cli, "last", cli__text(resource, "last_operation"));
        cli__view_line(cli, "matrix", matrix);
        free(matrix);
        const char *state = cli__text(resource, "state");
        if (state != NULL && strcmp(state, "in-doubt") == 0) {
            exit_code = print_doubts(cli, cli->args.operands[0]);
        }
    }
    json_decref(resource);
    return exit_code;
}

/* What became of it at the site that was asked. */
static const char *here_text(struct cli *cli, const json_t *entry)
{
    const char *state = cli__text(entry, "state");
    bool applied = json_is_true(json_object_get(entry, "applied"));
    json_int_t run = json_integer_value(json_object_get(entry, "run"));
    if (state == NULL || json_is_true(json_object_get(entry, "undoing"))) {
        return state == NULL ? NULL : "undoing";
    }
    if (strcmp(state, "superseded") == 0) {
        return applied ? "superseded, in effect" : run > 0 ? "undone" : state;
    }
    if (strcmp(state, "delivered") == 0 && run > 0) {
        return "runs again";
    }
    return strcmp(state, "done") == 0 && run > 1
               ? chp_arena_printf(&cli->arena, "done, run %lld", (long long)run)
               : state;
}

static void print_history(struct cli *cli, const json_t *operations)
{
    struct cli_table table;
    cli__table_init(&table, cli, ">PLACE|OPERATION|TYPE|ORIGIN|HERE|ENTERED|BY|DOES");
    size_t i;
    json_t *entry;
    json_array_foreach(operations, i, entry)
    {
        const char *reason = cli__text(entry, "reason");
        cli__table_add(&table, cli__number(cli, entry, "place"));
        cli__table_add(&table, cli__text(entry, "id"));
        cli__table_add(&table, cli__text(entry, "type"));
        cli__table_add(&table, cli__text(entry, "origin"));
        cli__table_add(&table, here_text(cli, entry));
        cli__table_add(&table, cli__when(cli, cli__text(entry, "entered_at")));
        cli__table_add(&table, cli__text(entry, "principal"));
        cli__table_add(&table, cli__text(entry, "summary"));
        if (reason != NULL) {
            cli__table_note(&table, reason);
        }
    }
    cli__table_print(&table);
}

int cli__cmd_resource_history(struct cli *cli)
{
    uint64_t limit;
    int exit_code = cli__integer(cli, OPT_LIMIT, 200, &limit);
    if (exit_code != CLI_OK) {
        return exit_code;
    }
    json_t *history = NULL;
    exit_code = cli__get(cli, &history, "/v1/resources/%s/history?limit=%llu",
                         cli__url(cli, cli->args.operands[0]), (unsigned long long)limit);
    if (exit_code == CLI_OK && cli->json) {
        cli__print_json_array(json_object_get(history, "operations"));
    } else if (exit_code == CLI_OK) {
        print_history(cli, json_object_get(history, "operations"));
    }
    const char *left_out = cli__number(cli, history, "left_out");
    if (left_out != NULL && strcmp(left_out, "0") != 0) {
        cli__warn("the oldest operations are left out, %s of them: --limit shows more, up to 5000",
                  left_out);
    }
    const char *forgotten = cli__number(cli, history, "forgotten");
    if (forgotten != NULL && strcmp(forgotten, "0") != 0) {
        cli__warn("%s operations before these are forgotten, as no site needs them any more",
                  forgotten);
    }
    json_decref(history);
    return exit_code;
}
