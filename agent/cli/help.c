/* SPDX-License-Identifier: AGPL-3.0-only */
/* --help, from the table. */
#include "cli/cli.h"
#include "cli/text.h"

#include <string.h>

enum { HELP_COLUMNS = 80, OPTION_COLUMNS = 28, VERB_COLUMNS = 20 };

static const char exit_codes[] =
    "Exit codes:\n"
    "    0  success\n"
    "    1  some site failed, refused or is in doubt; doctor found something\n"
    "    2  the command line is wrong\n"
    "    3  the agent refused (HTTP 4xx)\n"
    "    4  the time was over while waiting; an operation goes on\n"
    "    5  no agent was reached\n"
    "    6  the agent cannot serve now (503), or is too busy (429): try again\n"
    "  130  interrupted; an operation goes on\n";

static const char environment[] =
    "Which agent: --api URL, else --site NAME (the variable CHEOPS_API_<NAME>, in upper\n"
    "case with _ for what is no letter or digit, else a line 'NAME URL' of\n"
    "~/.config/cheops/sites), else CHEOPS_API, else http://127.0.0.1:8440. A URL is\n"
    "http://[user:token@]host:port or unix:/path.\n"
    "Token: in the URL, else CHEOPS_TOKEN, else the file CHEOPS_TOKEN_FILE, else\n"
    "~/.config/cheops/token (mode 0600).\n";

/* Words of text from column `indent` on, wrapped; the cursor stands at `column`. */
static void print_wrapped(const char *text, size_t column, size_t indent)
{
    for (const char *word = text; *word != 0;) {
        size_t len = strcspn(word, " ");
        struct chp_buf piece = {0};
        chp_buf_add(&piece, word, len);
        size_t width = cli__text_width(chp_buf_text(&piece));
        if (column > indent && column + 1 + width > HELP_COLUMNS) {
            (void)printf("\n%*s", (int)indent, "");
            column = indent;
        }
        (void)printf("%s%s", column > indent ? " " : "", chp_buf_text(&piece));
        column += width + (column > indent ? 1 : 0);
        chp_buf_deinit(&piece);
        word += len + strspn(word + len, " ");
    }
    (void)printf("\n");
}

static void print_entry(const char *left, const char *right, size_t columns)
{
    size_t used = 2 + cli__text_width(left);
    (void)printf("  %s", left);
    if (used + 2 > columns) {
        (void)printf("\n");
        used = 0;
    }
    (void)printf("%*s", (int)(columns - used), "");
    print_wrapped(right, columns, columns);
}

static void print_option(const struct cli_option *option)
{
    struct chp_buf left = {0};
    if (option->letter != 0) {
        chp_buf_printf(&left, "-%c, ", option->letter);
    }
    chp_buf_printf(&left, "--%s%s%s", option->name, option->argument[0] == 0 ? "" : " ",
                   option->argument);
    print_entry(chp_buf_text(&left), option->help, OPTION_COLUMNS);
    chp_buf_deinit(&left);
}

static void print_options(const char *title, uint32_t options)
{
    (void)printf("\n%s:\n", title);
    for (int i = 0; i < OPT_COUNT; i++) {
        if ((options >> i & 1U) != 0) {
            print_option(&cli__options[i]);
        }
    }
}

static void print_verbs(const char *group)
{
    for (size_t i = 0; i < cli__command_count; i++) {
        const struct cli_command *command = &cli__commands[i];
        size_t len = cli__group_length(command);
        bool wanted =
            group == NULL || (len == strlen(group) && strncmp(command->name, group, len) == 0);
        if (wanted && !command->hidden) {
            print_entry(command->name, command->summary, VERB_COLUMNS);
        }
    }
}

static void print_program(void)
{
    (void)printf(
        "Usage: cheops [--site NAME] COMMAND …\n\n"
        "Operations that reach every site of their scope, through the agent of one.\n\n"
        "  cheops exec --id greeting --type set --scope 'Nantes & Rennes' -- touch /tmp/hello\n\n"
        "Commands ('cheops COMMAND --help' explains one):\n");
    print_verbs(NULL);
    print_options("Options of every command", cli__global_options);
    (void)printf("\n%s\n%s", environment, exit_codes);
}

void cli__help_print(const struct cli_command *command, const char *group)
{
    if (command == NULL && group == NULL) {
        print_program();
        return;
    }
    if (command == NULL) {
        (void)printf("Usage: cheops %s COMMAND …\n\nCommands:\n", group);
        print_verbs(group);
        return;
    }
    (void)printf("Usage: cheops %s %s%s\n\n", command->name,
                 command->options == 0 ? "" : "[OPTION…] ", command->operands);
    print_wrapped(command->summary, 0, 0);
    if (command->details[0] != 0) {
        (void)printf("\n");
        print_wrapped(command->details, 0, 0);
    }
    if (command->options != 0) {
        print_options("Options", command->options);
    }
    print_options("Options of every command", cli__global_options);
    (void)printf("\n%s", exit_codes);
}

int cli__cmd_help(struct cli *cli)
{
    const struct cli_args *args = &cli->args;
    if (args->operand_count == 0) {
        cli__help_print(NULL, NULL);
        return CLI_OK;
    }
    const char *first = args->operands[0];
    const char *name = args->operand_count == 1
                           ? first
                           : chp_arena_printf(&cli->arena, "%s %s", first, args->operands[1]);
    const struct cli_command *command = cli__command_find(name);
    if (command == NULL && !(args->operand_count == 1 && cli__group_exists(first))) {
        return cli__fail(CLI_USAGE, "there is no command '%s'; 'cheops --help' lists them", name);
    }
    cli__help_print(command, command == NULL ? first : NULL);
    return CLI_OK;
}
