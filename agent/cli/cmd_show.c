/* SPDX-License-Identifier: AGPL-3.0-only */
/* A reading command on every site of a resource: what each says, and who says something else than
 * most. */
#include "cli/operation.h"
#include "cli/text.h"

#include <stdlib.h>
#include <string.h>

enum {
    TIMEOUT_MS = 20 * 1000,
    GRACE_MS = 3 * 1000,
    SIDE_BY_SIDE_MAX = 16, /* sites; more never fit a terminal */
    GAP_COLUMNS = 3,       /* " │ " */
};

struct answer {
    const char *site;
    const char *state;
    const char *output;
    const char *heading; /* "Nantes  done 4 ms  differs" */
    bool answered;
    bool differs;
    bool cut;
};

static bool same(const json_t *a, const json_t *b)
{
    return json_equal(json_object_get(a, "state"), json_object_get(b, "state")) != 0 &&
           json_equal(json_object_get(a, "exit_code"), json_object_get(b, "exit_code")) != 0 &&
           json_equal(json_object_get(a, "output"), json_object_get(b, "output")) != 0;
}

static bool has_answered(const json_t *answer)
{
    const char *state = cli__text(answer, "state");
    return state != NULL && strcmp(state, "timeout") != 0;
}

/* How many sites answered as this one did, itself included. */
static size_t agreeing(json_t *sites, const json_t *answer)
{
    size_t count = 0;
    const char *site;
    json_t *other;
    json_object_foreach(sites, site, other)
    {
        count += has_answered(other) && same(answer, other) ? 1 : 0;
    }
    return count;
}

/* True when one answer is that of more sites than any other answer; only then are the others the
 * deviant ones. */
static bool most_agree(json_t *sites, size_t *most)
{
    *most = 0;
    const char *site;
    json_t *answer;
    json_t *example = NULL;
    bool unique = false;
    json_object_foreach(sites, site, answer)
    {
        size_t count = has_answered(answer) ? agreeing(sites, answer) : 0;
        if (count > *most) {
            *most = count;
            example = answer;
            unique = true;
        } else if (count == *most && count > 0 && !same(example, answer)) {
            unique = false;
        }
    }
    return unique;
}

static const char *heading(struct cli *cli, const struct answer *answer, const json_t *json)
{
    struct chp_buf text = {0};
    const json_t *exit_code = json_object_get(json, "exit_code");
    const json_t *duration = json_object_get(json, "duration_ms");
    const char *reason = cli__text(json, "reason");
    chp_buf_printf(&text, "%s  %s", answer->site, answer->answered ? answer->state : "no answer");
    if (answer->answered && json_is_integer(duration)) {
        chp_buf_add_text(&text, " ");
        cli__duration_format((uint64_t)json_integer_value(duration), &text);
    }
    if (answer->answered && json_integer_value(exit_code) > 0) {
        chp_buf_printf(&text, cli__given(&cli->args, OPT_HTTP) ? " status %lld" : " exit %lld",
                       (long long)json_integer_value(exit_code));
        reason = cli__reason_beyond(reason, json_integer_value(exit_code));
    }
    if (reason != NULL && reason[0] != 0) {
        chp_buf_printf(&text, ": %s", cli__clean(cli, reason));
    }
    chp_buf_add_text(&text, answer->differs ? "  differs" : "");
    const char *copy = chp_arena_strdup(&cli->arena, chp_buf_text(&text));
    chp_buf_deinit(&text);
    return copy;
}

static struct answer *read_answers(struct cli *cli, json_t *sites)
{
    struct answer *answers =
        chp_arena_calloc(&cli->arena, json_object_size(sites), sizeof *answers);
    size_t most;
    bool unique = most_agree(sites, &most);
    size_t i = 0;
    const char *site;
    json_t *json;
    json_object_foreach(sites, site, json)
    {
        struct answer *answer = &answers[i++];
        const char *state = cli__text(json, "state");
        const char *output = cli__text(json, "output");
        answer->site = cli__clean(cli, site);
        answer->state = state == NULL ? "unknown" : cli__clean(cli, state);
        answer->output = output == NULL ? "" : output;
        answer->answered = has_answered(json);
        answer->cut = json_is_true(json_object_get(json, "output_cut"));
        answer->differs = answer->answered &&
                          agreeing(sites, json) < (unique ? most : json_object_size(sites)) &&
                          !(unique && agreeing(sites, json) == most);
        answer->heading = heading(cli, answer, json);
    }
    return answers;
}

/* One line of an output, escaped, from *cursor; NULL at the end. */
static const char *next_line(struct cli *cli, const char **cursor)
{
    if (**cursor == 0) {
        return NULL;
    }
    size_t len = strcspn(*cursor, "\n");
    struct chp_buf text = {0};
    cli__text_escape(&text, *cursor, len, false);
    *cursor += (*cursor)[len] == 0 ? len : len + 1;
    const char *line = chp_arena_strdup(&cli->arena, chp_buf_text(&text));
    chp_buf_deinit(&text);
    return line;
}

static size_t answer_width(struct cli *cli, const struct answer *answer)
{
    size_t width = cli__text_width(answer->heading);
    const char *cursor = answer->output;
    for (const char *line; (line = next_line(cli, &cursor)) != NULL;) {
        size_t own = cli__text_width(line);
        width = own > width ? own : width;
    }
    return width;
}

static const char *answer_color(const struct cli *cli, const struct answer *answer)
{
    return cli__color(cli, !answer->answered                    ? CLI_RED
                           : answer->differs                    ? CLI_YELLOW
                           : strcmp(answer->state, "done") == 0 ? CLI_BOLD
                                                                : CLI_RED);
}

/* False, and nothing printed, when they do not fit beside each other. */
static bool print_beside(struct cli *cli, const struct answer *answers, size_t count)
{
    size_t widths[SIDE_BY_SIDE_MAX];
    const char *cursors[SIDE_BY_SIDE_MAX];
    size_t total = 0;
    if (!cli->tty || count < 2 || count > SIDE_BY_SIDE_MAX) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        widths[i] = answer_width(cli, &answers[i]);
        cursors[i] = answers[i].output;
        total += widths[i] + (i == 0 ? 0 : GAP_COLUMNS);
        if (answers[i].cut || total > cli__columns(NULL)) {
            return false;
        }
    }
    for (bool more = true, first = true; more; first = false) {
        struct chp_buf row = {0};
        more = first;
        for (size_t i = 0; i < count; i++) {
            const char *line = first ? answers[i].heading : next_line(cli, &cursors[i]);
            more = more || line != NULL;
            chp_buf_add_text(&row, i == 0 ? "" : " │ ");
            chp_buf_add_text(&row, first ? answer_color(cli, &answers[i]) : "");
            cli__text_pad(&row, line == NULL ? "" : line, widths[i], false);
            chp_buf_add_text(&row, first ? cli__color(cli, CLI_PLAIN) : "");
        }
        if (more) {
            (void)printf("%s\n", chp_buf_text(&row));
        }
        chp_buf_deinit(&row);
    }
    return true;
}

static int print_answers(struct cli *cli, json_t *shown)
{
    json_t *sites = json_object_get(shown, "sites");
    size_t count = json_object_size(sites);
    const struct answer *answers = read_answers(cli, sites);
    bool beside = print_beside(cli, answers, count);
    struct chp_buf silent = {0};
    bool failed = false;
    for (size_t i = 0; i < count; i++) {
        const struct answer *answer = &answers[i];
        failed = failed || (answer->answered && strcmp(answer->state, "done") != 0);
        if (!answer->answered) {
            chp_buf_printf(&silent, "%s%s", silent.len == 0 ? "" : ", ", answer->site);
        }
        if (!beside) {
            (void)printf("%s%s%s\n", answer_color(cli, answer), answer->heading,
                         cli__color(cli, CLI_PLAIN));
            cli__print_output(cli, answer->output, answer->cut);
        }
    }
    int exit_code = silent.len > 0 ? CLI_TIMEOUT : CLI_OK;
    if (silent.len > 0) {
        (void)cli__fail(CLI_TIMEOUT, "no answer from %s", chp_buf_text(&silent));
    }
    chp_buf_deinit(&silent);
    return failed ? CLI_FAILED : exit_code;
}

/* The exit code alone, for -o json. */
static int judge(json_t *shown)
{
    int exit_code = CLI_OK;
    const char *site;
    json_t *answer;
    json_object_foreach(json_object_get(shown, "sites"), site, answer)
    {
        const char *state = cli__text(answer, "state");
        if (!has_answered(answer)) {
            exit_code = exit_code == CLI_OK ? CLI_TIMEOUT : exit_code;
        } else if (strcmp(state, "done") != 0) {
            exit_code = CLI_FAILED;
        }
    }
    return exit_code;
}

static json_t *make_body(struct cli *cli, uint64_t timeout_ms, int *exit_code)
{
    bool rest = cli__given(&cli->args, OPT_HTTP);
    *exit_code = CLI_USAGE;
    if (!cli__given(&cli->args, OPT_ID)) {
        (void)cli__fail(CLI_USAGE, "'cheops show' lacks --id ID (the resource)");
        return NULL;
    }
    if (rest != (cli->args.operand_count == 2) || rest == (cli->args.word_count > 0)) {
        (void)cli__fail(CLI_USAGE, "say what to show: cheops show --id ID -- COMMAND, "
                                   "or cheops show --id ID --http GET service/path");
        return NULL;
    }
    json_t *payload = rest ? cli__rest_json(cli, NULL, 0, exit_code) : cli__command_json(cli);
    if (payload == NULL) {
        return NULL;
    }
    json_t *body = json_object();
    CHP_ASSERT(body != NULL && json_object_set_new(body, rest ? "http" : "command", payload) == 0 &&
               json_object_set_new(body, "timeout_ms", json_integer((json_int_t)timeout_ms)) == 0);
    return body;
}

int cli__cmd_show(struct cli *cli)
{
    uint64_t timeout_ms;
    int exit_code = cli__duration(cli, OPT_TIMEOUT, TIMEOUT_MS, &timeout_ms);
    json_t *body = exit_code == CLI_OK ? make_body(cli, timeout_ms, &exit_code) : NULL;
    if (body == NULL) {
        return exit_code;
    }
    char *text = json_dumps(body, JSON_COMPACT);
    CHP_ASSERT(text != NULL);
    struct cli_request request = {.method = "POST",
                                  .path =
                                      chp_arena_printf(&cli->arena, "/v1/resources/%s/show",
                                                       cli__url(cli, cli__arg(&cli->args, OPT_ID))),
                                  .body = chp_bytes_of(text),
                                  .timeout_ms = timeout_ms + GRACE_MS};
    json_t *shown = NULL;
    exit_code = cli__call(cli, &request, &shown);
    if (exit_code == CLI_OK && cli->json) {
        cli__print_json(shown);
        exit_code = judge(shown);
    } else if (exit_code == CLI_OK) {
        exit_code = print_answers(cli, shown);
    }
    json_decref(shown);
    json_decref(body);
    free(text);
    return exit_code;
}
