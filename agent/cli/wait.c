/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Waiting survives the agent: an answer that breaks off in the middle (a restarted agent, a
 * connection cut) is taken up again by watching the operation, since what was admitted goes on in
 * any case.
 */
#include "cli/wait.h"

#include "base/clock.h"
#include "base/uuid.h"
#include "cli/progress.h"
#include "cli/sse.h"

#include <stdlib.h>
#include <string.h>

enum {
    TIMEOUT_MS = 60 * 1000,
    GRACE_MS =
        3 * 1000, /* the agent says itself when the time is over; this is for one that hangs */
    RESUME_TRIES = 6,
    RESUME_FIRST_MS = 1000,
    RESUME_MAX_MS = 10 * 1000,
};

struct wait {
    struct cli *cli;
    struct cli_progress *progress;
    struct cli_sse sse;
    bool events; /* lines are server-sent events */
    bool ended;  /* by a completed or timeout line */
    bool progressed;
    uint64_t end_ms; /* monotonic; UINT64_MAX: never */
};

const char *cli__new_key(struct cli *cli)
{
    struct chp_uuid uuid = chp_uuid_new();
    char *text = chp_arena_alloc(&cli->arena, CHP_UUID_TEXT_BYTES);
    chp_uuid_format(&uuid, text);
    return text;
}

static bool take_object(struct wait *wait, const char *text, size_t len)
{
    json_t *object = json_loadb(text, len, 0, NULL);
    bool more = true;
    if (json_is_object(object)) {
        wait->progressed = true;
        more = cli__progress_feed(wait->progress, object);
        wait->ended = wait->ended || !more;
    }
    json_decref(object);
    return more;
}

static bool wait_on_line(void *user, const char *line, size_t len)
{
    struct wait *wait = user;
    if (!wait->events) {
        return len == 0 || take_object(wait, line, len);
    }
    return !cli__sse_line(&wait->sse, line, len, CLI_LINE_MAX_BYTES) ||
           take_object(wait, chp_buf_text(&wait->sse.data), wait->sse.data.len);
}

static char *operation_path(struct wait *wait, const char *suffix)
{
    const char *operation = cli__progress_operation(wait->progress);
    return chp_arena_printf(&wait->cli->arena, "/v1/operations/%s%s",
                            cli__url(wait->cli, operation), suffix);
}

static void wait_on_tick(void *user)
{
    struct wait *wait = user;
    cli__progress_tick(wait->progress);
}

static uint64_t left_ms(const struct wait *wait)
{
    uint64_t now = chp_clock_mono_ms();
    return wait->end_ms == UINT64_MAX ? 0 : wait->end_ms > now ? wait->end_ms - now : 1;
}

static bool time_is_over(const struct wait *wait)
{
    return chp_clock_mono_ms() >= wait->end_ms;
}

/* Watches until the end, the deadline, or until the agent stays away. 0 or a code of
 * cli__client_call. */
static int watch(struct wait *wait, struct cli_request *request, struct cli_response *response,
                 struct chp_error *error)
{
    int code = 0;
    struct chp_backoff pause;
    cli__backoff_init(&pause, RESUME_FIRST_MS, RESUME_MAX_MS);
    wait->events = true;
    for (unsigned tries = 0; tries < RESUME_TRIES && !wait->ended && !time_is_over(wait); tries++) {
        if (tries > 0) {
            cli__sleep(chp_backoff_next_ms(&pause));
            cli__response_deinit(response);
        }
        *request = (struct cli_request){.method = "GET",
                                        .path = operation_path(wait, "/watch?progress=true"),
                                        .accept = "text/event-stream",
                                        .timeout_ms = left_ms(wait),
                                        .on_line = wait_on_line,
                                        .on_tick = wait_on_tick,
                                        .user = wait};
        wait->progressed = false;
        cli__sse_deinit(&wait->sse);
        code = cli__client_call(wait->cli->client, request, response, error);
        if (wait->ended || code == CHP_ECANCELED || code == CHP_ETIMEOUT) {
            break;
        }
        if (code == 0 && response->status != 200 && response->status != 503) {
            break;
        }
        if (wait->progressed) {
            tries = 0;
            chp_backoff_reset(&pause);
        }
    }
    return code;
}

static int goes_on(struct wait *wait, int exit_code, const char *why)
{
    const char *operation = cli__progress_operation(wait->progress);
    const char *sites = cli__progress_waiting(wait->progress);
    return cli__fail(exit_code, "%s%s%s; the operation goes on, watch it with: cheops op watch %s",
                     why, sites[0] == 0 ? "" : " while waiting for ", sites, operation);
}

/* The exit code of a wait that has begun: the operation is known to the agent. */
static int conclude(struct wait *wait, int code, const struct cli_request *request,
                    const struct cli_response *response, const struct chp_error *error)
{
    int exit_code = cli__progress_end(wait->progress);
    if (cli__progress_completed(wait->progress) || exit_code != CLI_TIMEOUT) {
        return exit_code;
    }
    if (code == CHP_ECANCELED || cli__interrupted()) {
        return goes_on(wait, CLI_INTERRUPTED, "interrupted");
    }
    if (wait->ended || code == CHP_ETIMEOUT || time_is_over(wait)) {
        return goes_on(wait, CLI_TIMEOUT, "the time is over");
    }
    if (code == 0 && response->status != 200) {
        return cli__explain(wait->cli, request, code, response, error);
    }
    return goes_on(wait, CLI_UNREACHABLE,
                   error->text[0] == 0 ? "the agent ended the answer" : error->text);
}

static void wait_deinit(struct wait *wait)
{
    cli__sse_deinit(&wait->sse);
    cli__progress_free(wait->progress);
}

int cli__watch(struct cli *cli, const char *operation, uint64_t timeout_ms)
{
    json_t *known = NULL;
    int exit_code = cli__get(cli, &known, "/v1/operations/%s", cli__url(cli, operation));
    if (exit_code != CLI_OK) {
        return exit_code;
    }
    const char *driver = cli__text(known, "driver");
    struct wait wait = {.cli = cli,
                        .end_ms = timeout_ms == 0 ? UINT64_MAX : chp_clock_mono_ms() + timeout_ms};
    wait.progress =
        cli__progress_new(cli, operation, driver != NULL && strcmp(driver, "http") == 0);
    wait.ended = !cli__progress_feed(wait.progress, known);
    json_decref(known);
    struct cli_request request = {0};
    struct cli_response response = {0};
    struct chp_error error = {0};
    int code = watch(&wait, &request, &response, &error);
    exit_code = conclude(&wait, code, &request, &response, &error);
    cli__response_deinit(&response);
    wait_deinit(&wait);
    return exit_code;
}

static void warn_of(struct cli *cli, const json_t *accepted)
{
    const char *warning = cli__text(accepted, "warning");
    if (warning != NULL) {
        cli__warn("%s", cli__clean(cli, warning));
    }
    /* Not when this very invocation had to ask twice. */
    if (cli__given(&cli->args, OPT_KEY) && json_is_true(json_object_get(accepted, "duplicate"))) {
        cli__warn("the key was used before: nothing new runs, this is what came of it");
    }
}

static int submit_only(struct cli *cli, struct cli_request *request)
{
    json_t *accepted = NULL;
    request->path = "/v1/operations";
    int exit_code = cli__call(cli, request, &accepted);
    if (exit_code != CLI_OK) {
        return exit_code;
    }
    warn_of(cli, accepted);
    const char *operation = cli__text(accepted, "operation");
    if (cli->json) {
        cli__print_json(accepted);
    } else if (operation != NULL) {
        (void)printf("%s\n", operation);
    }
    json_decref(accepted);
    return CLI_OK;
}

/* The first line of the answer is the acceptance, which may carry a warning. */
static bool submit_on_line(void *user, const char *line, size_t len)
{
    struct wait *wait = user;
    bool first = cli__progress_operation(wait->progress) == NULL;
    if (first) {
        json_t *accepted = json_loadb(line, len, 0, NULL);
        warn_of(wait->cli, accepted);
        json_decref(accepted);
    }
    return wait_on_line(wait, line, len);
}

static int submit_and_wait(struct cli *cli, struct cli_request *request, uint64_t timeout_ms,
                           bool status)
{
    struct wait wait = {.cli = cli, .end_ms = chp_clock_mono_ms() + timeout_ms + GRACE_MS};
    wait.progress = cli__progress_new(cli, NULL, status);
    request->path =
        chp_arena_printf(&cli->arena, "/v1/operations?wait=true&progress=true&timeout_ms=%llu",
                         (unsigned long long)timeout_ms);
    request->timeout_ms = timeout_ms + GRACE_MS;
    request->on_line = submit_on_line;
    request->on_tick = wait_on_tick;
    request->user = &wait;
    struct cli_response response = {0};
    struct chp_error error = {0};
    int code = cli__client_call(cli->client, request, &response, &error);
    int exit_code;
    if (cli__progress_operation(wait.progress) == NULL) {
        exit_code = cli__explain(cli, request, code, &response, &error);
        if (code == CHP_ECANCELED || code == CHP_ETIMEOUT || code == CHP_EIO) {
            cli__warn("it is not known whether the operation was accepted; to ask again without "
                      "running it twice, "
                      "repeat the command with --key %s",
                      request->key);
        }
    } else {
        struct cli_request again = *request;
        if (!wait.ended && code != CHP_ECANCELED && code != CHP_ETIMEOUT) {
            cli__response_deinit(&response);
            response = (struct cli_response){0};
            code = watch(&wait, &again, &response, &error);
        }
        exit_code = conclude(&wait, code, &again, &response, &error);
    }
    cli__response_deinit(&response);
    wait_deinit(&wait);
    return exit_code;
}

int cli__submit(struct cli *cli, const json_t *body, const char *key, bool status)
{
    uint64_t timeout_ms;
    int exit_code = cli__duration(cli, OPT_TIMEOUT, TIMEOUT_MS, &timeout_ms);
    if (exit_code != CLI_OK) {
        return exit_code;
    }
    char *text = json_dumps(body, JSON_COMPACT);
    CHP_ASSERT(text != NULL);
    struct cli_request request = {.method = "POST",
                                  .body = chp_bytes_of(text),
                                  .key = key,
                                  .scope = cli__arg(&cli->args, OPT_SCOPE)};
    exit_code = cli__given(&cli->args, OPT_NO_WAIT)
                    ? submit_only(cli, &request)
                    : submit_and_wait(cli, &request, timeout_ms, status);
    free(text);
    return exit_code;
}
