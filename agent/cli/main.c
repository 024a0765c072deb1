/* SPDX-License-Identifier: AGPL-3.0-only */
/* `cheops`: parses by the table, finds the agent, runs the verb. */
#include "cli/cli.h"

#include <errno.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void look_at_terminal(struct cli *cli)
{
    const char *term = getenv("TERM");
    const char *no_color = getenv("NO_COLOR");
    bool dumb = term == NULL || term[0] == 0 || strcmp(term, "dumb") == 0;
    cli->tty = isatty(STDOUT_FILENO) != 0;
    cli->live = cli->tty && !dumb;
    cli->color = cli->live && (no_color == NULL || no_color[0] == 0);
}

static int run(struct cli *cli, int argc, char *const *argv)
{
    struct chp_error error = {0};
    int code = cli__args_parse(argc, argv, &cli->arena, &cli->args, &error);
    if (code != 0) {
        return cli__fail(CLI_USAGE, "%s", error.text);
    }
    if (cli->args.help) {
        cli__help_print(cli->args.command, cli->args.group);
        return CLI_OK;
    }
    const char *format = cli__arg(&cli->args, OPT_OUTPUT);
    cli->json = format != NULL && strcmp(format, "json") == 0;
    if (cli->args.command->offline) {
        return cli->args.command->run(cli);
    }
    struct cli_endpoint endpoint;
    code = cli__endpoint_find(cli__arg(&cli->args, OPT_SITE), cli__arg(&cli->args, OPT_API),
                              &cli->arena, &endpoint, &error);
    if (code == CHP_ENOTFOUND && cli->args.command->about_site) {
        code = cli__endpoint_find(NULL, NULL, &cli->arena, &endpoint, &error);
    }
    if (code != 0) {
        return cli__fail(CLI_USAGE, "%s", error.text);
    }
    cli->client = cli__client_new(&endpoint);
    int exit_code = cli->args.command->run(cli);
    cli__client_free(cli->client);
    /* Ctrl-C while a file was read looks like one that cannot be. */
    return exit_code == CLI_USAGE && cli__interrupted() ? CLI_INTERRUPTED : exit_code;
}

int main(int argc, char **argv)
{
    struct cli cli = {0};
    /* The API speaks UTF-8, and so does what is printed, whatever the locale. */
    if (setlocale(LC_CTYPE, "C.UTF-8") == NULL) {
        (void)setlocale(LC_CTYPE, "");
    }
    look_at_terminal(&cli);
    int exit_code = run(&cli, argc, argv);
    if (fflush(stdout) != 0 || ferror(stdout) != 0) {
        exit_code = cli__fail(exit_code == CLI_OK ? CLI_FAILED : exit_code,
                              "cannot write the answer: %s", strerror(errno));
    }
    chp_arena_deinit(&cli.arena);
    return exit_code;
}
