/* SPDX-License-Identifier: AGPL-3.0-only */
#include "cli/cli.h"
#include "cli/text.h"

static void print_check(struct cli *cli, const json_t *check)
{
    bool ok = json_is_true(json_object_get(check, "ok"));
    const char *name = cli__text(check, "check");
    const char *detail = cli__text(check, "detail");
    const char *advice = cli__text(check, "advice");
    (void)printf("%s%-4s%s  %-16s %s\n", cli__color(cli, ok ? CLI_GREEN : CLI_RED),
                 ok ? "ok" : "FAIL", cli__color(cli, CLI_PLAIN),
                 name == NULL ? "-" : cli__clean(cli, name),
                 detail == NULL ? "" : cli__clean(cli, detail));
    if (advice != NULL && advice[0] != 0) {
        (void)printf("      %-16s → %s\n", "", cli__clean(cli, advice));
    }
}

int cli__cmd_doctor(struct cli *cli)
{
    json_t *answer = NULL;
    int exit_code = cli__get(cli, &answer, "/v1/doctor");
    if (exit_code != CLI_OK) {
        return exit_code;
    }
    if (cli->json) {
        cli__print_json(answer);
    } else {
        size_t i;
        json_t *check;
        json_array_foreach(json_object_get(answer, "checks"), i, check)
        {
            print_check(cli, check);
        }
    }
    bool ok = json_is_true(json_object_get(answer, "ok"));
    json_decref(answer);
    return ok ? CLI_OK : CLI_FAILED;
}
