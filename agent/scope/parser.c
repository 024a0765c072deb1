/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Text -> tree, by recursive descent over the grammar of design section 5. The three operators
 * share one function, since they differ only in their mark and level. Every refusal says where,
 * what was found and what may stand there; what may stand there depends on what is open, which the
 * parser keeps for that purpose.
 *
 * Bounds: the text's length, parentheses (each costs four frames), nodes, and the length of the
 * canonical text, because that is what is stored, sent and parsed again.
 */
#include "scope/lexer.h"
#include "scope/scope.h"

#include <stdio.h>
#include <string.h>

enum { SHOWN_MAX_BYTES = 40 };

static const struct {
    enum scope__token_kind token;
    enum chp_scope_kind kind;
    bool flattens; /* (a op b) op c means a op b op c */
} levels[] = {
    {TOKEN_OR, CHP_SCOPE_OR, true},
    {TOKEN_CROSS, CHP_SCOPE_CROSS, false},
    {TOKEN_AND, CHP_SCOPE_AND, true},
};
enum { LEVEL_COUNT = sizeof levels / sizeof levels[0] };

struct parser {
    struct scope__lexer lexer;
    struct scope__token token; /* the current one */
    struct chp_arena *arena;
    struct chp_error *error;
    size_t node_count;
    unsigned depth; /* open parentheses */
    bool in_map;
};

static int parse_joined(struct parser *parser, size_t level, struct chp_scope **scope);

/* Every node is followed by a token, so this is also where their number is bounded. */
static int advance(struct parser *parser)
{
    if (parser->node_count > CHP_SCOPE_NODES_MAX) {
        return chp_error_set(parser->error, CHP_ETOOBIG,
                             "scope at character %zu: more than %d sites and operators",
                             parser->token.character, CHP_SCOPE_NODES_MAX);
    }
    return scope__lex(&parser->lexer, &parser->token, parser->error);
}

/* What stands behind the current token. What can't be read there is left for advance to refuse. */
static enum scope__token_kind peek(const struct parser *parser)
{
    struct scope__lexer ahead = parser->lexer;
    struct scope__token token;
    return scope__lex(&ahead, &token, NULL) == 0 ? token.kind : TOKEN_END;
}

static bool is_word(const struct scope__token *token, const char *word)
{
    return token->kind == TOKEN_NAME && token->len == strlen(word) &&
           memcmp(token->start, word, token->len) == 0;
}

static int unexpected(struct parser *parser, const char *allowed)
{
    const struct scope__token *token = &parser->token;
    size_t len = token->len;
    if (len > SHOWN_MAX_BYTES) {
        for (len = SHOWN_MAX_BYTES; ((unsigned char)token->start[len] & 0xc0) == 0x80; len--) {
        }
    }
    if (token->kind == TOKEN_END) {
        return chp_error_set(parser->error, CHP_EMALFORMED,
                             "scope at character %zu: found the end, allowed here: %s",
                             token->character, allowed);
    }
    return chp_error_set(
        parser->error, CHP_EMALFORMED, "scope at character %zu: found '%.*s%s', allowed here: %s",
        token->character, (int)len, token->start, len < token->len ? "..." : "", allowed);
}

/* After a whole operand: operators, and whatever closes what is open. */
static int unexpected_behind(struct parser *parser, bool weight)
{
    char allowed[80];
    const char *closing = parser->depth > 0 ? "')'" : parser->in_map ? "',', '}'" : "the end";
    (void)snprintf(allowed, sizeof allowed, "%s'&', '%%', '||', %s", weight ? "'*' weight, " : "",
                   closing);
    return unexpected(parser, allowed);
}

static int expect(struct parser *parser, enum scope__token_kind kind, const char *allowed)
{
    return parser->token.kind == kind ? advance(parser) : unexpected(parser, allowed);
}

static struct chp_scope *add_node(struct parser *parser, enum chp_scope_kind kind)
{
    struct chp_scope *scope = chp_arena_alloc(parser->arena, sizeof *scope);
    scope->kind = kind;
    scope->weight = 1;
    scope->character = parser->token.character;
    parser->node_count++;
    return scope;
}

/* Grows by doubling, at each power of two, so that no capacity needs to be kept. */
static void add_child(struct parser *parser, struct chp_scope *scope, struct chp_scope *child)
{
    size_t count = scope->child_count;
    if ((count & (count - 1)) == 0) {
        struct chp_scope **grown =
            chp_arena_calloc(parser->arena, count == 0 ? 1 : 2 * count, sizeof(struct chp_scope *));
        if (count > 0) {
            memcpy(grown, scope->children, count * sizeof(struct chp_scope *));
        }
        scope->children = grown;
    }
    scope->children[scope->child_count++] = child;
}

static int take_name(struct parser *parser, const char *what, size_t max_bytes, const char **name)
{
    if (parser->token.kind != TOKEN_NAME && parser->token.kind != TOKEN_QUOTED) {
        return unexpected(parser, what);
    }
    if (parser->token.len > max_bytes) {
        return chp_error_set(
            parser->error, CHP_ETOOBIG,
            "scope at character %zu: the name has %zu bytes, at most %zu are allowed",
            parser->token.character, parser->token.len, max_bytes);
    }
    *name = chp_arena_strndup(parser->arena, parser->token.start, parser->token.len);
    return advance(parser);
}

/* Leading digits of the current token; the rest of it is *unit. max + 1 stands for all that is
 * greater. */
static uint64_t take_digits(const struct parser *parser, uint64_t max, struct chp_bytes *unit)
{
    uint64_t value = 0;
    const struct scope__token *token = &parser->token;
    size_t i = 0;
    for (; i < token->len && token->start[i] >= '0' && token->start[i] <= '9'; i++) {
        value = value > max ? value : value * 10 + (uint64_t)(token->start[i] - '0');
    }
    *unit = chp_bytes(token->start + i, token->len - i);
    return value;
}

static int parse_weight(struct parser *parser, uint32_t *weight)
{
    const char *allowed = "a whole number from 1 to 1000000";
    static_assert(CHP_SCOPE_WEIGHT_MAX == 1000000, "the sentence above says so");
    struct chp_bytes unit;
    uint64_t value = take_digits(parser, CHP_SCOPE_WEIGHT_MAX, &unit);
    if (parser->token.kind != TOKEN_NAME || unit.len > 0 || value < 1 ||
        value > CHP_SCOPE_WEIGHT_MAX) {
        return unexpected(parser, allowed);
    }
    *weight = (uint32_t)value;
    return advance(parser);
}

static int parse_duration(struct parser *parser, uint64_t *duration_ms)
{
    const char *allowed = "a duration up to one hour, as 50ms or 2s";
    static_assert(CHP_SCOPE_AROUND_MAX_MS == 3600 * 1000, "the sentence above says so");
    struct chp_bytes unit;
    uint64_t value = take_digits(parser, CHP_SCOPE_AROUND_MAX_MS, &unit);
    bool digits = parser->token.kind == TOKEN_NAME && unit.len < parser->token.len;
    if (digits && chp_bytes_equal(unit, chp_bytes_of("s"))) {
        value *= 1000;
    } else if (!digits || !chp_bytes_equal(unit, chp_bytes_of("ms"))) {
        return unexpected(parser, allowed);
    }
    if (value > CHP_SCOPE_AROUND_MAX_MS) {
        return unexpected(parser, allowed);
    }
    *duration_ms = value;
    return advance(parser);
}

/* The current token is the word "around"; opening is '(' or ':', the two forms that design section
 * 5 has. */
static int parse_around(struct parser *parser, enum scope__token_kind opening,
                        struct chp_scope **scope)
{
    *scope = add_node(parser, CHP_SCOPE_AROUND);
    int code = advance(parser);
    if (code == 0) {
        code = expect(parser, opening, opening == TOKEN_OPEN ? "'('" : "':'");
    }
    if (code == 0) {
        code = take_name(parser, "a site", CHP_SITE_MAX_BYTES, &(*scope)->name);
    }
    if (code == 0) {
        code = expect(parser, TOKEN_COMMA, "',' and a duration");
    }
    if (code == 0) {
        code = parse_duration(parser, &(*scope)->duration_ms);
    }
    if (code == 0 && opening == TOKEN_OPEN) {
        code = expect(parser, TOKEN_CLOSE, "')'");
    }
    return code;
}

static int parse_site(struct parser *parser, struct chp_scope **scope)
{
    *scope = add_node(parser, CHP_SCOPE_SITE);
    int code = take_name(parser, "a site", CHP_SITE_MAX_BYTES, &(*scope)->name);
    if (code == 0 && parser->token.kind == TOKEN_STAR) {
        code = advance(parser);
        return code == 0 ? parse_weight(parser, &(*scope)->weight) : code;
    }
    if (code == 0 && (parser->token.kind == TOKEN_NAME || parser->token.kind == TOKEN_QUOTED)) {
        return unexpected_behind(parser, true);
    }
    return code;
}

static int parse_parentheses(struct parser *parser, struct chp_scope **scope)
{
    if (++parser->depth > CHP_SCOPE_DEPTH_MAX) {
        return chp_error_set(parser->error, CHP_ETOODEEP,
                             "scope at character %zu: more than %d open parentheses",
                             parser->token.character, CHP_SCOPE_DEPTH_MAX);
    }
    int code = advance(parser);
    if (code == 0) {
        code = parse_joined(parser, 0, scope);
    }
    if (code == 0 && parser->token.kind != TOKEN_CLOSE) {
        return unexpected_behind(parser, false);
    }
    parser->depth--;
    return code == 0 ? advance(parser) : code;
}

static int parse_primary(struct parser *parser, struct chp_scope **scope)
{
    if (is_word(&parser->token, "around") && peek(parser) == TOKEN_OPEN) {
        return parse_around(parser, TOKEN_OPEN, scope);
    }
    switch (parser->token.kind) {
    case TOKEN_NAME:
    case TOKEN_QUOTED:
        return parse_site(parser, scope);
    case TOKEN_STAR:
        *scope = add_node(parser, CHP_SCOPE_ALL_SITES);
        return advance(parser);
    case TOKEN_OPEN:
        return parse_parentheses(parser, scope);
    case TOKEN_AND:
    case TOKEN_CROSS:
    case TOKEN_OR:
    case TOKEN_COLON:
    case TOKEN_COMMA:
    case TOKEN_CLOSE:
    case TOKEN_BRACE_OPEN:
    case TOKEN_BRACE_CLOSE:
    case TOKEN_END:
        break;
    }
    return unexpected(parser, "a site, '*', '(', around(site, duration)");
}

static void add_operand(struct parser *parser, size_t level, struct chp_scope *scope,
                        struct chp_scope *operand)
{
    if (!levels[level].flattens || operand->kind != scope->kind) {
        add_child(parser, scope, operand);
        return;
    }
    for (size_t i = 0; i < operand->child_count; i++) {
        add_child(parser, scope, operand->children[i]);
    }
}

static int parse_joined(struct parser *parser, size_t level, struct chp_scope **scope)
{
    if (level == LEVEL_COUNT) {
        return parse_primary(parser, scope);
    }
    struct chp_scope *first;
    int code = parse_joined(parser, level + 1, &first);
    *scope = first;
    if (code != 0 || parser->token.kind != levels[level].token) {
        return code;
    }
    *scope = add_node(parser, levels[level].kind);
    add_operand(parser, level, *scope, first);
    while (code == 0 && parser->token.kind == levels[level].token) {
        struct chp_scope *next = NULL;
        code = advance(parser);
        if (code == 0) {
            code = parse_joined(parser, level + 1, &next);
        }
        if (code == 0) {
            add_operand(parser, level, *scope, next);
        }
    }
    return code;
}

static int parse_entry(struct parser *parser, struct chp_scope **scope)
{
    if (is_word(&parser->token, "around")) {
        return parse_around(parser, TOKEN_COLON, scope);
    }
    bool prime = is_word(&parser->token, "prime");
    *scope = add_node(parser, prime ? CHP_SCOPE_PRIME : CHP_SCOPE_ENTRY);
    int code = take_name(parser, prime ? "prime" : "a service, prime or around", CHP_ID_MAX_BYTES,
                         &(*scope)->name);
    if (code == 0) {
        code = expect(parser, TOKEN_COLON, "':'");
    }
    if (code != 0) {
        return code;
    }
    if (prime) {
        return take_name(parser, "a site", CHP_SITE_MAX_BYTES, &(*scope)->name);
    }
    struct chp_scope *locations = NULL;
    code = parse_joined(parser, 0, &locations);
    if (code == 0) {
        add_child(parser, *scope, locations);
    }
    return code;
}

/* A service, prime or around that an earlier entry has named already would leave it open which of
 * them counts. */
static int check_entry_new(struct parser *parser, const struct chp_scope *map,
                           const struct chp_scope *entry)
{
    for (size_t i = 0; i < map->child_count; i++) {
        const struct chp_scope *other = map->children[i];
        if (other->kind != entry->kind ||
            (entry->kind == CHP_SCOPE_ENTRY && strcmp(other->name, entry->name) != 0)) {
            continue;
        }
        const char *name = entry->kind == CHP_SCOPE_ENTRY   ? entry->name
                           : entry->kind == CHP_SCOPE_PRIME ? "prime"
                                                            : "around";
        return chp_error_set(parser->error, CHP_EMALFORMED,
                             "scope at character %zu: '%s' is there already, at character %zu; an "
                             "entry stands once",
                             entry->character, name, other->character);
    }
    return 0;
}

static int parse_map(struct parser *parser, struct chp_scope **scope)
{
    *scope = add_node(parser, CHP_SCOPE_MAP);
    parser->in_map = true;
    int code;
    do {
        struct chp_scope *entry = NULL;
        code = advance(parser);
        if (code == 0) {
            code = parse_entry(parser, &entry);
        }
        if (code == 0) {
            code = check_entry_new(parser, *scope, entry);
        }
        if (code == 0) {
            add_child(parser, *scope, entry);
        }
    } while (code == 0 && parser->token.kind == TOKEN_COMMA);
    if (code == 0 && parser->token.kind != TOKEN_BRACE_CLOSE) {
        return (*scope)->children[(*scope)->child_count - 1]->kind == CHP_SCOPE_ENTRY
                   ? unexpected_behind(parser, false)
                   : unexpected(parser, "',', '}'");
    }
    parser->in_map = false;
    return code == 0 ? advance(parser) : code;
}

static int parse_whole(struct parser *parser, struct chp_scope **scope)
{
    int code = advance(parser);
    if (code != 0) {
        return code;
    }
    bool near = is_word(&parser->token, "around") && peek(parser) == TOKEN_COLON;
    bool map = parser->token.kind == TOKEN_BRACE_OPEN;
    code = near  ? parse_around(parser, TOKEN_COLON, scope)
           : map ? parse_map(parser, scope)
                 : parse_joined(parser, 0, scope);
    if (code != 0 || parser->token.kind == TOKEN_END) {
        return code;
    }
    return near || map ? unexpected(parser, "the end") : unexpected_behind(parser, false);
}

int chp_scope_parse(const char *text, struct chp_arena *arena, struct chp_scope **scope,
                    struct chp_error *error)
{
    *scope = NULL;
    size_t text_bytes = strlen(text);
    if (text_bytes > CHP_SCOPE_MAX_BYTES) {
        return chp_error_set(error, CHP_ETOOBIG, "the scope has %zu bytes, at most %d are allowed",
                             text_bytes, CHP_SCOPE_MAX_BYTES);
    }
    struct parser parser = {.lexer = {.at = text, .character = 1}, .arena = arena, .error = error};
    int code = parse_whole(&parser, scope);
    if (code == 0 && strlen(chp_scope_print(*scope, arena)) > CHP_SCOPE_MAX_BYTES) {
        code = chp_error_set(error, CHP_ETOOBIG,
                             "the scope has more than %d bytes when written with spaces",
                             CHP_SCOPE_MAX_BYTES);
    }
    if (code != 0) {
        *scope = NULL;
    }
    return code;
}
