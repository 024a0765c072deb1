/* SPDX-License-Identifier: AGPL-3.0-only */
/* What the members of a resource say of themselves, side by side: plan and diff. */
#include "cli/operation.h"
#include "cli/table.h"
#include "cli/views.h"

#include <stdlib.h>
#include <string.h>

enum {
    TIMEOUT_MS = 20 * 1000,
    GRACE_MS = 3 * 1000,
    NAMED_MAX = 5,     /* operations that are named, of a list */
    DIGEST_SHOWN = 12, /* digits */
    VECTOR_SHOWN = 8,
};

/* Sends body, which it takes, to the resource's call; *answer is a new reference. */
static int call(struct cli *cli, const char *name, json_t *body, unsigned rounds, json_t **answer)
{
    uint64_t timeout_ms;
    int exit_code = cli__duration(cli, OPT_TIMEOUT, TIMEOUT_MS, &timeout_ms);
    if (exit_code != CLI_OK) {
        json_decref(body);
        return exit_code;
    }
    CHP_ASSERT(json_object_set_new(body, "timeout_ms", json_integer((json_int_t)timeout_ms)) == 0);
    char *text = json_dumps(body, JSON_COMPACT);
    CHP_ASSERT(text != NULL);
    struct cli_request request = {.method = "POST",
                                  .path =
                                      chp_arena_printf(&cli->arena, "/v1/resources/%s/%s",
                                                       cli__url(cli, cli->args.operands[0]), name),
                                  .body = chp_bytes_of(text),
                                  .timeout_ms = rounds * timeout_ms + GRACE_MS};
    exit_code = cli__call(cli, &request, answer);
    free(text);
    json_decref(body);
    return exit_code;
}

/* Sites that did not answer. */
static int judge_silent(struct cli *cli, json_t *sites)
{
    struct chp_buf silent = {0};
    const char *site;
    json_t *told;
    json_object_foreach(sites, site, told)
    {
        const char *state = cli__text(told, "state");
        if (state == NULL || strcmp(state, "timeout") == 0) {
            chp_buf_printf(&silent, "%s%s", silent.len == 0 ? "" : ", ", cli__clean(cli, site));
        }
    }
    int exit_code = silent.len == 0
                        ? CLI_OK
                        : cli__fail(CLI_TIMEOUT, "no answer from %s", chp_buf_text(&silent));
    chp_buf_deinit(&silent);
    return exit_code;
}

/* Cells of a site that does not say it, and why. */
static void add_unknown(struct cli_table *table, const json_t *told)
{
    const char *state = cli__text(told, "state");
    const char *reason = cli__text(told, "reason");
    bool silent = state != NULL && strcmp(state, "timeout") == 0;
    cli__table_add(table, silent ? "no answer" : "unknown");
    for (size_t i = 2; i < table->columns; i++) {
        cli__table_add(table, NULL);
    }
    if (reason != NULL && !silent) {
        cli__table_note(table, reason);
    }
}

/* Plan. */

static void note_operations(struct cli *cli, struct cli_table *table, const char *verb,
                            const json_t *plan, const char *list, const char *total)
{
    const json_t *operations = json_object_get(plan, list);
    json_int_t count = json_integer_value(json_object_get(plan, total));
    size_t i;
    json_t *operation;
    json_array_foreach(operations, i, operation)
    {
        const char *id = cli__text(operation, "operation");
        const char *type = cli__text(operation, "type");
        bool again = json_is_true(json_object_get(operation, "again"));
        if (i == NAMED_MAX) {
            cli__table_note(table,
                            chp_arena_printf(&cli->arena, "... %lld in all", (long long)count));
            break;
        }
        cli__table_note(table, chp_arena_printf(&cli->arena, "%s %s (%s)%s", verb,
                                                id == NULL ? "the new one" : id,
                                                type == NULL ? "?" : type, again ? " again" : ""));
    }
}

static void add_plan(struct cli *cli, struct cli_table *table, const json_t *plan)
{
    static const char *const numbers[] = {"place", "displaces_count", "undo_count", "run_count",
                                          "again"};
    const char *why = cli__text(plan, "why");
    const char *reason = cli__text(plan, "reason");
    cli__table_add(table, cli__text(plan, "plan"));
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        cli__table_add(table, cli__number(cli, plan, numbers[i]));
    }
    if (why != NULL) {
        cli__table_note(table, why);
    }
    if (reason != NULL) {
        cli__table_note(table, chp_arena_printf(&cli->arena, "the new one: %s", reason));
    }
    note_operations(cli, table, "displaces", plan, "displaces", "displaces_count");
    note_operations(cli, table, "undoes", plan, "undo", "undo_count");
    note_operations(cli, table, "runs", plan, "run", "run_count");
    if (json_is_true(json_object_get(plan, "order_assumed"))) {
        cli__table_note(table, "some stay in another order than the sequence: the matrix does not "
                               "say that it matters");
    }
}

static void print_plans(struct cli *cli, json_t *sites)
{
    struct cli_table table;
    cli__table_init(&table, cli, "SITE|PLAN|>PLACE|>DISPLACES|>UNDOES|>RUNS|>AGAIN");
    const char *site;
    json_t *told;
    json_object_foreach(sites, site, told)
    {
        const json_t *plan = json_object_get(told, "plan");
        cli__table_add(&table, site);
        if (json_is_object(plan)) {
            add_plan(cli, &table, plan);
        } else {
            add_unknown(&table, told);
        }
    }
    cli__table_print(&table);
}

int cli__cmd_resource_plan(struct cli *cli)
{
    const char *type = cli__arg(&cli->args, OPT_TYPE);
    bool has_command = cli->args.word_count > 0;
    if (type == NULL) {
        return cli__fail(CLI_USAGE, "'cheops resource plan' lacks --type TYPE (of the operation)");
    }
    if (!has_command && cli__given(&cli->args, OPT_UNDO)) {
        return cli__fail(CLI_USAGE, "--undo goes with a command: -- COMMAND");
    }
    json_t *body = json_pack("{s:s}", "type", type);
    int exit_code = body == NULL ? cli__fail(CLI_USAGE, "--type is not valid UTF-8") : CLI_OK;
    json_t *command = exit_code == CLI_OK && has_command ? cli__command_json(cli) : NULL;
    if (exit_code == CLI_OK && has_command) {
        exit_code = command == NULL ? CLI_USAGE : cli__operation_undo(cli, body, false);
    }
    if (command != NULL) {
        CHP_ASSERT(json_object_set_new(body, "command", command) == 0);
    }
    if (exit_code != CLI_OK) {
        json_decref(body);
        return exit_code;
    }
    json_t *answer = NULL;
    exit_code = call(cli, "plan", body, 1, &answer);
    json_t *sites = json_object_get(answer, "sites");
    if (exit_code == CLI_OK && cli->json) {
        cli__print_json(answer);
    } else if (exit_code == CLI_OK) {
        print_plans(cli, sites);
    }
    exit_code = exit_code == CLI_OK ? judge_silent(cli, sites) : exit_code;
    json_decref(answer);
    return exit_code;
}

/* Diff. */

/* "append, 2 to run": what the site has to do. */
static const char *to_do(struct cli *cli, const json_t *knows)
{
    const char *plan = cli__text(knows, "plan");
    json_int_t undo = json_integer_value(json_object_get(knows, "to_undo"));
    json_int_t run = json_integer_value(json_object_get(knows, "to_run"));
    if (plan == NULL || undo + run == 0) {
        return plan;
    }
    return chp_arena_printf(&cli->arena, "%s: undo %lld, run %lld", plan, (long long)undo,
                            (long long)run);
}

static const char *vector_text(struct cli *cli, const json_t *knows)
{
    const json_t *vector = json_object_get(knows, "vector");
    json_int_t entries = json_integer_value(json_object_get(knows, "vector_entries"));
    struct chp_buf text = {0};
    size_t i;
    json_t *entry;
    json_array_foreach(vector, i, entry)
    {
        const char *origin = cli__text(entry, "origin");
        if (i == VECTOR_SHOWN) {
            chp_buf_printf(&text, " ... %lld in all", (long long)entries);
            break;
        }
        chp_buf_printf(&text, "%s%s:%lld", i == 0 ? "" : " ", origin == NULL ? "?" : origin,
                       (long long)json_integer_value(json_object_get(entry, "n")));
    }
    const char *copy = chp_arena_strdup(&cli->arena, chp_buf_text(&text));
    chp_buf_deinit(&text);
    return copy;
}

static void add_knowledge(struct cli *cli, struct cli_table *table, const json_t *knows)
{
    static const char *const flags[] = {"degraded", "order_assumed", "deleted"};
    static const char *const notes[] = {"degraded: something failed here that succeeded elsewhere",
                                        ("order assumed: some ran in another order than the "
                                         "sequence, which the matrix does not rule"),
                                        "deleted"};
    const char *digest = cli__text(knows, "digest");
    const char *diverged = cli__text(knows, "diverged");
    json_int_t waiting = json_integer_value(json_object_get(knows, "waiting"));
    json_int_t forgotten = json_integer_value(json_object_get(knows, "forgotten"));
    cli__table_add(table, cli__number(cli, knows, "operations"));
    cli__table_add(table, cli__number(cli, knows, "sequence"));
    cli__table_add(
        table, digest == NULL ? NULL : chp_arena_printf(&cli->arena, "%.*s", DIGEST_SHOWN, digest));
    cli__table_add(table, to_do(cli, knows));
    cli__table_add(table, vector_text(cli, knows));
    if (diverged != NULL) {
        cli__table_note(table, chp_arena_printf(&cli->arena, "diverged: %s", diverged));
    }
    if (forgotten > 0) {
        cli__table_note(table, chp_arena_printf(&cli->arena,
                                                "%lld before these are forgotten: the sequence and "
                                                "its digest begin behind them",
                                                (long long)forgotten));
    }
    if (waiting > 0) {
        cli__table_note(table, chp_arena_printf(&cli->arena,
                                                "%lld wait for operations that they depend on",
                                                (long long)waiting));
    }
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        if (json_is_true(json_object_get(knows, flags[i]))) {
            cli__table_note(table, notes[i]);
        }
    }
}

static void print_knowledge(struct cli *cli, const json_t *answer, json_t *sites)
{
    struct cli_table table;
    const json_t *same = json_object_get(answer, "same");
    cli__table_init(&table, cli, "SITE|>HOLDS|>SEQUENCE|DIGEST|TO DO|KNOWS");
    const char *site;
    json_t *told;
    json_object_foreach(sites, site, told)
    {
        const json_t *knows = json_object_get(told, "knows");
        cli__table_add(&table, site);
        if (json_is_object(knows)) {
            add_knowledge(cli, &table, knows);
        } else {
            add_unknown(&table, told);
        }
    }
    cli__table_print(&table);
    (void)printf("\n%s%s%s\n",
                 cli__color(cli, json_is_true(same)    ? CLI_GREEN
                                 : json_is_false(same) ? CLI_YELLOW
                                                       : CLI_PLAIN),
                 json_is_true(same)    ? "All members know the same."
                 : json_is_false(same) ? "Members know different operations."
                                       : "Those that answered know the same.",
                 cli__color(cli, CLI_PLAIN));
}

static void print_groups(struct cli *cli, const json_t *answers, const json_t *groups)
{
    bool differ = json_array_size(groups) > 1;
    size_t i;
    json_t *group;
    (void)printf("%s%s%s\n", cli__color(cli, differ ? CLI_YELLOW : CLI_GREEN),
                 differ                         ? "Their applications answer differently:"
                 : json_array_size(groups) == 0 ? "No application answered."
                                                : "Their applications answer the same:",
                 cli__color(cli, CLI_PLAIN));
    json_array_foreach(groups, i, group)
    {
        const char *first = json_string_value(json_array_get(group, 0));
        const json_t *answer = first == NULL ? NULL : json_object_get(answers, first);
        const char *state = cli__text(answer, "state");
        const char *reason = cli__text(answer, "reason");
        const char *output = cli__text(answer, "output");
        const char *names = cli__joined(cli, group, ", ");
        (void)printf("%s%s%s", cli__color(cli, CLI_BOLD),
                     names == NULL ? "-" : cli__clean(cli, names), cli__color(cli, CLI_PLAIN));
        if (state != NULL && strcmp(state, "done") != 0) {
            (void)printf("  %s%s%s", cli__clean(cli, state), reason == NULL ? "" : ": ",
                         reason == NULL ? "" : cli__clean(cli, reason));
        }
        (void)printf("\n");
        cli__print_output(cli, output == NULL ? "" : output,
                          json_is_true(json_object_get(answer, "output_cut")));
    }
}

static int make_body(struct cli *cli, json_t **body)
{
    bool rest = cli__given(&cli->args, OPT_HTTP);
    int exit_code = CLI_USAGE;
    if (rest != (cli->args.operand_count == 3) || (!rest && cli->args.operand_count != 1) ||
        (rest && cli->args.word_count > 0)) {
        return cli__fail(CLI_USAGE, "usage: cheops resource diff ID, then nothing, -- COMMAND, or "
                                    "--http GET service/path");
    }
    *body = json_object();
    if (!rest && cli->args.word_count == 0) {
        return CLI_OK;
    }
    json_t *payload = rest ? cli__rest_json(cli, NULL, 1, &exit_code) : cli__command_json(cli);
    if (payload == NULL) {
        json_decref(*body);
        return exit_code;
    }
    CHP_ASSERT(json_object_set_new(*body, rest ? "http" : "command", payload) == 0);
    return CLI_OK;
}

int cli__cmd_resource_diff(struct cli *cli)
{
    json_t *body = NULL;
    json_t *answer = NULL;
    int exit_code = make_body(cli, &body);
    if (exit_code != CLI_OK) {
        return exit_code;
    }
    exit_code = call(cli, "diff", body, 2, &answer);
    json_t *sites = json_object_get(answer, "sites");
    json_t *answers = json_object_get(answer, "answers");
    const json_t *groups = json_object_get(answer, "groups");
    if (exit_code == CLI_OK && cli->json) {
        cli__print_json(answer);
    } else if (exit_code == CLI_OK) {
        print_knowledge(cli, answer, sites);
        if (json_is_object(answers)) {
            print_groups(cli, answers, groups);
        }
    }
    if (exit_code == CLI_OK) {
        int silent = judge_silent(cli, sites);
        silent = silent == CLI_OK && json_is_object(answers) ? judge_silent(cli, answers) : silent;
        bool differ = json_is_false(json_object_get(answer, "same")) || json_array_size(groups) > 1;
        exit_code = differ ? CLI_FAILED : silent;
    }
    json_decref(answer);
    return exit_code;
}
