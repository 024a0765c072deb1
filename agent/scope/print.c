/* SPDX-License-Identifier: AGPL-3.0-only */
/* Tree -> canonical text. An around is one node in both of its forms: it is printed as "around: A,
 * 50ms" where it is the whole scope or an entry, and as "around(A, 50ms)" inside locations. */
#include "scope/lexer.h"
#include "scope/scope.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum binding { BINDS_OR, BINDS_CROSS, BINDS_AND, BINDS_ALL };

static enum binding binding_of(const struct chp_scope *scope)
{
    switch (scope->kind) {
    case CHP_SCOPE_OR:
        return BINDS_OR;
    case CHP_SCOPE_CROSS:
        return BINDS_CROSS;
    case CHP_SCOPE_AND:
        return BINDS_AND;
    case CHP_SCOPE_SITE:
    case CHP_SCOPE_ALL_SITES:
    case CHP_SCOPE_AROUND:
    case CHP_SCOPE_MAP:
    case CHP_SCOPE_ENTRY:
    case CHP_SCOPE_PRIME:
        break;
    }
    return BINDS_ALL;
}

static void print_name(const char *name, bool keyword, struct chp_buf *out)
{
    bool bare = !keyword;
    for (const char *at = name; *at != '\0' && bare; at++) {
        bare = scope__name_char(*at);
    }
    chp_buf_printf(out, bare ? "%s" : "\"%s\"", name);
}

static void print_around(const struct chp_scope *scope, bool whole, struct chp_buf *out)
{
    bool seconds = scope->duration_ms > 0 && scope->duration_ms % 1000 == 0;
    chp_buf_add_text(out, whole ? "around: " : "around(");
    print_name(scope->name, false, out);
    chp_buf_printf(out, ", %" PRIu64 "%s%s", scope->duration_ms / (seconds ? 1000 : 1),
                   seconds ? "s" : "ms", whole ? "" : ")");
}

static void print_locations(const struct chp_scope *scope, struct chp_buf *out)
{
    static const char *const marks[] = {
        [BINDS_OR] = " || ", [BINDS_CROSS] = " % ", [BINDS_AND] = " & "};
    if (scope->kind == CHP_SCOPE_SITE) {
        print_name(scope->name, false, out);
        if (scope->weight != 1) {
            chp_buf_printf(out, "*%" PRIu32, scope->weight);
        }
        return;
    }
    if (scope->kind == CHP_SCOPE_AROUND) {
        print_around(scope, false, out);
        return;
    }
    if (scope->kind == CHP_SCOPE_ALL_SITES) {
        chp_buf_add_byte(out, '*');
        return;
    }
    enum binding binding = binding_of(scope);
    CHP_ASSERT(binding != BINDS_ALL);
    for (size_t i = 0; i < scope->child_count; i++) {
        bool parentheses = binding_of(scope->children[i]) <= binding;
        chp_buf_add_text(out, i == 0 ? "" : marks[binding]);
        chp_buf_add_text(out, parentheses ? "(" : "");
        print_locations(scope->children[i], out);
        chp_buf_add_text(out, parentheses ? ")" : "");
    }
}

static void print_entry(const struct chp_scope *entry, struct chp_buf *out)
{
    if (entry->kind == CHP_SCOPE_AROUND) {
        print_around(entry, true, out);
        return;
    }
    if (entry->kind == CHP_SCOPE_PRIME) {
        chp_buf_add_text(out, "prime: ");
        print_name(entry->name, false, out);
        return;
    }
    CHP_ASSERT(entry->kind == CHP_SCOPE_ENTRY);
    bool keyword = strcmp(entry->name, "prime") == 0 || strcmp(entry->name, "around") == 0;
    print_name(entry->name, keyword, out);
    chp_buf_add_text(out, ": ");
    print_locations(entry->children[0], out);
}

char *chp_scope_print(const struct chp_scope *scope, struct chp_arena *arena)
{
    struct chp_buf out = {0};
    if (scope->kind == CHP_SCOPE_MAP) {
        for (size_t i = 0; i < scope->child_count; i++) {
            chp_buf_add_text(&out, i == 0 ? "{" : ", ");
            print_entry(scope->children[i], &out);
        }
        chp_buf_add_byte(&out, '}');
    } else if (scope->kind == CHP_SCOPE_AROUND) {
        print_around(scope, true, &out);
    } else {
        print_locations(scope, &out);
    }
    char *text = chp_arena_strndup(arena, chp_buf_text(&out), out.len);
    chp_buf_deinit(&out);
    return text;
}
