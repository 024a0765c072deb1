/* SPDX-License-Identifier: AGPL-3.0-only */
#include "cli/cli.h"
#include "cli/views.h"

#include <stdlib.h>

enum { TREE_DEPTH_MAX = 40 };

/* Nodes of the tree, whatever members they have: what they are in one line, children indented
 * below. */
static void print_tree(struct cli *cli, const json_t *node, unsigned depth)
{
    const char *kind = cli__text(node, "kind");
    const char *name = cli__text(node, "name");
    const char *weight = cli__number(cli, node, "weight");
    const char *duration = cli__number(cli, node, "duration_ms");
    if (depth > TREE_DEPTH_MAX || !json_is_object(node)) {
        return;
    }
    (void)printf("%*s%s", (int)(2 * depth), "", kind == NULL ? "?" : cli__clean(cli, kind));
    if (name != NULL) {
        (void)printf(" %s", cli__clean(cli, name));
    }
    if (weight != NULL && json_integer_value(json_object_get(node, "weight")) != 1) {
        (void)printf(" *%s", weight);
    }
    if (duration != NULL && json_integer_value(json_object_get(node, "duration_ms")) > 0) {
        (void)printf(" %s ms", duration);
    }
    (void)printf("\n");
    size_t i;
    json_t *child;
    json_array_foreach(json_object_get(node, "children"), i, child)
    {
        print_tree(cli, child, depth + 1);
    }
}

int cli__cmd_scope_explain(struct cli *cli)
{
    const char *scope = cli->args.operands[0];
    json_t *body = json_pack("{s:s}", "scope", scope);
    if (body == NULL) {
        return cli__fail(CLI_USAGE, "the expression is not valid UTF-8");
    }
    char *text = json_dumps(body, JSON_COMPACT);
    json_decref(body);
    CHP_ASSERT(text != NULL);
    struct cli_request request = {
        .method = "POST", .path = "/v1/scope/explain", .body = chp_bytes_of(text), .scope = scope};
    json_t *explained = NULL;
    int exit_code = cli__call(cli, &request, &explained);
    free(text);
    if (exit_code == CLI_OK && cli->json) {
        cli__print_json(explained);
    } else if (exit_code == CLI_OK) {
        cli__view_line(cli, "scope", cli__text(explained, "scope"));
        cli__view_line(cli, "sites", cli__joined(cli, json_object_get(explained, "sites"), ", "));
        size_t i;
        json_t *why;
        json_array_foreach(json_object_get(explained, "why"), i, why)
        {
            cli__view_line(cli, i == 0 ? "why" : "", json_string_value(why));
        }
        (void)printf("\n");
        print_tree(cli, json_object_get(explained, "tree"), 0);
    }
    json_decref(explained);
    return exit_code;
}
