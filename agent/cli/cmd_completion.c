/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * A bash function made from the table, so that it cannot forget a verb or an option. What only the
 * agent knows (ids) it asks of `cheops __ids KIND`, which answers within a second or says nothing.
 */
#include "cli/cli.h"
#include "cli/endpoint.h"

#include <stdlib.h>
#include <string.h>

enum { IDS_TIMEOUT_MS = 1000 };

static const char *source_of(enum cli_complete complete)
{
    switch (complete) {
    case CLI_COMPLETE_NOTHING:
        return "nothing";
    case CLI_COMPLETE_PATH:
        return "path";
    case CLI_COMPLETE_NAME_PATH:
        return "name_path";
    case CLI_COMPLETE_FORMAT:
        return "words 'text json'";
    case CLI_COMPLETE_LEVEL:
        return "words 'none eventual transactional strong'";
    case CLI_COMPLETE_STATE:
        return "words 'accepted queued delivered running done failed refused superseded voided "
               "expired in-doubt'";
    case CLI_COMPLETE_SITE:
        return "ids site";
    case CLI_COMPLETE_RESOURCE:
        return "ids resource";
    case CLI_COMPLETE_OPERATION:
        return "ids operation";
    case CLI_COMPLETE_DOUBT:
        return "ids doubt";
    case CLI_COMPLETE_DEAD:
        return "ids dead";
    case CLI_COMPLETE_VERB:
        return "words \"$(_cheops_verbs '')\"";
    case CLI_COMPLETE_SHELL:
        return "words bash";
    }
    return "nothing";
}

static const char functions[] =
    "_cheops_nothing() { :; }\n"
    "_cheops_words() { COMPREPLY=($(compgen -W \"$1\" -- \"$cur\")); }\n"
    "_cheops_path() { compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- \"$cur\")); }\n"
    "_cheops_name_path() {\n"
    "    case \"$cur\" in\n"
    "    *=*) cur=\"${cur#*=}\"; _cheops_path ;;\n"
    "    esac\n"
    "}\n"
    "_cheops_ids() {\n"
    "    local id\n"
    "    COMPREPLY=()\n"
    "    while IFS= read -r id; do\n"
    "        case \"$id\" in\n"
    "        \"$cur\"*) COMPREPLY+=(\"$(printf '%q' \"$id\")\") ;;\n"
    "        esac\n"
    "    done < <(\"${COMP_WORDS[0]}\" \"${where[@]}\" __ids \"$1\" 2>/dev/null)\n"
    "}\n";

/* The walk over the words before the cursor: which verb, and whether the last one wants a value. */
static const char walk[] =
    "_cheops() {\n"
    "    local cur=\"${COMP_WORDS[COMP_CWORD]}\" verb='' group='' want='' word i\n"
    "    local where=()\n"
    "    COMPREPLY=()\n"
    "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
    "        word=\"${COMP_WORDS[i]}\"\n"
    "        if [[ -n $want ]]; then\n"
    "            [[ $want == --site || $want == --api ]] && where=(\"$want\" \"$word\")\n"
    "            want=''\n"
    "        elif [[ $word == -- ]]; then\n"
    "            compopt -o default 2>/dev/null\n"
    "            return\n"
    "        elif [[ $word == -* ]]; then\n"
    "            _cheops_takes_value \"$word\" && want=\"$word\"\n"
    "        elif [[ -n $verb ]]; then\n"
    "            :\n"
    "        elif [[ -n $group ]]; then\n"
    "            verb=\"$group $word\"\n"
    "        elif _cheops_is_group \"$word\"; then\n"
    "            group=\"$word\"\n"
    "        else\n"
    "            verb=\"$word\"\n"
    "        fi\n"
    "    done\n"
    "    if [[ -n $want ]]; then\n"
    "        _cheops_value \"$want\"\n"
    "    elif [[ $cur == -* ]]; then\n"
    "        _cheops_words \"$(_cheops_options \"$verb\")\"\n"
    "    elif [[ -n $verb ]]; then\n"
    "        _cheops_operand \"$verb\"\n"
    "    else\n"
    "        _cheops_words \"$(_cheops_verbs \"$group\")\"\n"
    "    fi\n"
    "}\n"
    "complete -F _cheops cheops\n";

static void print_option_names(uint32_t options)
{
    for (int i = 0; i < OPT_COUNT; i++) {
        if ((options >> i & 1U) != 0) {
            (void)printf(" --%s", cli__options[i].name);
        }
    }
}

/* First words without group, else its second words, each once. */
static void print_verbs(const char *group, size_t group_len)
{
    const char *last = "";
    size_t last_len = 0;
    for (size_t i = 0; i < cli__command_count; i++) {
        const struct cli_command *command = &cli__commands[i];
        size_t len = cli__group_length(command);
        if (command->hidden) {
            continue;
        }
        if (group == NULL) {
            size_t first = len == 0 ? strlen(command->name) : len;
            if (first != last_len || strncmp(command->name, last, first) != 0) {
                (void)printf(" %.*s", (int)first, command->name);
            }
            last = command->name;
            last_len = first;
        } else if (len == group_len && strncmp(command->name, group, len) == 0) {
            (void)printf(" %s", command->name + len + 1);
        }
    }
}

/* Calls print for each group once; verbs of a group follow each other in the table. */
static void each_group(void (*print)(const char *group, size_t len))
{
    const char *last = "";
    size_t last_len = 0;
    for (size_t i = 0; i < cli__command_count; i++) {
        const char *name = cli__commands[i].name;
        size_t len = cli__group_length(&cli__commands[i]);
        if (len > 0 && (len != last_len || strncmp(name, last, len) != 0)) {
            print(name, len);
        }
        last = name;
        last_len = len;
    }
}

static void print_group_case(const char *group, size_t len)
{
    (void)printf("    %.*s) echo", (int)len, group);
    print_verbs(group, len);
    (void)printf(" ;;\n");
}

static void print_group_name(const char *group, size_t len)
{
    (void)printf("    %.*s) return 0 ;;\n", (int)len, group);
}

static void print_option_tables(void)
{
    (void)printf("_cheops_takes_value() {\n    case \"$1\" in\n");
    for (int i = 0; i < OPT_COUNT; i++) {
        if (cli__options[i].argument[0] != 0) {
            (void)printf("    --%s", cli__options[i].name);
            if (cli__options[i].letter != 0) {
                (void)printf(" | -%c", cli__options[i].letter);
            }
            (void)printf(") return 0 ;;\n");
        }
    }
    (void)printf("    esac\n    return 1\n}\n_cheops_value() {\n    case \"$1\" in\n");
    for (int i = 0; i < OPT_COUNT; i++) {
        if (cli__options[i].argument[0] != 0) {
            (void)printf("    --%s", cli__options[i].name);
            if (cli__options[i].letter != 0) {
                (void)printf(" | -%c", cli__options[i].letter);
            }
            (void)printf(") _cheops_%s ;;\n", source_of(cli__options[i].complete));
        }
    }
    (void)printf("    esac\n}\n");
}

static void print_verb_tables(void)
{
    (void)printf("_cheops_verbs() {\n    case \"$1\" in\n    '') echo");
    print_verbs(NULL, 0);
    (void)printf(" ;;\n");
    each_group(print_group_case);
    (void)printf("    esac\n}\n_cheops_is_group() {\n    case \"$1\" in\n");
    each_group(print_group_name);
    (void)printf("    esac\n    return 1\n}\n_cheops_options() {\n    case \"$1\" in\n");
    for (size_t i = 0; i < cli__command_count; i++) {
        if (!cli__commands[i].hidden) {
            (void)printf("    '%s') echo", cli__commands[i].name);
            print_option_names(cli__commands[i].options | cli__global_options);
            (void)printf(" ;;\n");
        }
    }
    (void)printf("    *) echo");
    print_option_names(cli__global_options);
    (void)printf(" ;;\n    esac\n}\n_cheops_operand() {\n    case \"$1\" in\n");
    for (size_t i = 0; i < cli__command_count; i++) {
        if (cli__commands[i].complete != CLI_COMPLETE_NOTHING) {
            (void)printf("    '%s') _cheops_%s ;;\n", cli__commands[i].name,
                         source_of(cli__commands[i].complete));
        }
    }
    (void)printf("    esac\n}\n");
}

int cli__cmd_completion(struct cli *cli)
{
    if (strcmp(cli->args.operands[0], "bash") != 0) {
        return cli__fail(CLI_USAGE, "there is a completion script for bash only, not for '%s'",
                         cli->args.operands[0]);
    }
    (void)printf("# bash completion of cheops, made by 'cheops completion bash'\n%s", functions);
    print_option_tables();
    print_verb_tables();
    (void)fputs(walk, stdout);
    return CLI_OK;
}

int cli__cmd_complete_ids(struct cli *cli)
{
    static const struct {
        const char *kind;
        const char *path;
        const char *list;
        const char *id;
    } kinds[] = {
        {"site", "/v1/sites", "sites", "site"},
        {"resource", "/v1/resources?limit=100", "resources", "id"},
        {"operation", "/v1/operations?limit=50", "operations", "id"},
        {"doubt", "/v1/operations?state=in-doubt&limit=50", "operations", "id"},
        {"dead", "/v1/dead", "dead", "id"},
    };
    const char *kind = cli->args.operands[0];
    if (strcmp(kind, "site") == 0) {
        size_t count;
        const char **names = cli__endpoint_sites(&cli->arena, &count);
        for (size_t i = 0; i < count; i++) {
            (void)printf("%s\n", names[i]);
        }
    }
    if (strcmp(kind, "doubt") == 0) {
        (void)printf("done\nfailed\nrerun\n");
    }
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strcmp(kinds[i].kind, kind) != 0) {
            continue;
        }
        struct cli_request request = {
            .method = "GET", .path = kinds[i].path, .timeout_ms = IDS_TIMEOUT_MS, .tries = 1};
        struct cli_response response;
        if (cli__client_call(cli->client, &request, &response, NULL) == 0 &&
            response.status == 200) {
            json_t *answer = json_loadb(chp_buf_text(&response.body), response.body.len, 0, NULL);
            size_t j;
            json_t *item;
            json_array_foreach(json_object_get(answer, kinds[i].list), j, item)
            {
                const char *id = cli__text(item, kinds[i].id);
                (void)printf("%s%s", id == NULL ? "" : cli__clean(cli, id), id == NULL ? "" : "\n");
            }
            json_decref(answer);
        }
        cli__response_deinit(&response);
    }
    return CLI_OK;
}
