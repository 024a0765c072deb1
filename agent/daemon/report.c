/* SPDX-License-Identifier: AGPL-3.0-only */
/* What the agent tells of itself: its sites, whether it is ready, what a scope means here. */
#include "daemon/daemon.h"
#include "wire/version.h"

#include <stdlib.h>
#include <string.h>

static void set_time(json_t *object, const char *key, uint64_t wall_ms)
{
    char text[CHP_TIME_TEXT_BYTES];
    if (wall_ms == 0) {
        json_object_set_new(object, key, json_null());
        return;
    }
    chp_clock_format(wall_ms, text);
    json_object_set_new(object, key, json_string(text));
}

static json_t *optional_string(const char *text)
{
    return text == NULL || text[0] == 0 ? json_null() : json_string(text);
}

static json_t *self_row(const struct chp_agent *agent)
{
    json_t *row = json_object();
    json_object_set_new(row, "site", json_string(agent->config->agent.site));
    json_object_set_new(row, "self", json_true());
    json_object_set_new(row, "link", json_null());
    json_object_set_new(row, "state", json_string("up"));
    set_time(row, "since", chp_clock_wall_ms() - (chp_clock_mono_us() - agent->started_us) / 1000);
    set_time(row, "heard_at", chp_clock_wall_ms());
    json_object_set_new(row, "round_trip_ms", json_real(0));
    json_object_set_new(row, "clock_offset_ms", json_integer(0));
    json_object_set_new(row, "version", json_integer(CHP_WIRE_VERSION));
    json_object_set_new(row, "version_min", json_integer(CHP_WIRE_VERSION_MIN));
    json_object_set_new(row, "software", json_string(CHEOPS_VERSION));
    json_object_set_new(row, "streams", json_array());
    json_object_set_new(row, "problem", json_null());
    return row;
}

void report__version_problem(const struct chp_peer_view *view, char *text, size_t size)
{
    text[0] = 0;
    if (view->version == 0) {
        (void)snprintf(text, size, "speaks wire versions %u to %u, here %d to %d: upgrade %s",
                       view->version_min, view->version_max, CHP_WIRE_VERSION_MIN, CHP_WIRE_VERSION,
                       view->version_max < CHP_WIRE_VERSION ? "it" : "this site");
    } else if (view->undecoded > 0) {
        (void)snprintf(text, size,
                       "has sent %llu items that only a later version reads: upgrade this site",
                       (unsigned long long)view->undecoded);
    }
}

json_t *report__sites(struct chp_agent *agent)
{
    json_t *rows = json_array();
    json_array_append_new(rows, self_row(agent));
    for (size_t i = 0; i < agent->config->site_count; i++) {
        const struct chp_config_site *site = &agent->config->sites[i];
        struct chp_peer_view view = {0};
        bool known = agent->engine != NULL && chp_engine_peer(agent->engine, i, &view);
        json_t *row = json_object();
        json_object_set_new(row, "site", json_string(site->name));
        json_object_set_new(row, "self", json_false());
        json_object_set_new(row, "link",
                            json_string(site->link == CHP_CONFIG_LINK_LOCAL ? "local" : "shovel"));
        json_object_set_new(row, "state",
                            json_string(!known || !view.state_known ? "unknown"
                                        : view.up                   ? "up"
                                                                    : "down"));
        set_time(row, "since", view.since_ms);
        set_time(row, "heard_at", view.heard_ms);
        json_object_set_new(row, "round_trip_ms",
                            view.round_trip_us == 0 ? json_null()
                                                    : json_real((double)view.round_trip_us / 1000));
        json_object_set_new(row, "clock_offset_ms",
                            view.heard_ms == 0 ? json_null() : json_integer(view.clock_offset_ms));
        json_object_set_new(row, "version",
                            view.version_max == 0 ? json_null() : json_integer(view.version_max));
        json_object_set_new(row, "version_min",
                            view.version_max == 0 ? json_null() : json_integer(view.version_min));
        json_object_set_new(row, "software", optional_string(view.software));
        json_object_set_new(row, "streams", sender__streams(agent->sender, site->name));
        char problem[256] = "";
        if (known) {
            report__version_problem(&view, problem, sizeof problem);
        }
        json_object_set_new(row, "problem", optional_string(problem));
        json_array_append_new(rows, row);
    }
    return rows;
}

int report__ready(struct chp_agent *agent, struct chp_error *error)
{
    if (agent->store == NULL || !chp_store_up(agent->store) || !agent->engine_started) {
        return chp_error_set(error, CHP_EUNAVAILABLE, "the database is not there: %s",
                             agent->store_problem);
    }
    if (agent->broker == NULL || !chp_broker_up(agent->broker)) {
        return chp_error_set(error, CHP_EUNAVAILABLE, "the broker is not there: %s",
                             agent->broker_problem);
    }
    return 0;
}

static const char *const kind_names[] = {
    [CHP_SCOPE_SITE] = "site",   [CHP_SCOPE_ALL_SITES] = "all sites",
    [CHP_SCOPE_AND] = "and",     [CHP_SCOPE_CROSS] = "cross",
    [CHP_SCOPE_OR] = "or",       [CHP_SCOPE_AROUND] = "around",
    [CHP_SCOPE_MAP] = "map",     [CHP_SCOPE_ENTRY] = "entry",
    [CHP_SCOPE_PRIME] = "prime",
};

static json_t *tree(const struct chp_scope *scope)
{
    json_t *node = json_object();
    json_object_set_new(node, "kind", json_string(kind_names[scope->kind]));
    if (scope->name != NULL) {
        json_object_set_new(node, "name", json_string(scope->name));
    }
    if (scope->kind == CHP_SCOPE_SITE && scope->weight > 1) {
        json_object_set_new(node, "weight", json_integer(scope->weight));
    }
    if (scope->kind == CHP_SCOPE_AROUND) {
        json_object_set_new(node, "duration_ms", json_integer((json_int_t)scope->duration_ms));
    }
    if (scope->child_count > 0) {
        json_t *children = json_array();
        for (size_t i = 0; i < scope->child_count; i++) {
            json_array_append_new(children, tree(scope->children[i]));
        }
        json_object_set_new(node, "children", children);
    }
    return node;
}

static json_t *strings(const char *const *texts, size_t count)
{
    json_t *array = json_array();
    for (size_t i = 0; i < count; i++) {
        json_array_append_new(array, json_string(texts[i]));
    }
    return array;
}

json_t *report__scope(struct chp_agent *agent, const char *text, struct chp_error *error)
{
    struct chp_arena arena = {0};
    struct chp_scope *scope = NULL;
    json_t *report = NULL;
    size_t known_count = agent->engine_config.peer_count + 1;
    const char **known = chp_arena_calloc(&arena, known_count, sizeof(char *));
    struct chp_scope_sites sites = {
        .self = agent->config->agent.site, .known = known, .known_count = known_count};
    const char **members = NULL;
    const char **lines = NULL;
    size_t member_count = 0;
    size_t line_count = 0;
    known[0] = sites.self;
    for (size_t i = 1; i < known_count; i++) {
        known[i] = agent->engine_config.peers[i - 1].site;
    }
    int code = chp_scope_parse(text, &arena, &scope, error);
    if (code == 0) {
        code = chp_scope_resolve(scope, &sites, &arena, &members, &member_count, error);
    }
    if (code == 0) {
        code = chp_scope_explain(scope, &sites, &arena, &lines, &line_count, error);
    }
    if (code == 0) {
        report = json_object();
        json_object_set_new(report, "scope", json_string(chp_scope_print(scope, &arena)));
        json_object_set_new(report, "sites", strings(members, member_count));
        json_object_set_new(report, "why", strings(lines, line_count));
        json_object_set_new(report, "tree", tree(scope));
    }
    chp_arena_deinit(&arena);
    return report;
}
