/* SPDX-License-Identifier: AGPL-3.0-only */
/* How every verb speaks: to the agent and to people. */
#include "cli/cli.h"

#include "base/clock.h"
#include "cli/text.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum {
    WIDTH_DEFAULT = 80,
    OUTPUT_LINES_MAX =
        100, /* of one site on a terminal; the whole is in `cheops op show` and in pipes */
};

const char *cli__color(const struct cli *cli, enum cli_color color)
{
    if (!cli->color) {
        return "";
    }
    switch (color) {
    case CLI_PLAIN:
        return "\033[0m";
    case CLI_BOLD:
        return "\033[1m";
    case CLI_DIM:
        return "\033[2m";
    case CLI_RED:
        return "\033[31m";
    case CLI_GREEN:
        return "\033[32m";
    case CLI_YELLOW:
        return "\033[33m";
    }
    return "";
}

enum cli_color cli__state_color(const char *state)
{
    static const struct {
        const char *state;
        enum cli_color color;
    } table[] = {
        {"done", CLI_GREEN},    {"failed", CLI_RED},        {"refused", CLI_RED},
        {"expired", CLI_RED},   {"superseded", CLI_YELLOW}, {"in-doubt", CLI_YELLOW},
        {"voided", CLI_YELLOW},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (strcmp(table[i].state, state) == 0) {
            return table[i].color;
        }
    }
    return CLI_DIM;
}

size_t cli__columns(size_t *rows)
{
    struct winsize size = {0};
    bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 && size.ws_row > 0;
    if (rows != NULL) {
        *rows = known ? size.ws_row : 0;
    }
    return known ? size.ws_col : WIDTH_DEFAULT;
}

CHP_PRINTF(2, 0)
static void say(const char *prefix, const char *format, va_list args)
{
    (void)fflush(stdout);
    (void)fputs(prefix, stderr);
    (void)vfprintf(stderr, format, args);
    (void)fputc('\n', stderr);
}

int cli__fail(int exit_code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say("cheops: ", format, args);
    va_end(args);
    return exit_code;
}

void cli__warn(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say("cheops: warning: ", format, args);
    va_end(args);
}

/* The agent's own sentence of an answer that is not a 2xx, in the arena; NULL when it has none. */
static const char *sentence_of(struct cli *cli, const struct cli_response *response)
{
    json_t *body = json_loadb(chp_buf_text(&response->body), response->body.len, 0, NULL);
    const char *sentence = chp_arena_strdup(&cli->arena, cli__text(body, "error"));
    json_decref(body);
    return cli__clean(cli, sentence);
}

static int exit_of_status(long status)
{
    if (status == 503 || status == 429) {
        return CLI_UNAVAILABLE;
    }
    if (status == 504) {
        return CLI_TIMEOUT;
    }
    return status >= 400 && status < 500 ? CLI_REFUSED : CLI_UNAVAILABLE;
}

static int explain_failure(int code, const struct chp_error *error)
{
    switch (code) {
    case CHP_ECANCELED:
        return cli__fail(CLI_INTERRUPTED, "%s", error->text);
    case CHP_ETIMEOUT:
        return cli__fail(CLI_TIMEOUT, "%s", error->text);
    case CHP_EUNAVAILABLE:
        return cli__fail(
            CLI_UNREACHABLE,
            "%s; is cheops-agent running there? --site, --api or CHEOPS_API choose another",
            error->text);
    case CHP_EINVAL:
        return cli__fail(CLI_USAGE, "%s", error->text);
    default:
        return cli__fail(CLI_UNREACHABLE, "%s", error->text);
    }
}

int cli__explain(struct cli *cli, const struct cli_request *request, int code,
                 const struct cli_response *response, const struct chp_error *error)
{
    if (code != 0) {
        return explain_failure(code, error);
    }
    const char *sentence = sentence_of(cli, response);
    if (sentence == NULL) {
        return cli__fail(exit_of_status(response->status), "%s answers %ld without a reason%s",
                         cli__client_shown(cli->client), response->status,
                         response->status == 404 ? "; is it a cheops agent?" : "");
    }
    if (response->status == 401) {
        return cli__fail(
            CLI_REFUSED,
            "%s; give the token in CHEOPS_API (http://user:token@host:port), CHEOPS_TOKEN, "
            "or ~/.config/cheops/token",
            sentence);
    }
    int exit_code = cli__fail(exit_of_status(response->status), "%s", sentence);
    struct chp_buf caret = {0};
    if (request->scope != NULL && cli__text_caret(&caret, request->scope, sentence)) {
        (void)fputs(chp_buf_text(&caret), stderr);
    }
    chp_buf_deinit(&caret);
    return exit_code;
}

int cli__call(struct cli *cli, const struct cli_request *request, json_t **answer)
{
    struct chp_error error = {0};
    struct cli_response response;
    *answer = NULL;
    int code = cli__client_call(cli->client, request, &response, &error);
    int exit_code = CLI_OK;
    if (code != 0 || response.status < 200 || response.status >= 300) {
        exit_code = cli__explain(cli, request, code, &response, &error);
    } else if (response.body.len > 0) {
        *answer = json_loadb(chp_buf_text(&response.body), response.body.len, 0, NULL);
        if (*answer == NULL) {
            exit_code = cli__fail(CLI_UNREACHABLE,
                                  "what answers at %s is not an agent: its answer is not JSON",
                                  cli__client_shown(cli->client));
        }
    }
    cli__response_deinit(&response);
    return exit_code;
}

int cli__get(struct cli *cli, json_t **answer, const char *format, ...)
{
    char path[4096];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(path, sizeof path, format, args);
    va_end(args);
    *answer = NULL;
    if (len < 0 || (size_t)len >= sizeof path) {
        return cli__fail(CLI_USAGE, "an argument is longer than any id");
    }
    struct cli_request request = {.method = "GET", .path = path};
    return cli__call(cli, &request, answer);
}

const char *cli__url(struct cli *cli, const char *text)
{
    char *escaped = curl_easy_escape(NULL, text, (int)strlen(text));
    CHP_ASSERT(escaped != NULL);
    const char *copy = chp_arena_strdup(&cli->arena, escaped);
    curl_free(escaped);
    return copy;
}

const char *cli__text(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

const char *cli__number(struct cli *cli, const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    if (json_is_real(value)) {
        return chp_arena_printf(&cli->arena, "%.3g", json_real_value(value));
    }
    return json_is_integer(value)
               ? chp_arena_printf(&cli->arena, "%lld", (long long)json_integer_value(value))
               : NULL;
}

const char *cli__joined(struct cli *cli, const json_t *array, const char *separator)
{
    struct chp_buf joined = {0};
    size_t i;
    json_t *item;
    json_array_foreach(array, i, item)
    {
        if (json_is_string(item)) {
            chp_buf_printf(&joined, "%s%s", joined.len == 0 ? "" : separator,
                           json_string_value(item));
        }
    }
    const char *text =
        joined.len == 0 ? NULL : chp_arena_strdup(&cli->arena, chp_buf_text(&joined));
    chp_buf_deinit(&joined);
    return text;
}

const char *cli__when(struct cli *cli, const char *rfc3339)
{
    uint64_t wall_ms;
    if (rfc3339 == NULL || !cli->tty || cli__time_parse(rfc3339, &wall_ms) != 0) {
        return rfc3339;
    }
    struct chp_buf ago = {0};
    cli__time_ago(wall_ms, chp_clock_wall_ms(), &ago);
    const char *text = chp_arena_strdup(&cli->arena, chp_buf_text(&ago));
    chp_buf_deinit(&ago);
    return text;
}

void cli__print_json(const json_t *value)
{
    (void)json_dumpf(value, stdout, JSON_COMPACT | JSON_ENCODE_ANY);
    (void)putchar('\n');
    (void)fflush(stdout);
}

void cli__print_json_array(const json_t *array)
{
    size_t i;
    json_t *item;
    json_array_foreach(array, i, item)
    {
        cli__print_json(item);
    }
}

void cli__print_output(const struct cli *cli, const char *output, bool cut)
{
    size_t lines = 0;
    const char *line = output;
    for (; *line != 0 && (!cli->tty || lines < OUTPUT_LINES_MAX); lines++) {
        size_t len = strcspn(line, "\n");
        size_t shown = len > 0 && line[len - 1] == '\r' && cli->tty ? len - 1 : len;
        struct chp_buf text = {0};
        if (cli->tty) {
            cli__text_escape(&text, line, shown, true);
        } else {
            chp_buf_add(&text, line, shown);
        }
        (void)printf("    %s\n", chp_buf_text(&text));
        chp_buf_deinit(&text);
        line += line[len] == 0 ? len : len + 1;
    }
    size_t more = 0;
    for (; *line != 0; more++) {
        size_t len = strcspn(line, "\n");
        line += line[len] == 0 ? len : len + 1;
    }
    if (more > 0) {
        (void)printf("    … %zu more lines; a pipe or -o json shows all\n", more);
    }
    if (cut) {
        (void)printf("    … the site cut the output here\n");
    }
}

const char *cli__reason_beyond(const char *reason, int64_t exit_code)
{
    char known[64];
    int len = snprintf(known, sizeof known, "exited with status %lld", (long long)exit_code);
    if (reason == NULL || strncmp(reason, known, (size_t)len) != 0) {
        return reason;
    }
    const char *rest = reason + len;
    return rest[0] == 0 ? NULL : strncmp(rest, "; ", 2) == 0 ? rest + 2 : reason;
}

const char *cli__clean(struct cli *cli, const char *text)
{
    if (text == NULL) {
        return NULL;
    }
    struct chp_buf escaped = {0};
    cli__text_escape(&escaped, text, strlen(text), false);
    const char *copy = chp_arena_strdup(&cli->arena, chp_buf_text(&escaped));
    chp_buf_deinit(&escaped);
    return copy;
}

int cli__duration(struct cli *cli, enum cli_opt option, uint64_t fallback_ms, uint64_t *ms)
{
    *ms = fallback_ms;
    const char *text = cli__arg(&cli->args, option);
    struct chp_error error = {0};
    if (text == NULL || cli__duration_parse(text, ms, &error) == 0) {
        return CLI_OK;
    }
    return cli__fail(CLI_USAGE, "--%s: %s", cli__options[option].name, error.text);
}

int cli__integer(struct cli *cli, enum cli_opt option, uint64_t fallback, uint64_t *number)
{
    *number = fallback;
    const char *text = cli__arg(&cli->args, option);
    if (text == NULL) {
        return CLI_OK;
    }
    size_t digits = strspn(text, "0123456789");
    *number = strtoull(text, NULL, 10);
    if (digits == 0 || digits > 16 || text[digits] != 0 || *number > (UINT64_C(1) << 53)) {
        return cli__fail(CLI_USAGE, "--%s takes a whole number, not '%s'",
                         cli__options[option].name, text);
    }
    return CLI_OK;
}
