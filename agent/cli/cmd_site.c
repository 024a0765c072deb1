/* SPDX-License-Identifier: AGPL-3.0-only */
#include "cli/table.h"

int cli__cmd_site_list(struct cli *cli)
{
    json_t *list = NULL;
    int exit_code = cli__get(cli, &list, "/v1/sites");
    const json_t *sites = json_object_get(list, "sites");
    if (exit_code == CLI_OK && cli->json) {
        cli__print_json_array(sites);
    } else if (exit_code == CLI_OK) {
        struct cli_table table;
        cli__table_init(&table, cli,
                        "SITE|STATE|SINCE|LINK|>ROUND TRIP|HEARD|>WAITING|OLDEST|SOFTWARE");
        size_t i;
        json_t *site;
        json_array_foreach(sites, i, site)
        {
            const char *round_trip = cli__number(cli, site, "round_trip_ms");
            bool self = json_is_true(json_object_get(site, "self"));
            cli__table_add(&table, cli__text(site, "site"));
            cli__table_add(&table, self ? "here" : cli__text(site, "state"));
            cli__table_add(&table, cli__when(cli, cli__text(site, "since")));
            cli__table_add(&table, self ? NULL : cli__text(site, "link"));
            cli__table_add(&table, round_trip == NULL
                                       ? NULL
                                       : chp_arena_printf(&cli->arena, "%s ms", round_trip));
            cli__table_add(&table, cli__when(cli, cli__text(site, "heard_at")));
            cli__table_add(&table, cli__number(cli, site, "waiting"));
            cli__table_add(&table, cli__when(cli, cli__text(site, "oldest_at")));
            cli__table_add(&table, cli__text(site, "software"));
        }
        cli__table_print(&table);
    }
    json_decref(list);
    return exit_code;
}
