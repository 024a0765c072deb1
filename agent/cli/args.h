/* SPDX-License-Identifier: AGPL-3.0-only */
/* The one table of verbs and options: parsing, --help and completion are driven by it. */
#ifndef CHP_CLI_ARGS_H
#define CHP_CLI_ARGS_H

#include "base/arena.h"

struct cli;

/* What completes a word. */
enum cli_complete {
    CLI_COMPLETE_NOTHING,
    CLI_COMPLETE_PATH,
    CLI_COMPLETE_NAME_PATH, /* NAME=PATH */
    CLI_COMPLETE_FORMAT,
    CLI_COMPLETE_LEVEL,
    CLI_COMPLETE_STATE,
    CLI_COMPLETE_SITE,
    CLI_COMPLETE_RESOURCE,
    CLI_COMPLETE_OPERATION,
    CLI_COMPLETE_DOUBT, /* operations in doubt, and resolutions */
    CLI_COMPLETE_DEAD,
    CLI_COMPLETE_VERB,
    CLI_COMPLETE_SHELL,
};

/* id, name, letter, argument ("": none), repeats, completion, help */
#define CLI_OPTIONS(X)                                                                             \
    X(SITE, "site", 0, "NAME", false, SITE,                                                        \
      "ask the agent of this site: CHEOPS_API_<NAME>, or its line in the sites file")              \
    X(API, "api", 0, "URL", false, NOTHING,                                                        \
      "ask the agent at http://[user:token@]host:port or unix:/path")                              \
    X(OUTPUT, "output", 'o', "FORMAT", false, FORMAT, "text (default) or json, one object a line") \
    X(HELP, "help", 'h', "", false, NOTHING, "explain the command")                                \
    X(VERSION, "version", 0, "", false, NOTHING, "print the version")                              \
    X(ID, "id", 0, "ID", false, RESOURCE, "the resource that the operation acts on")               \
    X(TYPE, "type", 0, "TYPE", false, NOTHING,                                                     \
      "your tag for this kind of operation: set, add, apply")                                      \
    X(SCOPE, "scope", 0, "SCOPE", false, NOTHING,                                                  \
      "the sites concerned, as 'Nantes & Rennes'; needed when the resource is created")            \
    X(LEVEL, "level", 0, "LEVEL", false, LEVEL,                                                    \
      "consistency when the resource is created: none or eventual")                                \
    X(FILE, "file", 0, "NAME=PATH", true, NAME_PATH,                                               \
      "send a file along; {NAME} in the command is where it lies; may be repeated")                \
    X(CONFIG, "config", 0, "FILE", false, PATH, "resolution matrix of the resource, as JSON")      \
    X(UNDO, "undo", 0, "COMMAND", false, NOTHING,                                                  \
      "takes the effect back, when the order of operations asks for it: 'rm /tmp/hello', or of a " \
      "request 'METHOD SERVICE/PATH'")                                                             \
    X(KEY, "key", 0, "KEY", false, NOTHING,                                                        \
      "idempotency key: the same key never runs twice (default: a new one)")                       \
    X(TIMEOUT, "timeout", 0, "DURATION", false, NOTHING,                                           \
      "how long to wait for answers: 500ms, 60s, 5m")                                              \
    X(DEADLINE, "deadline", 0, "DURATION", false, NOTHING,                                         \
      "how long it may run on each site (default 60s)")                                            \
    X(WAIT, "wait", 0, "", false, NOTHING, "wait until every site has answered (default)")         \
    X(NO_WAIT, "no-wait", 0, "", false, NOTHING, "print the operation's id and return at once")    \
    X(HEADER, "header", 'H', "'NAME: VALUE'", true, NOTHING,                                       \
      "header of the request; may be repeated")                                                    \
    X(DATA, "data", 'd', "TEXT|@FILE|-", false, PATH,                                              \
      "body of the request: as given, from a file, from standard input")                           \
    X(HTTP, "http", 0, "", false, NOTHING, "show a REST request's answer instead of a command's")  \
    X(RESOURCE, "resource", 0, "ID", false, RESOURCE, "only operations of this resource")          \
    X(STATE, "state", 0, "STATE", false, STATE, "only operations in this state")                   \
    X(ALL, "all", 0, "", false, NOTHING, "all that are in doubt at the site")                      \
    X(FROM_EMPTY, "from-empty", 0, "", false, NOTHING,                                             \
      "the application's own instance was emptied: all of the sequence runs")                      \
    X(LIMIT, "limit", 0, "N", false, NOTHING, "at most this many")                                 \
    X(BEFORE, "before", 0, "ID", false, OPERATION, "only operations older than this one")          \
    X(AFTER, "after", 0, "N|ID", false, NOTHING, "only what follows this number or id")            \
    X(FOLLOW, "follow", 'f', "", false, NOTHING, "go on with what happens from now on")

enum cli_opt {
#define X(id, name, letter, argument, repeats, complete, help) OPT_##id,
    CLI_OPTIONS(X)
#undef X
        OPT_COUNT
};

struct cli_option {
    const char *name;
    char letter;
    const char *argument;
    bool repeats;
    enum cli_complete complete;
    const char *help;
};

struct cli_command {
    const char *name;     /* "exec", "op show" */
    const char *operands; /* as usage shows them */
    const char *summary;
    const char *details; /* paragraphs for --help; "" for none */
    uint32_t options;    /* bit per enum cli_opt */
    unsigned operands_min;
    unsigned operands_max;
    bool takes_command; /* words after -- are a command */
    bool hidden;
    bool offline;               /* needs no agent */
    bool about_site;            /* --site names what it is about: another agent may be asked */
    enum cli_complete complete; /* of its operands */
    int (*run)(struct cli *cli);
};

extern const struct cli_option cli__options[OPT_COUNT];
extern const struct cli_command cli__commands[];
extern const size_t cli__command_count;
/* Options that every verb takes. */
extern const uint32_t cli__global_options;

/* Words borrow from argv. */
struct cli_args {
    const struct cli_command *command; /* NULL: none was given */
    const char *group;                 /* "op" when a verb of it is missing */
    bool help;
    struct {
        const char **values; /* "" for one without argument */
        size_t count;
    } options[OPT_COUNT];
    const char **operands;
    size_t operand_count;
    const char **words; /* after -- of a verb that takes a command */
    size_t word_count;
    bool dashes; /* -- was there */
};

/* CHP_EINVAL with a sentence in *error. args is usable for --help also then. */
int cli__args_parse(int argc, char *const *argv, struct chp_arena *arena, struct cli_args *args,
                    struct chp_error *error) CHP_MUST_CHECK;
/* NULL when not given. */
const char *cli__arg(const struct cli_args *args, enum cli_opt option);
bool cli__given(const struct cli_args *args, enum cli_opt option);
/* The verb of that name, or NULL. */
const struct cli_command *cli__command_find(const char *name);
/* True when name is the first word of verbs with two. */
bool cli__group_exists(const char *name);
/* Bytes of the group's name in a verb's name: 2 in "op show", 0 in "exec". */
size_t cli__group_length(const struct cli_command *command);

/* --help: of one verb, of a group of verbs, or (both NULL) of the program; to standard output. */
void cli__help_print(const struct cli_command *command, const char *group);

#endif
