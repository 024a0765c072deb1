/* SPDX-License-Identifier: AGPL-3.0-only */
/* Events of a site, replayed from a number; --follow goes on over lost connections from the last
 * number that was shown. */
#include "cli/cli.h"
#include "cli/sse.h"
#include "cli/text.h"

#include <string.h>

enum { PAGE_EVENTS = 100, PAUSE_FIRST_MS = 1000, PAUSE_MAX_MS = 10 * 1000 };

static void print_event(struct cli *cli, const json_t *event)
{
    if (cli->json) {
        cli__print_json(event);
        return;
    }
    static const char *const members[] = {"site", "resource", "operation"};
    const char *kind = cli__text(event, "kind");
    const char *number = cli__number(cli, event, "number");
    const char *at = cli__text(event, "at");
    (void)printf("%6s  %s  %-22s", number == NULL ? "-" : number,
                 at == NULL ? "-" : cli__clean(cli, at),
                 kind == NULL ? "-" : cli__clean(cli, kind));
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
        const char *text = cli__text(event, members[i]);
        (void)printf("  %s", text == NULL ? "-" : cli__clean(cli, text));
    }
    const json_t *data = json_object_get(event, "data");
    if (json_object_size(data) > 0) {
        (void)printf("  ");
        (void)json_dumpf(data, stdout, JSON_COMPACT);
    }
    (void)printf("\n");
    (void)fflush(stdout);
}

/* Pages until limit events or the end; without a number from the oldest that is kept. */
static int print_past(struct cli *cli, uint64_t after, uint64_t limit)
{
    bool from_oldest = !cli__given(&cli->args, OPT_AFTER);
    for (uint64_t left = limit; left > 0; from_oldest = false) {
        json_t *page = NULL;
        unsigned long long count_max = left < PAGE_EVENTS ? left : PAGE_EVENTS;
        int exit_code = from_oldest ? cli__get(cli, &page, "/v1/events?limit=%llu", count_max)
                                    : cli__get(cli, &page, "/v1/events?after=%llu&limit=%llu",
                                               (unsigned long long)after, count_max);
        const json_t *events = json_object_get(page, "events");
        size_t count = json_array_size(events);
        for (size_t i = 0; i < count; i++) {
            const json_t *event = json_array_get(events, i);
            uint64_t number = (uint64_t)json_integer_value(json_object_get(event, "number"));
            print_event(cli, event);
            after = number > after ? number : after;
        }
        json_decref(page);
        if (exit_code != CLI_OK || count == 0) {
            return exit_code;
        }
        left -= count < left ? count : left;
    }
    return CLI_OK;
}

struct follower {
    struct cli *cli;
    struct cli_sse sse;
    bool from_now; /* no --after, and nothing has come yet */
    uint64_t after;
};

static bool follower_on_line(void *user, const char *line, size_t len)
{
    struct follower *follower = user;
    if (!cli__sse_line(&follower->sse, line, len, CLI_LINE_MAX_BYTES)) {
        return true;
    }
    json_t *event = json_loadb(chp_buf_text(&follower->sse.data), follower->sse.data.len, 0, NULL);
    uint64_t number = (uint64_t)json_integer_value(json_object_get(event, "number"));
    if (json_is_object(event) && number > follower->after) {
        print_event(follower->cli, event);
        follower->after = number;
        follower->from_now = false;
    }
    json_decref(event);
    return true;
}

static const char *follow_path(const struct follower *follower)
{
    return follower->from_now
               ? "/v1/events?follow=true"
               : chp_arena_printf(&follower->cli->arena, "/v1/events?follow=true&after=%llu",
                                  (unsigned long long)follower->after);
}

static int follow(struct cli *cli, uint64_t after)
{
    struct follower follower = {
        .cli = cli, .after = after, .from_now = !cli__given(&cli->args, OPT_AFTER)};
    int exit_code = CLI_OK;
    bool connected = false;
    struct chp_backoff pause;
    cli__backoff_init(&pause, PAUSE_FIRST_MS, PAUSE_MAX_MS);
    for (;;) {
        struct cli_request request = {.method = "GET",
                                      .path = follow_path(&follower),
                                      .accept = "text/event-stream",
                                      .on_line = follower_on_line,
                                      .user = &follower};
        struct cli_response response;
        struct chp_error error = {0};
        int code = cli__client_call(cli->client, &request, &response, &error);
        bool again = code == CHP_EIO || (code == 0 && response.status == 200) ||
                     (connected && (code == CHP_EUNAVAILABLE || response.status == 503));
        connected = connected || again;
        if (code == 0 && response.status == 200) {
            chp_backoff_reset(&pause);
        }
        if (code == CHP_ECANCELED || cli__interrupted()) {
            exit_code = CLI_INTERRUPTED;
        } else if (!again) {
            exit_code = cli__explain(cli, &request, code, &response, &error);
        }
        cli__response_deinit(&response);
        if (exit_code != CLI_OK) {
            break;
        }
        cli__warn("the agent is away; events go on when it is back");
        cli__sleep(chp_backoff_next_ms(&pause));
    }
    cli__sse_deinit(&follower.sse);
    return exit_code;
}

int cli__cmd_events(struct cli *cli)
{
    uint64_t after;
    uint64_t limit;
    int exit_code = cli__integer(cli, OPT_AFTER, 0, &after);
    if (exit_code == CLI_OK) {
        exit_code = cli__integer(cli, OPT_LIMIT, UINT64_MAX, &limit);
    }
    if (exit_code != CLI_OK) {
        return exit_code;
    }
    return cli__given(&cli->args, OPT_FOLLOW) ? follow(cli, after) : print_past(cli, after, limit);
}
