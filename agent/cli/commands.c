/* SPDX-License-Identifier: AGPL-3.0-only */
/* The table of verbs. Its order is that of --help. */
#include "cli/cli.h"

#define BIT(option) (UINT32_C(1) << OPT_##option)

#define REQUEST_OPTIONS                                                                            \
    (BIT(ID) | BIT(TYPE) | BIT(SCOPE) | BIT(LEVEL) | BIT(CONFIG) | BIT(UNDO) | BIT(KEY) |          \
     BIT(DEADLINE) | BIT(WAIT) | BIT(NO_WAIT) | BIT(TIMEOUT))

const uint32_t cli__global_options = BIT(SITE) | BIT(API) | BIT(OUTPUT) | BIT(HELP);

const struct cli_command cli__commands[] = {
    {.name = "exec",
     .operands = "-- COMMAND [ARGUMENT…]",
     .summary = "run a command on every site of the scope",
     .details = "The command is run as it is, without a shell, on each site that the scope "
                "names, in an order that all sites agree on for the same resource. The scope "
                "is needed when the resource is created, not again. {NAME} in the command "
                "becomes the path of the file that --file NAME=PATH sent along; {{ is a "
                "brace. --undo gives a command in one argument, with quotes as in a shell, that "
                "takes the effect back: a site that has to put an operation before this one "
                "runs it, then both in their order.",
     .options = REQUEST_OPTIONS | BIT(FILE),
     .takes_command = true,
     .run = cli__cmd_exec},
    {.name = "http",
     .operands = "METHOD SERVICE/PATH",
     .summary = "send a REST request to a service on every site of the scope",
     .details = "Each site sends the request to its own instance of the service, as its "
                "configuration names it. A body given with --data has the type "
                "application/json unless -H 'Content-Type: …' says otherwise. --undo gives a "
                "request without body to the same effect as that of exec; it has the same headers.",
     .options = REQUEST_OPTIONS | BIT(HEADER) | BIT(DATA),
     .operands_min = 2,
     .operands_max = 2,
     .run = cli__cmd_http},
    {.name = "show",
     .operands = "-- COMMAND [ARGUMENT…] | --http METHOD SERVICE/PATH",
     .summary = "run a reading command on every site of a resource, compare the outputs",
     .details = "Nothing is recorded. Outputs stand side by side where the terminal is wide "
                "enough, below each other otherwise. Sites whose output is not that of most "
                "are marked; sites that did not answer are named.",
     .options = BIT(ID) | BIT(TIMEOUT) | BIT(HTTP) | BIT(HEADER) | BIT(DATA),
     .operands_max = 2,
     .takes_command = true,
     .run = cli__cmd_show},
    {.name = "op show",
     .operands = "ID",
     .summary = "all about an operation, with every site's state and output",
     .details = "",
     .operands_min = 1,
     .operands_max = 1,
     .complete = CLI_COMPLETE_OPERATION,
     .run = cli__cmd_op_show},
    {.name = "op list",
     .operands = "",
     .summary = "operations, newest first",
     .details = "",
     .options = BIT(RESOURCE) | BIT(STATE) | BIT(BEFORE) | BIT(LIMIT),
     .run = cli__cmd_op_list},
    {.name = "op watch",
     .operands = "ID",
     .summary = "wait for the sites of an operation",
     .details = "Shows what is known and then each answer as it comes, as exec does. Without "
                "--timeout it waits until every site has answered.",
     .options = BIT(TIMEOUT),
     .operands_min = 1,
     .operands_max = 1,
     .complete = CLI_COMPLETE_OPERATION,
     .run = cli__cmd_op_watch},
    {.name = "op resolve",
     .operands = "ID done|failed|rerun",
     .summary = "say what became of an execution that is in doubt at a site",
     .details = "A crash hid whether it ran, and it holds its resource at that site until somebody "
                "has looked: it counts as done or failed from now on, or it runs again. --site "
                "names the site of the execution. Its agent is asked where it is known how, else "
                "the default one, which asks that site. Instead of an ID, --resource ID and --all "
                "resolve all executions of a resource, or all at the site, oldest first.",
     .options = BIT(RESOURCE) | BIT(ALL) | BIT(TIMEOUT),
     .operands_min = 1,
     .operands_max = 2,
     .about_site = true,
     .complete = CLI_COMPLETE_DOUBT,
     .run = cli__cmd_op_resolve},
    {.name = "resource list",
     .operands = "",
     .summary = "resources that this site knows",
     .details = "",
     .options = BIT(AFTER) | BIT(LIMIT),
     .run = cli__cmd_resource_list},
    {.name = "resource show",
     .operands = "ID",
     .summary = "one resource: level, scope, members, matrix",
     .details = "",
     .operands_min = 1,
     .operands_max = 1,
     .complete = CLI_COMPLETE_RESOURCE,
     .run = cli__cmd_resource_show},
    {.name = "resource history",
     .operands = "ID",
     .summary = "the operations of a resource in their sequence: what became of each, and why",
     .details = "As the site that is asked knows them: the newest, 200 without --limit; those that "
                "are in the sequence with their place, then the others. HERE is what became of one "
                "at that site: superseded, in effect: it ran, and what replaces it did as well; "
                "undone: its undo ran. The sentence below says why it is not in the sequence, or "
                "not where its time would have it, and is the same at every site that holds the "
                "same operations.",
     .options = BIT(LIMIT),
     .operands_min = 1,
     .operands_max = 1,
     .complete = CLI_COMPLETE_RESOURCE,
     .run = cli__cmd_resource_history},
    {.name = "resource plan",
     .operands = "ID [-- COMMAND [ARGUMENT…]]",
     .summary = "what a new operation of a type would do at each member, without doing it",
     .details =
         "As if it were made now at the site that is asked: the place that it would have, "
         "which operations it would displace, and what each site would undo and run, some of "
         "it again. A command is not run, but refused where exec would be; with --undo its "
         "effect can be taken back.",
     .options = BIT(TYPE) | BIT(UNDO) | BIT(TIMEOUT),
     .operands_min = 1,
     .operands_max = 1,
     .takes_command = true,
     .complete = CLI_COMPLETE_RESOURCE,
     .run = cli__cmd_resource_plan},
    {.name = "resource diff",
     .operands = "ID [-- COMMAND [ARGUMENT…] | --http METHOD SERVICE/PATH]",
     .summary = "what the members know of a resource, and what their applications answer",
     .details = "Each member says which operations it holds, their sequence (its digest is equal "
                "where it is the same) and what it still has to do. With a reading command its "
                "answers are compared, as show does. Exit code 1 when something differs, 4 when a "
                "member did not answer.",
     .options = BIT(TIMEOUT) | BIT(HTTP) | BIT(HEADER) | BIT(DATA),
     .operands_min = 1,
     .operands_max = 3,
     .takes_command = true,
     .complete = CLI_COMPLETE_RESOURCE,
     .run = cli__cmd_resource_diff},
    {.name = "resource rebuild",
     .operands = "ID",
     .summary = "let a site run again what makes the state of its replica",
     .details = "For a replica that is diverged, or whose application lost what it had: at --site "
                "nothing that ran counts any more, and the sequence runs from the last operation "
                "that makes the whole state. If there is none, empty the resource in the "
                "application first, and say so by --from-empty: then all of it runs.",
     .options = BIT(FROM_EMPTY) | BIT(TIMEOUT),
     .operands_min = 1,
     .operands_max = 1,
     .about_site = true,
     .complete = CLI_COMPLETE_RESOURCE,
     .run = cli__cmd_resource_rebuild},
    {.name = "site list",
     .operands = "",
     .summary = "sites: state, round trip, last contact, what waits for them",
     .details = "",
     .run = cli__cmd_site_list},
    {.name = "events",
     .operands = "",
     .summary = "what happened at this site, from a number on",
     .details =
         "Events are numbered without gaps. --after N replays what followed N, and fails "
         "when some of that is forgotten for its age; without it the oldest that are kept "
         "come first. --follow goes on with what happens from now on, or from N on, and survives a "
         "restart of the agent.",
     .options = BIT(AFTER) | BIT(LIMIT) | BIT(FOLLOW),
     .run = cli__cmd_events},
    {.name = "scope explain",
     .operands = "SCOPE",
     .summary = "the sites that an expression means now, and why",
     .details = "",
     .operands_min = 1,
     .operands_max = 1,
     .run = cli__cmd_scope_explain},
    {.name = "matrix check",
     .operands = "FILE|-",
     .summary = "check a resolution matrix, show what it decides",
     .details = "No agent is asked. Says which mirrors were completed, which pairs are assumed to "
                "commute because they are not listed, and which types establish the whole state; "
                "then the result for each pair of types. A matrix that contradicts itself is "
                "refused with exit code 2. With -o json, its canonical form and the same notes.",
     .operands_min = 1,
     .operands_max = 1,
     .offline = true,
     .complete = CLI_COMPLETE_PATH,
     .run = cli__cmd_matrix_check},
    {.name = "dead list",
     .operands = "",
     .summary = "messages that could not be processed",
     .details = "",
     .run = cli__cmd_dead_list},
    {.name = "dead show",
     .operands = "ID",
     .summary = "one of them, with its bytes",
     .details = "",
     .operands_min = 1,
     .operands_max = 1,
     .complete = CLI_COMPLETE_DEAD,
     .run = cli__cmd_dead_show},
    {.name = "dead requeue",
     .operands = "ID",
     .summary = "put one back into the queue that it came from",
     .details = "",
     .operands_min = 1,
     .operands_max = 1,
     .complete = CLI_COMPLETE_DEAD,
     .run = cli__cmd_dead_requeue},
    {.name = "dead drop",
     .operands = "ID",
     .summary = "forget one for good",
     .details = "",
     .operands_min = 1,
     .operands_max = 1,
     .complete = CLI_COMPLETE_DEAD,
     .run = cli__cmd_dead_drop},
    {.name = "doctor",
     .operands = "",
     .summary = "check broker, database, links, clock and policy of the site",
     .details = "Says what to do about what is wrong. Exit code 1 when something is.",
     .run = cli__cmd_doctor},
    {.name = "completion",
     .operands = "bash",
     .summary = "print a completion script: eval \"$(cheops completion bash)\"",
     .details = "",
     .operands_min = 1,
     .operands_max = 1,
     .offline = true,
     .complete = CLI_COMPLETE_SHELL,
     .run = cli__cmd_completion},
    {.name = "version",
     .operands = "",
     .summary = "print the version",
     .details = "",
     .offline = true,
     .run = cli__cmd_version},
    {.name = "help",
     .operands = "[COMMAND]",
     .summary = "explain a command",
     .details = "",
     .operands_max = 2,
     .offline = true,
     .complete = CLI_COMPLETE_VERB,
     .run = cli__cmd_help},
    {.name = "__ids", /* for the completion script: ids of a kind, quietly */
     .operands = "KIND",
     .summary = "",
     .details = "",
     .operands_min = 1,
     .operands_max = 1,
     .hidden = true,
     .run = cli__cmd_complete_ids},
};

const size_t cli__command_count = sizeof cli__commands / sizeof cli__commands[0];
