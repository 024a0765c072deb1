/* SPDX-License-Identifier: AGPL-3.0-only */
#include "cli/views.h"

#include <stddef.h>

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
