/* SPDX-License-Identifier: AGPL-3.0-only */
#include "cli/table.h"
#include "cli/text.h"

static const char *mark_of(struct cli *cli, const json_t *site, const char *direction,
                           const char *key)
{
    return cli__number(cli, json_object_get(json_object_get(site, "marks"), direction), key);
}

/* A line for each stream: to the site, what it has committed and what was published and made; from
 * it, what is committed here. */
static void print_streams(struct cli *cli, const json_t *sites)
{
    struct cli_table table;
    cli__table_init(&table, cli, "SITE|STREAM|>ARRIVED|>SENT|>MADE|>WAITING|>IN MESSAGES|>TAKEN");
    size_t rows = 0;
    size_t i;
    json_t *site;
    json_array_foreach((json_t *)(uintptr_t)sites, i, site)
    {
        size_t k;
        json_t *stream;
        json_array_foreach(json_object_get(site, "streams"), k, stream)
        {
            const char *key = cli__text(stream, "key");
            json_int_t waiting = json_integer_value(json_object_get(stream, "last")) -
                                 json_integer_value(json_object_get(stream, "mark"));
            cli__table_add(&table, cli__text(site, "site"));
            cli__table_add(&table, key);
            cli__table_add(&table, cli__number(cli, stream, "mark"));
            cli__table_add(&table, cli__number(cli, stream, "sent"));
            cli__table_add(&table, cli__number(cli, stream, "last"));
            cli__table_add(&table, chp_arena_printf(&cli->arena, "%lld", (long long)waiting));
            cli__table_add(&table, cli__number(cli, stream, "messages"));
            cli__table_add(&table, key == NULL ? NULL : mark_of(cli, site, "in", key));
            rows++;
        }
    }
    if (rows > 0) {
        (void)printf("\n");
        cli__table_print(&table);
    }
}

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
        json_array_foreach(sites, i, site)
        {
            const char *problem = cli__text(site, "problem");
            if (problem != NULL) {
                (void)printf("%s %s\n", cli__clean(cli, cli__text(site, "site")),
                             cli__clean(cli, problem));
            }
        }
        print_streams(cli, sites);
    }
    json_decref(list);
    return exit_code;
}
