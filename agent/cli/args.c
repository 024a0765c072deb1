/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Parsing of the command line by the table. Options may stand anywhere before --, since people put
 * --site in front and
 * --data at the end; getopt_long was rejected because it reorders or stops, and cannot explain a
 * missing --.
 */
#include "cli/args.h"

#include "base/suggest.h"

#include <stdio.h>
#include <string.h>

const struct cli_option cli__options[OPT_COUNT] = {
#define X(id, name_, letter_, argument_, repeats_, complete_, help_)                               \
    [OPT_##id] = {.name = (name_),                                                                 \
                  .letter = (letter_),                                                             \
                  .argument = (argument_),                                                         \
                  .repeats = (repeats_),                                                           \
                  .complete = CLI_COMPLETE_##complete_,                                            \
                  .help = (help_)},
    CLI_OPTIONS(X)
#undef X
};

const char *cli__arg(const struct cli_args *args, enum cli_opt option)
{
    size_t count = args->options[option].count;
    return count == 0 ? NULL : args->options[option].values[count - 1];
}

bool cli__given(const struct cli_args *args, enum cli_opt option)
{
    return args->options[option].count > 0;
}

const struct cli_command *cli__command_find(const char *name)
{
    for (size_t i = 0; i < cli__command_count; i++) {
        if (strcmp(cli__commands[i].name, name) == 0) {
            return &cli__commands[i];
        }
    }
    return NULL;
}

size_t cli__group_length(const struct cli_command *command)
{
    const char *space = strchr(command->name, ' ');
    return space == NULL ? 0 : (size_t)(space - command->name);
}

bool cli__group_exists(const char *name)
{
    for (size_t i = 0; i < cli__command_count; i++) {
        size_t len = cli__group_length(&cli__commands[i]);
        if (len > 0 && len == strlen(name) && strncmp(cli__commands[i].name, name, len) == 0) {
            return true;
        }
    }
    return false;
}

/* First words when group is NULL, else the second words of that group; in arena. */
static const char **verbs_of(const char *group, struct chp_arena *arena, size_t *count)
{
    const char **verbs = chp_arena_calloc(arena, cli__command_count, sizeof *verbs);
    *count = 0;
    for (size_t i = 0; i < cli__command_count; i++) {
        const struct cli_command *command = &cli__commands[i];
        size_t len = cli__group_length(command);
        if (command->hidden) {
            continue;
        }
        if (group == NULL) {
            verbs[(*count)++] =
                len == 0 ? command->name : chp_arena_strndup(arena, command->name, len);
        } else if (len == strlen(group) && strncmp(command->name, group, len) == 0) {
            verbs[(*count)++] = command->name + len + 1;
        }
    }
    return verbs;
}

/* "; did you mean exec?", or "". */
static const char *hint(const char *word, const char *prefix, const char *const *names,
                        size_t count, struct chp_arena *arena)
{
    const char *near = chp_suggest(word, names, count);
    return near == NULL ? "" : chp_arena_printf(arena, "; did you mean %s%s?", prefix, near);
}

static const char *group_verbs(const char *group, struct chp_arena *arena)
{
    size_t count;
    const char **verbs = verbs_of(group, arena, &count);
    struct chp_buf list = {0};
    chp_suggest_list(&list, verbs, count, 200);
    const char *text = chp_arena_strdup(arena, chp_buf_text(&list));
    chp_buf_deinit(&list);
    return text;
}

struct parser {
    int argc;
    char *const *argv;
    int next;
    struct chp_arena *arena;
    struct cli_args *args;
    struct chp_error *error;
};

static int take_verb(struct parser *parser, const char *word)
{
    struct cli_args *args = parser->args;
    size_t count;
    const char **verbs = verbs_of(args->group, parser->arena, &count);
    const char *near = hint(word, "", verbs, count, parser->arena);
    if (args->group != NULL) {
        const char *name = chp_arena_printf(parser->arena, "%s %s", args->group, word);
        args->command = cli__command_find(name);
        if (args->command == NULL) {
            return chp_error_set(parser->error, CHP_EINVAL,
                                 "there is no '%s' in 'cheops %s', which has %s%s", word,
                                 args->group, group_verbs(args->group, parser->arena), near);
        }
        return 0;
    }
    args->command = cli__command_find(word);
    if (args->command == NULL && cli__group_exists(word)) {
        args->group = word;
    } else if (args->command == NULL) {
        return chp_error_set(parser->error, CHP_EINVAL,
                             "there is no command '%s'%s; 'cheops --help' lists them", word, near);
    }
    return 0;
}

static int take_operand(struct parser *parser, const char *word)
{
    struct cli_args *args = parser->args;
    if (args->command == NULL) {
        return take_verb(parser, word);
    }
    args->operands[args->operand_count++] = word;
    return 0;
}

static int find_option(struct parser *parser, const char *name, size_t len)
{
    for (int i = 0; i < OPT_COUNT; i++) {
        bool letter = len == 1 && cli__options[i].letter == name[0];
        if (letter || (strlen(cli__options[i].name) == len && len > 1 &&
                       strncmp(cli__options[i].name, name, len) == 0)) {
            return i;
        }
    }
    const struct cli_args *args = parser->args;
    if (args->command != NULL && args->command->takes_command && args->operand_count > 0) {
        return chp_error_set(
            parser->error, CHP_EINVAL,
            "unknown option %s; put -- before the command to run: cheops %s … -- %s %s",
            parser->argv[parser->next - 1], args->command->name, args->operands[0],
            parser->argv[parser->next - 1]);
    }
    const char *names[OPT_COUNT];
    for (int i = 0; i < OPT_COUNT; i++) {
        names[i] = cli__options[i].name;
    }
    return chp_error_set(
        parser->error, CHP_EINVAL, "unknown option %s%s", parser->argv[parser->next - 1],
        hint(chp_arena_strndup(parser->arena, name, len), "--", names, OPT_COUNT, parser->arena));
}

static void add_value(struct parser *parser, enum cli_opt option, const char *value)
{
    size_t count = parser->args->options[option].count;
    const char **values = chp_arena_calloc(parser->arena, count + 1, sizeof *values);
    if (count > 0) {
        memcpy(values, parser->args->options[option].values, count * sizeof *values);
    }
    values[count] = value;
    parser->args->options[option].values = values;
    parser->args->options[option].count = count + 1;
}

/* word begins with a dash and is more than that. */
static int take_option(struct parser *parser, const char *word)
{
    bool is_long = word[1] == '-';
    const char *name = word + (is_long ? 2 : 1);
    size_t len = is_long ? strcspn(name, "=") : 1;
    int found = find_option(parser, name, len);
    if (found < 0) {
        return found;
    }
    const struct cli_option *option = &cli__options[found];
    const char *value =
        is_long ? (name[len] == '=' ? name + len + 1 : NULL) : (name[1] != 0 ? name + 1 : NULL);
    if (option->argument[0] == 0 && value != NULL) {
        return chp_error_set(parser->error, CHP_EINVAL, "--%s takes no value", option->name);
    }
    if (option->argument[0] != 0 && value == NULL) {
        if (parser->next >= parser->argc || strcmp(parser->argv[parser->next], "--") == 0) {
            return chp_error_set(parser->error, CHP_EINVAL, "--%s needs a value: --%s %s",
                                 option->name, option->name, option->argument);
        }
        value = parser->argv[parser->next++];
    }
    if (cli__given(parser->args, (enum cli_opt)found) && !option->repeats) {
        return chp_error_set(parser->error, CHP_EINVAL, "--%s was given twice", option->name);
    }
    add_value(parser, (enum cli_opt)found, value == NULL ? "" : value);
    return 0;
}

/* What parsing alone cannot see: options and operands that the verb does not take, or lacks. */
static int check(const struct cli_args *args, struct chp_arena *arena, struct chp_error *error)
{
    const struct cli_command *command = args->command;
    if (command == NULL) {
        return args->group == NULL
                   ? chp_error_set(error, CHP_EINVAL,
                                   "say what to do; 'cheops --help' lists the commands")
                   : chp_error_set(error, CHP_EINVAL, "say what to do with 'cheops %s': %s",
                                   args->group, group_verbs(args->group, arena));
    }
    for (int i = 0; i < OPT_COUNT; i++) {
        if (cli__given(args, (enum cli_opt)i) &&
            ((command->options | cli__global_options) >> i & 1U) == 0) {
            return chp_error_set(
                error, CHP_EINVAL,
                "'cheops %s' has no option --%s; 'cheops %s --help' lists its options",
                command->name, cli__options[i].name, command->name);
        }
    }
    if (command->takes_command && args->operand_count > command->operands_max) {
        return chp_error_set(error, CHP_EINVAL,
                             "put -- before the command to run: cheops %s … -- %s", command->name,
                             args->operands[command->operands_max]);
    }
    if (args->operand_count > command->operands_max) {
        return chp_error_set(
            error, CHP_EINVAL, "'cheops %s' does not take '%s'; usage: cheops %s %s", command->name,
            args->operands[command->operands_max], command->name, command->operands);
    }
    if (args->operand_count < command->operands_min) {
        return chp_error_set(error, CHP_EINVAL, "'cheops %s' needs %s", command->name,
                             command->operands);
    }
    const char *format = cli__arg(args, OPT_OUTPUT);
    if (format != NULL && strcmp(format, "json") != 0 && strcmp(format, "text") != 0) {
        return chp_error_set(error, CHP_EINVAL, "-o takes text or json, not '%s'", format);
    }
    if (cli__given(args, OPT_WAIT) && cli__given(args, OPT_NO_WAIT)) {
        return chp_error_set(error, CHP_EINVAL, "give --wait or --no-wait, not both");
    }
    if (cli__given(args, OPT_SITE) && cli__given(args, OPT_API) && !command->about_site) {
        return chp_error_set(error, CHP_EINVAL, "give --site or --api, not both");
    }
    return 0;
}

int cli__args_parse(int argc, char *const *argv, struct chp_arena *arena, struct cli_args *args,
                    struct chp_error *error)
{
    *args =
        (struct cli_args){.operands = chp_arena_calloc(arena, (size_t)argc + 1, sizeof(char *))};
    struct parser parser = {
        .argc = argc, .argv = argv, .next = 1, .arena = arena, .args = args, .error = error};
    int code = 0;
    while (code == 0 && parser.next < argc) {
        const char *word = argv[parser.next++];
        if (strcmp(word, "--") == 0) {
            args->dashes = true;
            break;
        }
        code = word[0] == '-' && word[1] != 0 ? take_option(&parser, word)
                                              : take_operand(&parser, word);
    }
    args->help = cli__given(args, OPT_HELP);
    if (code != 0 || args->help) {
        return code;
    }
    if (args->command == NULL && args->group == NULL && cli__given(args, OPT_VERSION)) {
        args->options[OPT_VERSION].count = 0;
        args->command = cli__command_find("version");
    }
    if (args->command != NULL && args->command->takes_command) {
        args->words = (const char **)(argv + parser.next);
        args->word_count = (size_t)(argc - parser.next);
    } else {
        while (code == 0 && parser.next < argc) {
            code = take_operand(&parser, argv[parser.next++]);
        }
    }
    return code != 0 ? code : check(args, arena, error);
}
