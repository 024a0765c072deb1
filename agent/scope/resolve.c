/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Tree -> the sites that it means here. Only what needs no measurement and no choice is resolved:
 * sites, '&', '*'. The rest is refused by its name rather than guessed, since the members of a
 * resource are fixed when it is created.
 */
#include "base/suggest.h"
#include "scope/scope.h"

#include <stdlib.h>
#include <string.h>

enum { KNOWN_SHOWN_MAX_BYTES = 160 };

struct resolution {
    const struct chp_scope_sites *sites;
    struct chp_arena *arena;
    struct chp_error *error;
    bool *chosen; /* by index into sites->known */
    const char **lines;
    size_t line_count;
};

static void add_line(struct resolution *resolution, const char *line)
{
    resolution->lines[resolution->line_count++] = line;
}

static int refuse(struct resolution *resolution, const struct chp_scope *scope, const char *what)
{
    return chp_error_set(resolution->error, CHP_EREFUSED,
                         "scope at character %zu: %s is not resolved yet: name the sites with &",
                         scope->character, what);
}

static int refuse_unknown(struct resolution *resolution, const struct chp_scope *scope)
{
    const struct chp_scope_sites *sites = resolution->sites;
    const char *nearest = chp_suggest(scope->name, sites->known, sites->known_count);
    struct chp_buf known = {0};
    chp_suggest_list(&known, sites->known, sites->known_count, KNOWN_SHOWN_MAX_BYTES);
    int code = chp_error_set(
        resolution->error, CHP_EINVAL,
        "scope at character %zu: unknown site \"%s\": %s%s%sknown sites are %s", scope->character,
        scope->name, nearest == NULL ? "" : "did you mean \"", nearest == NULL ? "" : nearest,
        nearest == NULL ? "" : "\"? ", chp_buf_text(&known));
    chp_buf_deinit(&known);
    return code;
}

static int resolve_site(struct resolution *resolution, const struct chp_scope *scope)
{
    const struct chp_scope_sites *sites = resolution->sites;
    if (scope->weight != 1) {
        return chp_error_set(resolution->error, CHP_EREFUSED,
                             "scope at character %zu: the weight of \"%s\" says nothing here: a "
                             "weight belongs to a site of a cross (%%)",
                             scope->character, scope->name);
    }
    for (size_t i = 0; i < sites->known_count; i++) {
        if (strcmp(sites->known[i], scope->name) != 0) {
            continue;
        }
        bool again = resolution->chosen[i];
        bool self = strcmp(sites->self, scope->name) == 0;
        add_line(resolution,
                 chp_arena_printf(resolution->arena, "%s is named at character %zu%s%s",
                                  scope->name, scope->character, self ? ", it is this site" : "",
                                  again ? "; it is chosen already and counts once" : ""));
        resolution->chosen[i] = true;
        return 0;
    }
    return refuse_unknown(resolution, scope);
}

static void resolve_all_sites(struct resolution *resolution, const struct chp_scope *scope)
{
    const struct chp_scope_sites *sites = resolution->sites;
    struct chp_buf known = {0};
    chp_suggest_list(&known, sites->known, sites->known_count, SIZE_MAX);
    add_line(resolution,
             chp_arena_printf(resolution->arena, "* at character %zu is every site known here: %s",
                              scope->character, chp_buf_text(&known)));
    chp_buf_deinit(&known);
    for (size_t i = 0; i < sites->known_count; i++) {
        resolution->chosen[i] = true;
    }
}

static int resolve(struct resolution *resolution, const struct chp_scope *scope)
{
    switch (scope->kind) {
    case CHP_SCOPE_SITE:
        return resolve_site(resolution, scope);
    case CHP_SCOPE_ALL_SITES:
        resolve_all_sites(resolution, scope);
        return 0;
    case CHP_SCOPE_AND:
        for (size_t i = 0; i < scope->child_count; i++) {
            int code = resolve(resolution, scope->children[i]);
            if (code != 0) {
                return code;
            }
        }
        return 0;
    case CHP_SCOPE_CROSS:
        return refuse(resolution, scope, "cross (%)");
    case CHP_SCOPE_OR:
        return refuse(resolution, scope, "or (||)");
    case CHP_SCOPE_AROUND:
        return refuse(resolution, scope, "around");
    case CHP_SCOPE_MAP:
    case CHP_SCOPE_ENTRY:
    case CHP_SCOPE_PRIME:
        return refuse(resolution, scope, "sharing ({service: sites})");
    }
    CHP_ASSERT(!"a kind of scope");
    return CHP_EINTERNAL;
}

static size_t count_leaves(const struct chp_scope *scope)
{
    size_t count = scope->child_count == 0 ? 1 : 0;
    for (size_t i = 0; i < scope->child_count; i++) {
        count += count_leaves(scope->children[i]);
    }
    return count;
}

static int resolve_whole(struct resolution *resolution, const struct chp_scope *scope,
                         const struct chp_scope_sites *sites, struct chp_arena *arena,
                         struct chp_error *error)
{
    *resolution = (struct resolution){
        .sites = sites,
        .arena = arena,
        .error = error,
        .chosen = chp_arena_calloc(arena, sites->known_count, sizeof(bool)),
        .lines = chp_arena_calloc(arena, count_leaves(scope), sizeof(char *)),
    };
    return resolve(resolution, scope);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

int chp_scope_resolve(const struct chp_scope *scope, const struct chp_scope_sites *sites,
                      struct chp_arena *arena, const char ***members, size_t *member_count,
                      struct chp_error *error)
{
    struct resolution resolution;
    int code = resolve_whole(&resolution, scope, sites, arena, error);
    *members = NULL;
    *member_count = 0;
    if (code != 0) {
        return code;
    }
    *members = chp_arena_calloc(arena, sites->known_count, sizeof(char *));
    for (size_t i = 0; i < sites->known_count; i++) {
        if (resolution.chosen[i]) {
            (*members)[(*member_count)++] = chp_arena_strdup(arena, sites->known[i]);
        }
    }
    qsort((void *)*members, *member_count, sizeof(char *), compare_names);
    return 0;
}

int chp_scope_explain(const struct chp_scope *scope, const struct chp_scope_sites *sites,
                      struct chp_arena *arena, const char ***lines, size_t *line_count,
                      struct chp_error *error)
{
    struct resolution resolution;
    int code = resolve_whole(&resolution, scope, sites, arena, error);
    *lines = code == 0 ? resolution.lines : NULL;
    *line_count = code == 0 ? resolution.line_count : 0;
    return code;
}
