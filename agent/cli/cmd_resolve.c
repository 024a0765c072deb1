/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * `op resolve`: says what became of executions in doubt. Of many, the ids are read first, since the
 * list changes as they are resolved, and then resolved one by one, oldest first.
 *
 * `resource rebuild`: the same call, by any operation of the resource.
 */
#include "cli/cli.h"

#include "base/mem.h"
#include "base/uuid.h"

#include <stdlib.h>
#include <string.h>

enum { PAGE = 500 };

static const char *const resolutions[] = {"done", "failed", "rerun"};

struct resolve {
    const char *site;
    const char *resolution;
    uint64_t timeout_ms;
    char **ids; /* newest first */
    size_t count;
    size_t cap;
};

/* One of them; *answer is a new reference. */
static int resolve_one(struct cli *cli, const struct resolve *resolve, const char *id,
                       json_t **answer)
{
    json_t *body = json_pack("{s:s,s:s}", "site", resolve->site, "resolution", resolve->resolution);
    char *text = body == NULL ? NULL : json_dumps(body, JSON_COMPACT);
    json_decref(body);
    if (text == NULL) {
        return cli__fail(CLI_USAGE, "the name of the site is not UTF-8");
    }
    char path[512];
    int len = snprintf(path, sizeof path, "/v1/operations/%s/resolve?timeout_ms=%llu", id,
                       (unsigned long long)resolve->timeout_ms);
    struct cli_request request = {.method = "POST",
                                  .path = path,
                                  .body = chp_bytes(text, strlen(text)),
                                  .timeout_ms = resolve->timeout_ms + 5000};
    int exit_code = len < 0 || (size_t)len >= sizeof path
                        ? cli__fail(CLI_USAGE, "the operation's id is longer than any")
                        : cli__call(cli, &request, answer);
    free(text);
    return exit_code;
}

static int resolve_given(struct cli *cli, const struct resolve *resolve, const char *id)
{
    json_t *answer = NULL;
    int exit_code = resolve_one(cli, resolve, cli__url(cli, id), &answer);
    if (exit_code == CLI_OK && cli->json) {
        cli__print_json(answer);
    } else if (exit_code == CLI_OK) {
        bool again = strcmp(resolve->resolution, "rerun") == 0;
        (void)printf("%s %s%s at %s\n", cli__clean(cli, id),
                     again ? "runs again" : "is resolved as ", again ? "" : resolve->resolution,
                     cli__clean(cli, resolve->site));
    }
    json_decref(answer);
    return exit_code;
}

static void keep(struct resolve *resolve, const json_t *operations)
{
    size_t i;
    json_t *operation;
    json_array_foreach(operations, i, operation)
    {
        const char *id = cli__text(operation, "id");
        if (id == NULL || strlen(id) >= CHP_UUID_TEXT_BYTES) {
            continue;
        }
        if (resolve->count == resolve->cap) {
            resolve->cap = resolve->cap == 0 ? PAGE : resolve->cap * 2;
            resolve->ids = chp_realloc(resolve->ids, resolve->cap * sizeof *resolve->ids);
        }
        resolve->ids[resolve->count++] = chp_strdup(id);
    }
}

static int read_ids(struct cli *cli, struct resolve *resolve, const char *resource)
{
    size_t before;
    do {
        json_t *list = NULL;
        before = resolve->count;
        int exit_code = cli__get(
            cli, &list, "/v1/operations?state=in-doubt&limit=%d&site=%s%s%s%s%s", PAGE,
            cli__url(cli, resolve->site),
            resource == NULL ? "" : "&resource=", resource == NULL ? "" : cli__url(cli, resource),
            before == 0 ? "" : "&before=", before == 0 ? "" : resolve->ids[before - 1]);
        if (exit_code != CLI_OK) {
            return exit_code;
        }
        keep(resolve, json_object_get(list, "operations"));
        json_decref(list);
    } while (resolve->count == before + PAGE && !cli__interrupted());
    return CLI_OK;
}

/* An agent knows of doubts elsewhere only what it is told as the origin. */
static int check_asked(struct cli *cli, const struct resolve *resolve)
{
    json_t *status = NULL;
    int exit_code = cli__get(cli, &status, "/v1/status");
    const char *asked = cli__text(status, "site");
    if (exit_code == CLI_OK && asked != NULL && strcmp(asked, resolve->site) != 0) {
        cli__warn("%s knows only of the operations that entered there: to find all, ask the agent "
                  "of %s",
                  cli__clean(cli, asked), cli__clean(cli, resolve->site));
    }
    json_decref(status);
    return exit_code;
}

static void tell_progress(const struct cli *cli, size_t resolved, size_t count)
{
    if (cli->live && !cli->json) {
        (void)printf("\r%zu of %zu", resolved, count);
        (void)fflush(stdout);
    }
}

/* Refused ones are told and passed over: somebody else may have resolved them meanwhile. */
static int resolve_all(struct cli *cli, struct resolve *resolve)
{
    size_t resolved = 0;
    int worst = CLI_OK;
    for (size_t i = resolve->count; i > 0 && !cli__interrupted(); i--) {
        json_t *answer = NULL;
        int exit_code = resolve_one(cli, resolve, resolve->ids[i - 1], &answer);
        if (exit_code == CLI_OK && cli->json) {
            cli__print_json(answer);
        }
        json_decref(answer);
        resolved += exit_code == CLI_OK;
        worst = exit_code == CLI_OK ? worst : exit_code;
        if (exit_code != CLI_OK && exit_code != CLI_REFUSED) {
            break;
        }
        tell_progress(cli, resolved, resolve->count);
    }
    if (!cli->json) {
        (void)printf("%s%zu of %zu executions in doubt at %s %s%s\n", cli->live ? "\r" : "",
                     resolved, resolve->count, cli__clean(cli, resolve->site),
                     strcmp(resolve->resolution, "rerun") == 0 ? "run again" : "are resolved as ",
                     strcmp(resolve->resolution, "rerun") == 0 ? "" : resolve->resolution);
    }
    return cli__interrupted() ? CLI_INTERRUPTED : worst;
}

static int read_options(struct cli *cli, struct resolve *resolve, bool many)
{
    size_t wanted = many ? 1 : 2;
    resolve->site = cli__arg(&cli->args, OPT_SITE);
    resolve->resolution = cli->args.operands[cli->args.operand_count - 1];
    if (resolve->site == NULL) {
        return cli__fail(CLI_USAGE, "say at which site the execution is in doubt: --site NAME");
    }
    if (cli->args.operand_count != wanted) {
        return cli__fail(CLI_USAGE,
                         many ? "an ID does not go together with --resource or --all"
                              : "name one operation and how it is resolved, ID done|failed|rerun, "
                                "or many by --resource ID or --all");
    }
    for (size_t i = 0; i < sizeof resolutions / sizeof resolutions[0]; i++) {
        if (strcmp(resolve->resolution, resolutions[i]) == 0) {
            return cli__duration(cli, OPT_TIMEOUT, 30000, &resolve->timeout_ms);
        }
    }
    return cli__fail(CLI_USAGE, "'%s' is no resolution: done, failed and rerun are",
                     cli__clean(cli, resolve->resolution));
}

int cli__cmd_op_resolve(struct cli *cli)
{
    struct resolve resolve = {0};
    const char *resource = cli__arg(&cli->args, OPT_RESOURCE);
    bool many = resource != NULL || cli__given(&cli->args, OPT_ALL);
    int exit_code = read_options(cli, &resolve, many);
    if (exit_code == CLI_OK && !many) {
        return resolve_given(cli, &resolve, cli->args.operands[0]);
    }
    if (exit_code == CLI_OK) {
        exit_code = check_asked(cli, &resolve);
    }
    if (exit_code == CLI_OK) {
        exit_code = read_ids(cli, &resolve, resource);
    }
    if (exit_code == CLI_OK) {
        exit_code = resolve_all(cli, &resolve);
    }
    for (size_t i = 0; i < resolve.count; i++) {
        free(resolve.ids[i]);
    }
    free(resolve.ids);
    return exit_code;
}

int cli__cmd_resource_rebuild(struct cli *cli)
{
    json_t *resource = NULL;
    json_t *answer = NULL;
    struct resolve resolve = {.site = cli__arg(&cli->args, OPT_SITE),
                              .resolution = cli__given(&cli->args, OPT_FROM_EMPTY) ? "rebuild-empty"
                                                                                   : "rebuild"};
    if (resolve.site == NULL) {
        return cli__fail(CLI_USAGE, "say at which site it is rebuilt: --site NAME");
    }
    int exit_code = cli__duration(cli, OPT_TIMEOUT, 30000, &resolve.timeout_ms);
    if (exit_code == CLI_OK) {
        exit_code =
            cli__get(cli, &resource, "/v1/resources/%s", cli__url(cli, cli->args.operands[0]));
    }
    const char *last = exit_code == CLI_OK ? cli__text(resource, "last_operation") : NULL;
    if (last != NULL) {
        exit_code = resolve_one(cli, &resolve, cli__url(cli, last), &answer);
    }
    if (exit_code == CLI_OK && cli->json) {
        cli__print_json(answer);
    } else if (exit_code == CLI_OK) {
        (void)printf("%s is rebuilt at %s\n", cli__clean(cli, cli->args.operands[0]),
                     cli__clean(cli, resolve.site));
    }
    json_decref(resource);
    json_decref(answer);
    return exit_code;
}
