/* SPDX-License-Identifier: AGPL-3.0-only */
#include "cli/views.h"

#include <string.h>

void cli__view_line(struct cli *cli, const char *label, const char *value)
{
    (void)printf("%s%-12s%s %s\n", cli__color(cli, CLI_DIM), label, cli__color(cli, CLI_PLAIN),
                 value == NULL || value[0] == 0 ? "-" : cli__clean(cli, value));
}

void cli__view_fields(struct cli *cli, const json_t *object, const struct cli_field *fields,
                      size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const char *text = cli__text(object, fields[i].key);
        cli__view_line(cli, fields[i].label,
                       text != NULL ? text : cli__number(cli, object, fields[i].key));
    }
}

void cli__view_doubts(struct cli *cli, const json_t *operation)
{
    const char *id = cli__text(operation, "id");
    size_t i;
    json_t *site;
    json_array_foreach(json_object_get(operation, "sites"), i, site)
    {
        const char *state = cli__text(site, "state");
        const char *name = cli__text(site, "site");
        const char *reason = cli__text(site, "reason");
        if (state == NULL || strcmp(state, "in-doubt") != 0 || name == NULL || id == NULL) {
            continue;
        }
        (void)printf(
            "\n%sIn doubt at %s%s: %s.\nIt holds the resource there. Look whether it ran, then: "
            "cheops op resolve %s --site %s done|failed|rerun\n",
            cli__color(cli, CLI_YELLOW), cli__clean(cli, name), cli__color(cli, CLI_PLAIN),
            reason == NULL ? "nobody knows whether it ran" : cli__clean(cli, reason),
            cli__clean(cli, id), cli__clean(cli, name));
    }
}
