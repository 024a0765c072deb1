/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Scope-lang (design section 5): text -> tree -> text, and the sites that a tree means here.
 *
 * Pure: no I/O, no clock. Errors point at the character. chp_scope_print(chp_scope_parse(x)) is
 * stable: printing, parsing and printing again gives the same text.
 */
#ifndef CHP_SCOPE_SCOPE_H
#define CHP_SCOPE_SCOPE_H

#include "base/arena.h"
#include "base/limits.h"

enum chp_scope_kind {
    CHP_SCOPE_SITE,      /* name, weight */
    CHP_SCOPE_ALL_SITES, /* '*' */
    CHP_SCOPE_AND,       /* children joined by '&' */
    CHP_SCOPE_CROSS,     /* '%' */
    CHP_SCOPE_OR,        /* '||' */
    CHP_SCOPE_AROUND,    /* name, duration_ms */
    CHP_SCOPE_MAP,       /* '{...}': children are entries */
    CHP_SCOPE_ENTRY,     /* name is the service, one child */
    CHP_SCOPE_PRIME,     /* name is the site */
};

enum {
    CHP_SCOPE_WEIGHT_MAX = 1000000,
    CHP_SCOPE_AROUND_MAX_MS = 3600 * 1000, /* no round trip that anybody would wait for is longer */
};

struct chp_scope {
    enum chp_scope_kind kind;
    const char *name;     /* or NULL */
    uint32_t weight;      /* of a site in a cross, 1 when not given */
    uint64_t duration_ms; /* of around */
    size_t
        character; /* of the text, from 1, for messages: where it begins, or its first operator */
    struct chp_scope **children;
    size_t child_count;
};

/* At most CHP_SCOPE_MAX_BYTES (as given and as printed), CHP_SCOPE_DEPTH_MAX, CHP_SCOPE_NODES_MAX.
 * *error has the sentence, and the place as "at character N" (from 1, counted in characters). The
 * tree has no redundant levels: '&' in '&' and '||' in '||' are one node; '%' in '%' stays two,
 * since the inner one shares a share. */
int chp_scope_parse(const char *text, struct chp_arena *arena, struct chp_scope **scope,
                    struct chp_error *error) CHP_MUST_CHECK;
/* Canonical form: one space around operators, quotes only where needed, no redundant parentheses.
 */
char *chp_scope_print(const struct chp_scope *scope, struct chp_arena *arena);

/* What resolution may know. */
struct chp_scope_sites {
    const char *self;
    const char *const *known; /* self included */
    size_t known_count;
};

/* The sites that scope means for a local request: sorted, no duplicates. Today: single sites, '&',
 * '*', parentheses. Or, cross, around and service maps are refused by name (CHP_EREFUSED); unknown
 * sites with the nearest known name (CHP_EINVAL). */
int chp_scope_resolve(const struct chp_scope *scope, const struct chp_scope_sites *sites,
                      struct chp_arena *arena, const char ***members, size_t *member_count,
                      struct chp_error *error) CHP_MUST_CHECK;

/* One line for each choice that resolution made, for `cheops scope explain`; allocated in arena. */
int chp_scope_explain(const struct chp_scope *scope, const struct chp_scope_sites *sites,
                      struct chp_arena *arena, const char ***lines, size_t *line_count,
                      struct chp_error *error) CHP_MUST_CHECK;

#endif
